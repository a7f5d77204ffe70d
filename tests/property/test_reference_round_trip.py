from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.digest import Digest
from tocsin.model.platform import Platform
from tocsin.model.reference import (
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    RegistryReference,
    parse_reference,
)

digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(Digest)
hosts = st.from_regex(r"[a-z][a-z0-9]{0,5}(\.[a-z0-9]{1,5}){1,2}(:[0-9]{1,5})?", fullmatch=True)
repositories = st.from_regex(
    r"[a-z0-9]{1,5}([._-][a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,5}){0,2}", fullmatch=True
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
ref_names = st.from_regex(r"[A-Za-z0-9]{1,5}([._:/-][A-Za-z0-9]{1,5}){0,4}", fullmatch=True)
paths = (
    st.text(st.characters(blacklist_characters=":\0", blacklist_categories=("Cs",)), min_size=1)
    .map(Path)
    .filter(lambda p: str(p) != ".")
)
positions = st.integers(0, 999_999)
registries = st.builds(
    lambda host, repository, tag, digest: RegistryReference(
        host, repository, tag if tag or digest else "latest", digest
    ),
    hosts,
    repositories.filter(lambda r: len(r) != 64),
    st.none() | tags,
    st.none() | digests,
)


@given(
    registries
    | st.builds(LayoutReference, paths, st.none() | ref_names)
    | st.builds(lambda p, d: LayoutReference(p, None, d), paths, digests)
    | st.builds(OciArchiveReference, paths, st.none() | ref_names)
    | st.builds(lambda p, n: DockerArchiveReference(p, position=n), paths, positions)
    | st.builds(lambda p, r: DockerArchiveReference(p, r.name),
        paths, registries.filter(lambda r: r.digest is None and r.tag))
)  # fmt: skip
def test_reference_when_printed_then_parses_to_itself(reference):
    assert parse_reference(str(reference)) == reference


@given(st.text(max_size=80))
def test_parse_reference_when_text_is_arbitrary_then_parsed_or_rejected(text):
    try:
        reference = parse_reference(text)
    except (FormatError, UnsupportedError):
        return
    assert parse_reference(str(reference)) == reference


@given(st.text(max_size=40))
def test_parse_platform_when_text_is_arbitrary_then_parsed_or_rejected(text):
    try:
        platform = Platform.parse(text)
    except FormatError:
        return
    assert Platform.parse(str(platform)) == platform
    assert platform.matches(platform)
    assert platform.normalized() == platform.normalized().normalized()
