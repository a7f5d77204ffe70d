"""Why soci-snapshotter would refuse a zTOC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason for soci-snapshotter to refuse a zTOC, or to read one of its files wrongly.

    ``str(refusal)`` is `text`.

    Attributes:
        code: a stable word, such as ``empty-span``.
        span_id: the span it is about; ``None`` if it is about an entry.
        entry_index: the entry it is about, as in `Ztoc.entries`; ``None`` if it is about a span.
        of_layer: whether the whole layer is refused, and unpacked as if it had no zTOC; otherwise
            only one file cannot be read.
        text: the reason in words, which name the span or the entry.
    """

    code: str
    span_id: int | None
    entry_index: int | None
    of_layer: bool
    text: str

    def __str__(self) -> str:
        return self.text
