from pathlib import Path

import pytest

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.digest import Digest
from tocsin.model.reference import (
    ContainerdReference,
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    RegistryReference,
    check_ref_name,
    parse_reference,
    split_path,
)

DIGEST = Digest("a" * 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ubuntu", RegistryReference("docker.io", "library/ubuntu")),
        ("ubuntu:22.04", RegistryReference("docker.io", "library/ubuntu", "22.04")),
        ("docker://ubuntu", RegistryReference("docker.io", "library/ubuntu")),
        ("foo/bar:1", RegistryReference("docker.io", "foo/bar", "1")),
        ("docker.io/ubuntu", RegistryReference("docker.io", "library/ubuntu")),
        ("index.docker.io/ubuntu", RegistryReference("docker.io", "library/ubuntu")),
        ("localhost/x", RegistryReference("localhost", "x")),
        ("localhost:5000/a/b:1", RegistryReference("localhost:5000", "a/b", "1")),
        ("[::1]:5000/a", RegistryReference("[::1]:5000", "a")),
        ("Host/a", RegistryReference("Host", "a")),
        ("ghcr.io/a/b__c-d.e:v1_2", RegistryReference("ghcr.io", "a/b__c-d.e", "v1_2")),
        (f"r.io/a@{DIGEST}", RegistryReference("r.io", "a", None, DIGEST)),
        (f"r.io/a:t@{DIGEST}", RegistryReference("r.io", "a", "t", DIGEST)),
        ("oci:some/dir", LayoutReference(Path("some/dir"))),
        ("oci:/d:latest", LayoutReference(Path("/d"), "latest")),
        ("oci:/d:docker.io/x:1", LayoutReference(Path("/d"), "docker.io/x:1")),
        (f"oci:/d@{DIGEST}", LayoutReference(Path("/d"), None, DIGEST)),
        ("oci:/d@x:t", LayoutReference(Path("/d@x"), "t")),
        ("oci-archive:f.tar", OciArchiveReference(Path("f.tar"))),
        ("oci-archive:f.tar:t", OciArchiveReference(Path("f.tar"), "t")),
        ("docker-archive:f.tar", DockerArchiveReference(Path("f.tar"))),
        ("docker-archive:f:x", DockerArchiveReference(Path("f"), "docker.io/library/x:latest")),
        ("docker-archive:f:r.io/x:1", DockerArchiveReference(Path("f"), "r.io/x:1")),
        ("docker-archive:f:@2", DockerArchiveReference(Path("f"), position=2)),
        ("containerd:ubuntu", ContainerdReference("docker.io/library/ubuntu:latest")),
        ("containerd:r.io/team/app:1", ContainerdReference("r.io/team/app:1")),
        ("containerd:localhost/x:1", ContainerdReference("localhost/x:1")),
        ("containerd:localhost:5000/x:1", ContainerdReference("localhost:5000/x:1")),
        ("containerd:ns/r.io/x:1", ContainerdReference("r.io/x:1", "ns")),
        ("containerd:moby/x", ContainerdReference("docker.io/library/x:latest", "moby")),
        ("containerd:k8s.io/r.io/x:1", ContainerdReference("r.io/x:1", "k8s.io")),
        ("containerd:k8s.io/localhost:1/x", ContainerdReference("localhost:1/x:latest", "k8s.io")),
        (f"containerd:r.io/x@{DIGEST}", ContainerdReference("r.io/x", None, DIGEST)),
        (f"containerd:ns/r.io/x:1@{DIGEST}", ContainerdReference("r.io/x:1", "ns", DIGEST)),
    ],
)
def test_parse_reference_when_in_skopeo_syntax_then_round_trips(text, expected):
    assert parse_reference(text) == expected
    assert parse_reference(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "docker:x",
        "docker://",
        "docker://UPPER:tag",
        "r.io/Upper",
        "r.io/a//b",
        "r.io/../b",
        "r.io/a:",
        "r.io/a:-x",
        "r.io/a:" + "x" * 129,
        "r.io/" + "x" * 256,
        "a" * 64,
        "r.io/a@sha256:../../x",
        "r.io/a@",
        "-r.io/a",
        "containerd:",
        "containerd:r.io/Upper",
        "containerd:ns/",
        "containerd:-ns/r.io/x",
        "containerd:n%s/r.io/x",
        "containerd:" + "n" * 77 + "/r.io/x",
        "containerd://r.io/x",
        "containerd:r.io/x@sha256:../../x",
        "oci:",
        "oci::tag",
        "oci:/d:bad tag",
        "oci:/d:@1",
        "oci:/d:a..b",
        "oci:/d\0x",
        "oci-archive:",
        "docker-archive:f:@x",
        "docker-archive:f:@-1",
        f"docker-archive:f:x@{DIGEST}",
        "./dir",
        "/abs/dir:tag",
        "x\n",
    ],
)
def test_parse_reference_when_text_is_invalid_then_format_error(text):
    with pytest.raises(FormatError) as refusal:
        parse_reference(text)
    assert refusal.value.what == "reference"


@pytest.mark.parametrize("text", ["dir:/x", "containers-storage:x", "https://r.io/x", "sif:x"])
def test_parse_reference_when_transport_is_unknown_then_unsupported_error(text):
    with pytest.raises(UnsupportedError, match="transport"):
        parse_reference(text)


def test_parse_reference_when_digest_is_sha512_then_unsupported_error():
    with pytest.raises(UnsupportedError, match="sha512"):
        parse_reference("r.io/a@sha512:" + "a" * 128)


def test_selector_when_tag_and_digest_are_given_then_digest():
    assert parse_reference(f"r.io/a:t@{DIGEST}").selector == DIGEST
    assert parse_reference("r.io/a:t").selector == "t"
    assert parse_reference("oci:d").selector is None
    assert parse_reference("docker-archive:f:@3").selector == "@3"


def test_check_ref_name_when_name_is_too_long_then_format_error():
    with pytest.raises(FormatError):
        check_ref_name("x" * 2000)


@pytest.mark.parametrize(
    ("text", "image", "path"),
    [
        ("r.io/a:1:/etc/x", "r.io/a:1", "/etc/x"),
        ("r.io:5000/a:/etc/x", "r.io:5000/a", "/etc/x"),
        (f"docker://r.io/a@{DIGEST}:/", f"docker://r.io/a@{DIGEST}", "/"),
        ("oci:/abs/dir:t:/p", "oci:/abs/dir:t", "/p"),
        ("oci:/abs/dir:/p", "oci:/abs/dir", "/p"),
        ("oci-archive:f.tar:a/b:1:/p:/q", "oci-archive:f.tar:a/b:1", "/p:/q"),
        ("containerd:ns/r.io:1/x:1:/p", "containerd:ns/r.io:1/x:1", "/p"),
        ("docker-archive:/f:@3:/p", "docker-archive:/f:@3", "/p"),
        ("r.io/a:1", "r.io/a:1", None),
        ("oci:/abs/dir:t", "oci:/abs/dir:t", None),
        ("docker://r.io/a", "docker://r.io/a", None),
    ],
)
def test_split_path_when_path_follows_then_split_at_first_colon_slash(text, image, path):
    assert split_path(text) == (image, path)


def test_reference_when_fields_are_given_as_text_then_parsed():
    assert LayoutReference("d", "t") == LayoutReference(Path("d"), "t")
    assert LayoutReference("d", digest=str(DIGEST)) == LayoutReference(Path("d"), digest=DIGEST)
    assert OciArchiveReference("f", None, str(DIGEST)).digest is not None
    assert DockerArchiveReference("f").path == Path("f")
    assert RegistryReference("h.io", "r", None, str(DIGEST)).digest == DIGEST
    with pytest.raises(FormatError):
        LayoutReference("d", digest="sha256:no")


def test_containerd_tag_when_read_then_it_follows_the_last_slash():
    assert parse_reference("containerd:localhost:5000/x:1").tag == "1"
    assert parse_reference(f"containerd:localhost:5000/x@{DIGEST}").tag is None
    assert parse_reference("containerd:r.io/x:1").selector == "r.io/x:1"
    assert parse_reference(f"containerd:r.io/x:1@{DIGEST}").selector == DIGEST
