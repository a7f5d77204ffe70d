"""Reasons why soci-snapshotter rejects a zTOC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason why soci-snapshotter rejects a zTOC or reads a file incorrectly.

    ``str(refusal)`` is `text`.

    Attributes:
        code: a stable code, such as ``empty-span``.
        span_id: the span concerned; ``None`` if an entry is concerned.
        entry_index: the entry concerned, as in `Ztoc.entries`; ``None`` if a span is concerned.
        of_layer: whether soci-snapshotter rejects the whole layer and unpacks it as if it had no
            zTOC; otherwise, only one file cannot be read.
        text: the reason as text that names the span or entry.
    """

    code: str
    span_id: int | None
    entry_index: int | None
    of_layer: bool
    text: str

    def __str__(self) -> str:
        return self.text
