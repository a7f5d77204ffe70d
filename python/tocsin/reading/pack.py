"""The pack of an image, which mounts read first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import VerificationError
from tocsin.images.seek_tables import read_pack_index
from tocsin.layers.pack import PackIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.layers.seek_parts import BlobParts
    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Source


@dataclass(frozen=True, slots=True)
class ImagePack:
    """The pack in the seek table with which an image is read.

    Attributes:
        store: returns the store that holds it.
        index: descriptor of its index.
        frames: descriptor of its frames.
        parts: bytes of the frames, unverified.
        layers: digest and uncompressed size of each layer of the image, from the lowest up.
    """

    store: Callable[[], Source]
    index: Descriptor
    frames: Descriptor
    parts: BlobParts
    layers: tuple[tuple[str, int], ...]

    def open(self) -> PackIndex:
        """Return its index.

        Raises:
            NotFoundError, VerificationError, SeekTableError: it is missing or damaged, or it was
                made for another image.
            UnsupportedError: it is too large.
            RegistryError, OSError: it cannot be read.
        """
        pack = PackIndex(read_pack_index(self.store(), self.index))
        pack.check_layers(self.layers)
        if pack.size != self.frames.size:
            raise VerificationError(
                f"pack: wrong size (found {self.frames.size} bytes in the manifest, expected "
                f"{pack.size})",
                expected=str(pack.size),
                actual=str(self.frames.size),
            )
        return pack
