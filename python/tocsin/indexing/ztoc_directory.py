"""A directory of zTOCs, found by the digest of the layer and the span size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.model.soci_index import MAX_ZTOC_SIZE
from tocsin.staged_file import StagedFile, place_in_errors

if TYPE_CHECKING:
    from tocsin.model.digest import Digest
    from tocsin.model.entry_path import StrPath


class ZtocDirectory:
    """A directory of zTOCs, for ``known=`` of ``create`` and ``convert``.

    Several processes may use it at the same time. Files in it are not compared with layers, so no
    other user may be able to write to it.

    Args:
        path: the directory; it is created when the first zTOC is kept.
    """

    def __init__(self, path: StrPath) -> None:
        self._path = Path(path)

    def find(self, layer: Digest, span_size: int) -> bytes | None:
        """Return the bytes of a zTOC, or ``None`` if it is missing or too large.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            with self._file(layer, span_size).open("rb") as file:
                data = file.read(MAX_ZTOC_SIZE + 1)
        except FileNotFoundError:
            return None
        return data if len(data) <= MAX_ZTOC_SIZE else None

    def keep(self, layer: Digest, span_size: int, ztoc: bytes) -> None:
        """Write a zTOC; a reader never sees a part of it.

        Raises:
            OSError: the file cannot be written.
        """
        target = self._file(layer, span_size)
        with place_in_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        with StagedFile(target.parent) as staged:
            staged.write(ztoc)
            staged.publish(target)

    def _file(self, layer: Digest, span_size: int) -> Path:
        return self._path / layer.algorithm / f"{layer.hex}-{span_size}.ztoc"

    def __repr__(self) -> str:
        return f"<ZtocDirectory {self._path}>"
