"""The manifest of a seek table: its root, its file list, a blob for each layer, and maybe a pack.

Source: docs/seek-table.md#parts; docs/pack.md#parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError
from tocsin.model.descriptor import Descriptor
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_MANIFEST
from tocsin.model.platform import Platform
from tocsin.quoting import shown

if TYPE_CHECKING:
    from tocsin.model.digest import Digest

SEEK_ROOT = "application/vnd.tocsin.seek.v1"
"""Media type of the root, by which a seek table is recognized."""
SEEK_FILE_LIST = "application/vnd.tocsin.seek.toc.v1"
SEEK_LAYER = "application/vnd.tocsin.seek.layer.v1"
PACK_INDEX = "application/vnd.tocsin.seek.pack.index.v1"
"""Media type of the index of a pack."""
PACK_FRAMES = "application/vnd.tocsin.seek.pack.v1"
"""Media type of the frames of a pack."""
SEEK_TABLE_DIGEST = "dev.tocsin.seek-table-digest"
"""Annotation of an image's manifest: digest of the seek manifest that is bound to it."""
SEEK_IMAGE_DIGEST = "dev.tocsin.image-manifest-digest"
"""Annotation of the seek manifest's entry in an image index: digest of the image's manifest."""
MAX_INLINE_SIZE = 1 << 20
"""Maximum size in bytes of a root that is embedded in its descriptor; registries accept manifests
of at least 4 MiB."""
MAX_INLINE_PACK_INDEX_SIZE = 512 << 10
"""The same for the index of a pack; a recorded start of an image of 130 MB has 10 KiB."""
MAX_PACK_INDEX_SIZE = 16 << 20
"""Maximum size of the index of a pack in bytes: what the format allows, and its digests."""
MAX_ROOT_SIZE = 64 << 20
"""Maximum size of a root in bytes; the root for an image of 100 GiB has about 2 MiB."""


@dataclass(frozen=True, slots=True)
class SeekManifest:
    """The manifest of a seek table.

    Attributes:
        root: descriptor of the root, usually with its bytes as `data`.
        file_list: descriptor of the file list.
        layers: descriptors of the seek blobs, one for each layer of the image, in its order.
        pack_index: descriptor of the index of the pack, usually with its bytes as `data`; ``None``
            without a pack.
        pack: descriptor of the frames of the pack; ``None`` without a pack.
    """

    root: Descriptor
    file_list: Descriptor
    layers: tuple[Descriptor, ...]
    pack_index: Descriptor | None = None
    pack: Descriptor | None = None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All blobs that it lists."""
        return self.root, *self._listed

    @property
    def _listed(self) -> tuple[Descriptor, ...]:
        pack = (self.pack_index, self.pack)
        return (self.file_list, *self.layers, *(blob for blob in pack if blob is not None))

    @property
    def pack_size(self) -> int:
        """Size in bytes of the pack with its index; 0 without a pack."""
        return sum(blob.size for blob in (self.pack_index, self.pack) if blob is not None)

    @property
    def size(self) -> int:
        """Size in bytes of all blobs; a blob that is listed twice counts once."""
        return sum({blob.digest: blob.size for blob in self.blobs}.values())

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse a seek manifest.

        Raises:
            FormatError: `data` is not a seek manifest; `what` is ``seek manifest``.
            UnsupportedError: a digest other than sha256.
        """
        manifest = Manifest.from_json(data)
        found = [manifest.config, *(manifest.layers or ())]
        pack = found[-2:] if found[-1].media_type == PACK_FRAMES else []
        seek = found[: len(found) - len(pack)]
        expected = [SEEK_ROOT, SEEK_FILE_LIST, *[SEEK_LAYER] * (len(seek) - 2)]
        if pack:
            expected += [PACK_INDEX, PACK_FRAMES]
        for descriptor, media_type in zip(found, expected, strict=False):
            if descriptor.media_type != media_type:
                raise FormatError(
                    f"seek manifest: unexpected media type (found "
                    f"{shown(descriptor.media_type)}, expected {media_type})",
                    what="seek manifest",
                )
        if len(seek) < 2:  # noqa: PLR2004 (root and file list)
            raise FormatError("seek manifest: the file list is missing", what="seek manifest")
        return cls(seek[0], seek[1], tuple(seek[2:]), *pack)

    def to_json(self, *, subject: Descriptor | None = None) -> bytes:
        """Return the manifest as bytes.

        Args:
            subject: the image's manifest, for a table that refers to the image; ``None`` for one
                that the image's manifest names.
        """
        return Manifest(
            config=self.root,
            layers=self._listed,
            media_type=OCI_MANIFEST,
            subject=None if subject is None else subject.plain(),
        ).to_json()


def root_descriptor(data: bytes) -> Descriptor:
    """Return the descriptor of a root, with its bytes unless it is large."""
    found = Descriptor.of(data, SEEK_ROOT)
    return replace(found, data=data) if len(data) <= MAX_INLINE_SIZE else found


def pack_index_descriptor(data: bytes) -> Descriptor:
    """Return the descriptor of the index of a pack, with its bytes unless it is large."""
    found = Descriptor.of(data, PACK_INDEX)
    return replace(found, data=data) if len(data) <= MAX_INLINE_PACK_INDEX_SIZE else found


def seek_entry(seek_table: Descriptor, image_manifest: Digest) -> Descriptor:
    """Return the entry of a seek table in a converted image index.

    Its platform is unknown, like that of an attestation, so that no reader takes it for an image.

    Args:
        seek_table: digest and size of the seek manifest.
        image_manifest: digest of the rewritten image manifest.
    """
    return Descriptor(
        OCI_MANIFEST,
        seek_table.digest,
        seek_table.size,
        annotations={SEEK_IMAGE_DIGEST: str(image_manifest)},
        platform=Platform(os="unknown", architecture="unknown"),
    )


def is_seek_entry(entry: Descriptor) -> bool:
    """Return whether an entry of an image index is a seek table."""
    return SEEK_IMAGE_DIGEST in entry.annotations
