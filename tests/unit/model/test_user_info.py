"""Passwords in references and URLs are never shown."""

import pytest

import tocsin
from tocsin.model.reference import parse_reference
from tocsin.model.user_info import without_user_info
from tocsin.stores.http.redaction import redact_url

D = "sha256:" + "a" * 64

HIDDEN = [
    ("user:secret@host/repo", "***@host/repo"),
    ("user:secret@host.example:5000/a/b:1", "***@host.example:5000/a/b:1"),
    ("docker://user:secret@host/repo", "docker://***@host/repo"),
    ("docker:user:secret@host/repo", "docker:***@host/repo"),
    (f"docker://user:secret@host/repo@{D}", f"docker://***@host/repo@{D}"),
    ("user:se@cret@host/repo", "***@host/repo"),
    ("user:se/cret@host/repo", "***@host/repo"),
    ("user:se:cret@host", "***@host"),
    ("user:secret@alpine", "***@alpine"),
    ("secret@host/repo", "***@host/repo"),
    ("secret@host.example", "***@host.example"),
    (":secret@host/repo", "***@host/repo"),
    ("oci://user:secret@host/repo:1", "oci://***@host/repo:1"),
    ("oci:https://user:secret@host/repo", "oci:https://***@host/repo"),
    ("https://user:secret@host/repo", "https://***@host/repo"),
    ("HTTPS://user:secret@host/repo", "HTTPS://***@host/repo"),
    ("https://user:s/ecret@host/repo", "https://***@host/repo"),
    ("https://user:s?ecret@host/repo", "https://***@host/repo"),
    ("https://user:s#ecret@host/repo", "https://***@host/repo"),
    ("https://secret@host/repo", "https://***@host/repo"),
    ("ftp://user:secret@host/repo", "ftp://***@host/repo"),
    ("user:" + "secret" * 500 + "@host/repo", "***@host/repo"),
]


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_text_when_it_may_contain_a_password_then_hidden(text, shown):
    assert without_user_info(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "ubuntu",
        "ghcr.io/team/app:1",
        f"ghcr.io/team/app@{D}",
        f"ghcr.io/team/app:1@{D}",
        f"host:5000/app:1@{D}",
        f"docker://host:5000/app@{D}",
        "ghcr.io/team/app@sha256:short",
        "ghcr.io/team/app@sha512:abc",
        "ghcr.io/team/app@latest",
        "app@latest",
        f"oci:some@dir:1/x@{D}",
        "oci:/a@b/c:t",
        "oci-archive:/a//b:c@d.tar:t",
        "docker-archive:x@y:z",
        "https://host/layer@v1.tar.gz",
        "https://host:5000/layer@v1.tar.gz",
        "https://[::1]:5000/layer@v1.tar.gz",
    ],
)
def test_text_when_it_contains_no_password_then_unchanged(text):
    assert without_user_info(text) == text


@pytest.mark.parametrize("text", [text for text, _ in HIDDEN])
def test_reference_when_it_contains_a_password_then_error_hides_it(text):
    with pytest.raises(tocsin.TocsinError) as caught:
        parse_reference(text)
    said = f"{caught.value!r} {caught.value.hint} {caught.value.details}"
    assert "secret" not in said
    assert "ecret" not in said
    assert "cret@" not in said


@pytest.mark.parametrize("text", ["user:secret@host/repo", "docker://user:secret@host/repo"])
def test_reference_when_it_contains_a_password_then_hint_to_log_in(text):
    with pytest.raises(tocsin.FormatError, match="cannot contain a password") as caught:
        parse_reference(text)
    assert "docker login" in caught.value.hint
    assert "--password-stdin" in caught.value.hint


@pytest.mark.parametrize("name", ["x.tar:user:secret@host/x", "x.tar:@user:secret@host/x"])
def test_docker_archive_when_name_contains_a_password_then_hidden(name):
    with pytest.raises(tocsin.FormatError) as caught:
        parse_reference(f"docker-archive:{name}")
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize(
    "text", [text for text, _ in HIDDEN if text.lower().startswith(("http", "ftp"))]
)
def test_url_when_it_contains_a_password_then_redacted(text):
    assert "ecret" not in redact_url(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@localhost:1/layer",
        "https://user:se/cret@localhost:1/layer",
        "HTTP://secret@localhost:1/layer",
        "ftp://user:secret@host/layer",
        "docker://user:secret@host/layer",
    ],
)
def test_open_layer_when_url_contains_a_password_then_error_hides_it(url, tmp_path):
    ztoc = tmp_path / "ztoc"
    ztoc.write_bytes(b"")
    with pytest.raises((tocsin.TocsinError, OSError)) as caught:
        tocsin.open_layer(url, ztoc)
    assert "cret" not in f"{caught.value!r} {vars(caught.value)}"


def test_filesystem_when_image_contains_a_password_then_hidden():
    fsspec = pytest.importorskip("fsspec")
    for url in ("tocsin://user:secret@host/x:/a", "tocsin://docker://user:secret@host/x:/a"):
        with pytest.raises(tocsin.FormatError) as caught:
            fsspec.open(url).open()
        assert "secret" not in repr(caught.value)
    with pytest.raises(tocsin.FormatError) as caught:
        fsspec.filesystem("tocsin", image="user:secret@host/x")
    assert "secret" not in repr(caught.value)
