"""Layers without an index, kept on disk with the zTOC that was made when they were read.

Below the cache directory, ``inflated/LAYER-TABLE`` holds what is known about a layer that a table
with the digest TABLE cuts into spans. For a layer without an index, the table is a zTOC made here,
which is in the file ``ztoc``. The file ``stored`` holds the bytes that the zTOC describes: the
layer, or its tar if the layer is compressed with zstd.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tocsin import operating_system as system
from tocsin.errors import TocsinError
from tocsin.layers.cache_space import INFLATED
from tocsin.layers.sources import FileRanges
from tocsin.layers.untrusted_directory import (
    TEMPORARY_PREFIX,
    UntrustedFileError,
    open_directory,
    open_file,
    open_root,
    read_file,
    write_file,
)
from tocsin.layers.ztoc import Ztoc
from tocsin.model.soci_index import MAX_ZTOC_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tocsin.layers.sources import RangeSource
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest

_ZTOC = "ztoc"
_STORED = "stored"
_PROBLEMS = (OSError, UntrustedFileError)


class FoundLayer(NamedTuple):
    """A layer that was read before.

    Attributes:
        ztoc: the zTOC that was made from it.
        source: its bytes; ``None`` if only the zTOC was kept.
    """

    ztoc: Ztoc
    source: FileRanges | None


class KeptLayers:
    """Layers without an index in a cache directory.

    Args:
        directory: the cache directory.
        note: called with messages for the user.
        writes: whether layers are kept, and not only found.
    """

    def __init__(
        self, directory: Path, note: Callable[[str], None], *, writes: bool = True
    ) -> None:
        self._directory = directory
        self._note = note
        self.writes = writes

    def find(self, layer: Descriptor) -> FoundLayer | None:
        """Return a layer that was read before; ``None`` if it is missing or damaged."""
        # TocsinError: Windows has no descriptors of directories.
        with suppress(TocsinError, *_PROBLEMS), open_root(self._directory) as root:
            for name in self._names(root, layer.digest):
                with suppress(TocsinError, *_PROBLEMS):
                    return self._open(root, name)
        return None

    def begin(self, layer: Descriptor, *, data: bool) -> KeptLayer:
        """Start to keep a layer that is being read.

        Args:
            layer: descriptor of the layer.
            data: whether to keep its bytes too, and not only its zTOC.
        """
        return KeptLayer(self._directory, layer.digest, self._note, data=data)

    def _names(self, root: int, layer: Digest) -> list[str]:
        with open_directory(root, [INFLATED]) as inflated, os.scandir(inflated) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(f"{layer.hex}-"))

    def _open(self, root: int, name: str) -> FoundLayer:
        with open_directory(root, [INFLATED, name]) as directory:
            with open_file(_ZTOC, directory) as fd:
                size = os.fstat(fd).st_size
            if size > MAX_ZTOC_SIZE:
                raise UntrustedFileError("the zTOC is too large")
            ztoc = Ztoc.from_bytes(read_file(_ZTOC, directory, size))
            if ztoc.digest.rpartition(":")[2] != name.rpartition("-")[2]:
                raise UntrustedFileError("the zTOC does not match its digest")
            source = None
            with suppress(FileNotFoundError), open_file(_STORED, directory) as fd:
                path = self._directory / INFLATED / name / _STORED
                source = FileRanges(path, fd=os.dup(fd))
        return FoundLayer(ztoc, source)


class KeptLayer:
    """A layer that is being read and kept; a full disk only means that it is not kept.

    Args:
        directory: the cache directory.
        layer: digest of the layer.
        note: called with messages for the user.
        data: whether to keep the bytes, and not only the zTOC.
    """

    def __init__(
        self, directory: Path, layer: Digest, note: Callable[[str], None], *, data: bool
    ) -> None:
        self._directory = directory
        self._layer = layer
        self._note = note
        self._has_data = data
        self._temporary = f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
        self._file = -1
        self._is_broken = False

    def write(self, piece: bytes) -> None:
        """Append bytes of the layer."""
        if not self._has_data or self._is_broken:
            return
        try:
            if self._file < 0:
                self._create()
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except _PROBLEMS as error:
            self._give_up(error)

    def finish(self, ztoc: Ztoc) -> RangeSource | None:
        """Keep the layer, all of which has been written and verified.

        Returns:
            Its bytes; ``None`` if they are not kept.
        """
        name = f"{self._layer.hex}-{ztoc.digest.rpartition(':')[2]}"
        try:
            with open_root(self._directory, make=True) as root:
                if self._is_broken:
                    return None
                with open_directory(root, [INFLATED, name], make=True) as directory:
                    if self._file >= 0:
                        with open_directory(root, [INFLATED]) as inflated:
                            os.rename(
                                self._temporary,
                                _STORED,
                                src_dir_fd=inflated,
                                dst_dir_fd=directory,
                            )
                    # Last, since a directory without a zTOC is not used.
                    write_file(_ZTOC, directory, ztoc.to_bytes())
                    if self._file < 0:
                        return None
                    with open_file(_STORED, directory) as fd:
                        path = self._directory / INFLATED / name / _STORED
                        source = FileRanges(path, fd=os.dup(fd))
        except _PROBLEMS as error:
            self._give_up(error)
            return None
        else:
            return source
        finally:
            self._close()

    def abandon(self) -> None:
        """Remove what was written."""
        if self._file >= 0:
            with (
                suppress(*_PROBLEMS),
                open_root(self._directory) as root,
                open_directory(root, [INFLATED]) as inflated,
            ):
                os.unlink(self._temporary, dir_fd=inflated)
        self._close()

    def _create(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | system.O_NOFOLLOW | system.O_CLOEXEC
        with (
            open_root(self._directory, make=True) as root,
            open_directory(root, [INFLATED], make=True) as inflated,
        ):
            self._file = os.open(self._temporary, flags, 0o600, dir_fd=inflated)

    def _give_up(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, UntrustedFileError) else _reason(error)
        self._note(f"cache {self._directory}: layer sha256:{self._layer.hex} is not kept: {reason}")
        self.abandon()
        self._is_broken = True

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or "input/output error"
