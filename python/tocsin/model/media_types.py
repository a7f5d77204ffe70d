"""Media types of manifests, configs and layers, and the compression that a layer's type implies.

Layer types are interpreted as in containerd: the suffixes after ``+`` are sorted, and the last one
is the compression.

Source: OCI image-spec 1.1.1, media-types.md; distribution/distribution,
docs/content/spec/manifest-v2-2.md; containerd/containerd, core/images/mediatypes.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_LAYER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
OCTET_STREAM = "application/octet-stream"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
SCHEMA1_MANIFESTS = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

_OCI_LAYER_PREFIX = "application/vnd.oci.image.layer."
_EROFS_PREFIX = "application/vnd.erofs."


class Compression(StrEnum):
    """The compression of a layer according to its media type."""

    GZIP = "gzip"
    NONE = "uncompressed"
    UNKNOWN = "unknown"
    """Docker's plain tar type: usually a plain tar, sometimes mislabeled gzip."""
    ZSTD = "zstd"
    OTHER = "other"
    """A layer that cannot be indexed, or a type with an unknown compression."""


_DOCKER_LAYERS = {
    DOCKER_LAYER: (Compression.UNKNOWN, False),
    DOCKER_LAYER_FOREIGN: (Compression.UNKNOWN, True),
    DOCKER_LAYER_GZIP: (Compression.GZIP, False),
    DOCKER_LAYER_FOREIGN_GZIP: (Compression.GZIP, True),
    DOCKER_LAYER_ZSTD: (Compression.ZSTD, False),
}


@dataclass(frozen=True, slots=True)
class LayerType:
    """A parsed media type of a layer.

    Attributes:
        compression: compression inside the encryption, if any.
        foreign: whether the layer is not distributed by registries and may be missing.
        encrypted: whether the blob is encrypted.
    """

    compression: Compression
    foreign: bool = False
    encrypted: bool = False

    @property
    def indexable(self) -> bool:
        """Whether the layer may get a zTOC: a plain or gzip tar that is not encrypted.

        False for OCI's plain non-distributable type, which the reference skips.
        """
        return not self.encrypted and self.compression in (
            Compression.GZIP,
            Compression.NONE,
            Compression.UNKNOWN,
        )


def layer_type(media_type: str) -> LayerType | None:
    """Parse the media type of a layer; return ``None`` if it is not a layer type.

    Source: docs/format.md#which-layers-get-a-ztoc; containerd/containerd,
    core/images/mediatypes.go.
    """
    base, *suffixes = media_type.split("+")
    encrypted = "encrypted" in suffixes
    if base in _DOCKER_LAYERS:
        compression, foreign = _DOCKER_LAYERS[base]
        return LayerType(Compression.OTHER if suffixes else compression, foreign, encrypted)
    if media_type.startswith(_OCI_LAYER_PREFIX):
        foreign = ".nondistributable." in base
        return LayerType(_oci_compression(base, suffixes), foreign, encrypted)
    return LayerType(Compression.OTHER) if media_type.startswith(_EROFS_PREFIX) else None


def _oci_compression(base: str, suffixes: list[str]) -> Compression:
    if base not in (OCI_LAYER, OCI_LAYER_FOREIGN):
        return Compression.OTHER
    if not suffixes:
        return Compression.NONE if base == OCI_LAYER else Compression.OTHER
    last = max(suffixes)  # containerd sorts the suffixes and uses the last one
    return {"gzip": Compression.GZIP, "zstd": Compression.ZSTD}.get(last, Compression.OTHER)


def is_tar_layer(media_type: str) -> bool:
    """Return whether unpackers accept this type: a tar, compressed or not, but not encrypted.

    The compression is detected from the content.
    """
    kind = layer_type(media_type)
    if kind is None or kind.encrypted:
        return False
    # The reference builds no zTOC for OCI's plain non-distributable type, but unpackers accept it.
    return kind.compression is not Compression.OTHER or media_type == OCI_LAYER_FOREIGN


def is_layer(media_type: str) -> bool:
    """Return whether `media_type` is that of a layer."""
    return layer_type(media_type) is not None


def is_manifest(media_type: str) -> bool:
    """Return whether `media_type` is that of an image manifest."""
    return media_type in MANIFESTS


def is_index(media_type: str) -> bool:
    """Return whether `media_type` is that of an image index or a Docker manifest list."""
    return media_type in INDEXES
