"""The manifest of a seek table: its root, its file list, and a blob for each layer of the image.

Source: docs/seek-table.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError
from tocsin.model.manifest import Manifest
from tocsin.quoting import shown

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor

SEEK_ROOT = "application/vnd.tocsin.seek.v1"
"""Media type of the root, and so of the whole."""
SEEK_FILE_LIST = "application/vnd.tocsin.seek.toc.v1"
SEEK_LAYER = "application/vnd.tocsin.seek.layer.v1"
SEEK_TABLE_DIGEST = "dev.tocsin.seek-table-digest"
"""Annotation of an image's manifest: digest of the seek manifest that is bound to it."""
SEEK_IMAGE_DIGEST = "dev.tocsin.image-manifest-digest"
"""Annotation of the seek manifest's entry in an image index: digest of the image's manifest."""
MAX_ROOT_SIZE = 64 << 20
"""Maximum size of a root in bytes; that of an image of 100 GiB has about 2 MiB."""


@dataclass(frozen=True, slots=True)
class SeekManifest:
    """The manifest of a seek table.

    Attributes:
        root: descriptor of the root, usually with its bytes as `data`.
        file_list: descriptor of the file list.
        layers: descriptors of the seek blobs, one for each layer of the image, in its order.
    """

    root: Descriptor
    file_list: Descriptor
    layers: tuple[Descriptor, ...]

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse a seek manifest.

        Raises:
            FormatError: `data` is not a seek manifest; `what` is ``seek manifest``.
            UnsupportedError: a digest other than sha256.
        """
        manifest = Manifest.from_json(data)
        found = [manifest.config, *(manifest.layers or ())]
        expected = [SEEK_ROOT, SEEK_FILE_LIST, *[SEEK_LAYER] * (len(found) - 2)]
        for descriptor, media_type in zip(found, expected, strict=False):
            if descriptor.media_type != media_type:
                raise FormatError(
                    f"seek manifest: unexpected media type (found "
                    f"{shown(descriptor.media_type)}, expected {media_type})",
                    what="seek manifest",
                )
        if len(found) == 1:
            raise FormatError("seek manifest: the file list is missing", what="seek manifest")
        return cls(found[0], found[1], tuple(found[2:]))
