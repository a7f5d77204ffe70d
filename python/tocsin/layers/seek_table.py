"""Making the seek table of an image from its layers.

Source: docs/seek-table.md#parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tocsin import _core
from tocsin.layers.ztoc import core_of
from tocsin.model.descriptor import Descriptor
from tocsin.model.seek_manifest import SEEK_FILE_LIST, SEEK_LAYER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from tocsin.layers.ztoc import Ztoc


class SeekBlob:
    """The seek blob of one layer: its checkpoints, and the digests of its spans."""

    _core: Any  # ``_core.SeekLayer``, which is not public

    @classmethod
    def wrapping(cls, core: object) -> SeekBlob:
        """Wrap a blob of the core, a ``_core.SeekLayer``."""
        blob = cls()
        blob._core = core
        return blob

    @classmethod
    def parse(cls, blob: Buffer) -> SeekBlob:
        """Parse a blob. Only its head is checked; chunks are checked when they are used.

        Raises:
            SeekTableError: it is not a seek blob, or it is damaged.
        """
        return cls.wrapping(_core.SeekLayer.parse(blob))

    @classmethod
    def of_whole_layer(
        cls, compression: str, *, size: int, uncompressed_size: int, span_size: int
    ) -> SeekBlob:
        """Return the blob of a layer without checkpoints, which readers read in full."""
        return cls.wrapping(_core.SeekLayer.whole(compression, size, uncompressed_size, span_size))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeekBlob) and other.blob == self.blob

    def __hash__(self) -> int:
        return hash(self.blob)

    def __reduce__(self) -> tuple[Callable[[bytes], SeekBlob], tuple[bytes]]:
        """Pickle as bytes, which are parsed again."""
        return SeekBlob.parse, (self.blob,)

    @property
    def blob(self) -> bytes:
        """The bytes to store."""
        blob: bytes = self._core.blob
        return blob

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor in a seek manifest."""
        return Descriptor.of(self.blob, SEEK_LAYER)

    @property
    def span_size(self) -> int:
        """Uncompressed bytes between two checkpoints."""
        size: int = self._core.span_size
        return size

    @property
    def layer_size(self) -> int:
        """Bytes of the layer as stored."""
        size: int = self._core.compressed_size
        return size


def core_of_blob(seek: SeekBlob) -> _core.SeekLayer:
    """Return the ``_core`` object of a seek blob, which other ``_core`` objects share."""
    core: _core.SeekLayer = seek._core
    return core


class SeekParts(NamedTuple):
    """What a seek table needs from one layer: its entries, its checkpoints and its digest."""

    ztoc: Ztoc
    seek: SeekBlob
    digest: str


class SeekTableBlobs(NamedTuple):
    """The parts of a seek table that belong to the whole image.

    Attributes:
        root: bytes of the root.
        file_list: bytes of the file list blob.
    """

    root: bytes
    file_list: bytes

    @property
    def file_list_descriptor(self) -> Descriptor:
        """The descriptor of the file list in a seek manifest."""
        return Descriptor.of(self.file_list, SEEK_FILE_LIST)


def make_seek_table(layers: Sequence[SeekParts]) -> SeekTableBlobs:
    """Return the root and the file list of an image, given its layers from the lowest up.

    Raises:
        SeekTableError: the image exceeds a limit of the format.
    """
    parts = [(core_of(layer.ztoc), layer.seek._core, layer.digest) for layer in layers]
    return SeekTableBlobs(*_core.build_seek_table(parts))


def layer_digests(root: Buffer) -> list[str]:
    """Return the digests of the layers that a root lists, from the lowest up.

    Raises:
        SeekTableError: it is not a root.
    """
    parsed = _core.SeekRoot(root)
    return [parsed.layer(number)[0] for number in range(parsed.layer_count)]
