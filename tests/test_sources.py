"""``Source:`` lines name a section of a public document or of a page of docs/."""

import re
from pathlib import Path

import pytest

import cli_reference

ROOT = Path(__file__).parents[1]
CODE = sorted([*(ROOT / "python").rglob("*.py"), *(ROOT / "rust").rglob("*.rs")])
SECTIONS = r'(?:, "[^"]+")+'
PUBLIC = [
    r"RFC [0-9]{4}, [0-9]+(?:\.[0-9]+)*",
    rf"OCI image-spec 1\.1\.1, [a-z-]+\.md(?:{SECTIONS})?",
    rf"OCI distribution-spec 1\.1{SECTIONS}",
    rf"POSIX\.1-2017, pax{SECTIONS}",
    rf"GNU tar manual{SECTIONS}",
    rf"Go archive/tar, [a-z]+\.go(?:{SECTIONS})?",
    rf"FlatBuffers{SECTIONS}",
    r"PKWARE APPNOTE, [0-9.]+",
    r"Linux man-pages, [a-z_0-9]+\([0-9]\)",
    r"systemd, [a-z_.]+\([0-9]\)",
    rf"XDG Base Directory Specification 0\.8{SECTIONS}",
]
"""Public documents, each with a section."""
REPOSITORIES = {
    "awslabs/soci-snapshotter",
    "containerd/containerd",
    "containerd/errdefs",
    "containerd/nerdctl",
    "containerd/platforms",
    "containerd/stargz-snapshotter",
    "containers/image",
    "distribution/distribution",
    "distribution/reference",
    "docker/docker-credential-helpers",
    "golang/net",
    "kubernetes/cri-api",
    "moby/moby",
    "torvalds/linux",
}
"""Public repositories on GitHub; a source names a file in them."""
PAGE = r"docs/([a-z-]+)\.md#([a-z0-9-]+)"


def sources(path):
    """Yield each source of the ``Source:`` sentences in a file."""
    text = re.sub(r"^[ \t]*//[/!]? ?", "", path.read_text(), flags=re.M)
    for found in re.finditer(r"\bSource: (.*?)\.(?=\s|\"\"\"|\Z)", text, re.S):
        yield from " ".join(found[1].split()).split("; ")


def anchors(page):
    """Return the anchors that GitHub generates for the headings of a page."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    if page == "cli":
        text += "\n".join(cli_reference.reference())
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", each.lower()).strip().replace(" ", "-") for each in headings}


def leads_somewhere(source):
    if page := re.fullmatch(PAGE, source):
        return (ROOT / "docs" / f"{page[1]}.md").is_file() and page[2] in anchors(page[1])
    repository, _, file = source.partition(", ")
    if repository in REPOSITORIES:
        return re.fullmatch(r"(?:[\w.-]+/)*[\w.-]+\.(?:go|md|fbs|c|h)", file) is not None
    return any(re.fullmatch(pattern, source) for pattern in PUBLIC)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_when_named_then_it_exists(path):
    named = list(sources(path))
    assert [source for source in named if not leads_somewhere(source)] == []
    assert len(re.findall(r"\bSource: ", path.read_text())) <= len(named)


def test_sources_when_counted_then_every_kind_is_used():
    named = {source for path in CODE for source in sources(path)}
    assert len([source for source in named if source.startswith("docs/")]) > 9
    for pattern in (r"RFC", r"OCI image-spec", r"OCI distribution-spec"):
        assert any(source.startswith(pattern) for source in named)
    assert {source.partition(",")[0] for source in named} >= REPOSITORIES


@pytest.mark.parametrize(
    "source",
    [
        "docs/format.md#nowhere",
        "docs/nowhere.md#the-ztoc-blob",
        "RFC 9110",
        "OCI distribution-spec 1.1",
        "somebody/something, README.md",
        "awslabs/soci-snapshotter",
        "the manual",
    ],
)
def test_source_when_it_does_not_exist_then_detected(source):
    assert not leads_somewhere(source)


def test_links_when_within_docs_then_their_anchors_exist():
    for page in (ROOT / "docs").glob("*.md"):
        for file, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", page.read_text()):
            target = file.removesuffix(".md") or page.stem
            assert anchor in anchors(target), f"{page.name}: {file}#{anchor}"


def test_documents_when_private_then_no_file_names_them():
    private = "soci" + "-format"
    for folder in ("python", "rust", "tests", "benches", "docs", "demo"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".rs", ".md", ".pyi", ".sh", ".go", ".toml"}:
                assert private not in path.read_text(errors="replace"), path
