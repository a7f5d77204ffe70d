import pytest

from tocsin.model.media_types import (
    Compression,
    LayerType,
    is_index,
    is_layer,
    is_manifest,
    layer_type,
)

OCI = "application/vnd.oci.image.layer."
DOCKER = "application/vnd.docker.image.rootfs."


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        (OCI + "v1.tar+gzip", LayerType(Compression.GZIP)),
        (OCI + "v1.tar", LayerType(Compression.NONE)),
        (OCI + "v1.tar+zstd", LayerType(Compression.ZSTD)),
        (OCI + "v1.tar+encrypted", LayerType(Compression.OTHER, encrypted=True)),
        (OCI + "v1.tar+gzip+encrypted", LayerType(Compression.GZIP, encrypted=True)),
        (OCI + "v1.tar+zstd+encrypted", LayerType(Compression.ZSTD, encrypted=True)),
        (OCI + "nondistributable.v1.tar", LayerType(Compression.OTHER, foreign=True)),
        (OCI + "nondistributable.v1.tar+gzip", LayerType(Compression.GZIP, foreign=True)),
        (OCI + "v2.odd", LayerType(Compression.OTHER)),
        (DOCKER + "diff.tar", LayerType(Compression.UNKNOWN)),
        (DOCKER + "diff.tar.gzip", LayerType(Compression.GZIP)),
        (DOCKER + "diff.tar.gzip+encrypted", LayerType(Compression.OTHER, encrypted=True)),
        (DOCKER + "diff.tar.zstd", LayerType(Compression.ZSTD)),
        (DOCKER + "foreign.diff.tar", LayerType(Compression.UNKNOWN, foreign=True)),
        (DOCKER + "foreign.diff.tar.gzip", LayerType(Compression.GZIP, foreign=True)),
        ("application/vnd.erofs.layer.v1", LayerType(Compression.OTHER)),
        ("application/vnd.in-toto+json", None),
        ("", None),
    ],
)
def test_layer_type_when_parsed_then_as_in_containerd(media_type, expected):
    assert layer_type(media_type) == expected
    assert is_layer(media_type) is (expected is not None)


def test_indexable_when_layer_is_encrypted_or_zstd_then_false():
    assert layer_type(OCI + "v1.tar+gzip").indexable
    assert layer_type(DOCKER + "diff.tar").indexable
    assert not layer_type(OCI + "v1.tar+gzip+encrypted").indexable
    assert not layer_type(OCI + "v1.tar+zstd").indexable


def test_media_types_when_docker_or_oci_then_recognized():
    assert is_manifest("application/vnd.docker.distribution.manifest.v2+json")
    assert is_index("application/vnd.docker.distribution.manifest.list.v2+json")
    assert not is_manifest("application/vnd.oci.image.index.v1+json")
