"""The table of a layer's spans: which compressed bytes hold which uncompressed bytes.

A zTOC contains such a table. `LayerSpans` knows only this interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tocsin import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class SpanTable(Protocol):
    """The spans of one layer; may be used by several threads.

    Attributes:
        core: the spans in the core.
        name: name of the table in error messages.
        compressed_size: size of the layer as a registry stores it.
    """

    @property
    def core(self) -> _core.Ztoc | _core.SeekSpans: ...  # noqa: D102 (in the class docstring)
    @property
    def name(self) -> str: ...  # noqa: D102 (in the class docstring)
    @property
    def compressed_size(self) -> int: ...  # noqa: D102 (in the class docstring)

    def span_of(self, offset: int) -> int | None:
        """Return the id of the span that holds an uncompressed byte; ``None`` if none does."""
        ...

    def compressed_range(self, span_id: int) -> tuple[int, int]:
        """Return the compressed bytes that a span needs; neighbours may share one byte."""
        ...

    def missing_parts(self, spans: Iterable[int]) -> list[Callable[[], None]]:
        """Return tasks that fetch what `reader` needs for these spans; they may run concurrently.

        These parts and the spans do not depend on each other, so both can be fetched at once.
        """
        ...

    def reader(self, span_id: int, compressed: bytes) -> _core.SpanReader:
        """Return a span after verifying its compressed bytes.

        Raises:
            VerificationError: the bytes differ from those that the table was made from.
        """
        ...


class ZtocSpans:
    """The spans of a zTOC.

    Args:
        ztoc: the zTOC.
        digest: returns its digest, which may have to be computed.

    Attributes:
        core: the zTOC.
        digest: returns its digest.
    """

    name = "ztoc"

    def __init__(self, ztoc: _core.Ztoc, digest: Callable[[], str]) -> None:
        self.core = ztoc
        self.digest = digest
        self._ztoc = ztoc
        self.span_of = ztoc.span_of
        self.compressed_range = ztoc.span_range

    @property
    def compressed_size(self) -> int:
        """Size of the layer as a registry stores it."""
        return self._ztoc.compressed_archive_size

    def missing_parts(self, spans: Iterable[int]) -> list[Callable[[], None]]:
        """Return nothing: a zTOC is complete."""
        return []

    def reader(self, span_id: int, compressed: bytes) -> _core.SpanReader:
        """Return a span after verifying its compressed bytes."""
        return _core.SpanReader(self._ztoc, span_id, compressed)
