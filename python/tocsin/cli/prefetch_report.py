"""Prints prefetch artifacts for users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.cli import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.cli.output import Output
    from tocsin.images.prefetches import PrefetchInfo

_MAX_RANGES_SHOWN = 8
_MAX_FILES_SHOWN = 10


def write_prefetches(prefetches: Iterable[PrefetchInfo], output: Output) -> None:
    """Write each artifact with its spans and files, once even if several indexes list it."""
    distinct = {(found.artifact.digest, found.layer): found for found in prefetches}
    for found in distinct.values():
        _write(found, output)


def _write(found: PrefetchInfo, output: Output) -> None:
    head = f"prefetch {words.short(found.artifact.digest)} {words.size(found.artifact.size)}"
    layer = words.short(found.layer) or words.NOTHING
    line = f"{head} for layer {layer}"
    if found.version:
        spans = f"{words.count(found.span_count, 'span')} ({_ranges(found) or words.NOTHING})"
        line += f": {spans}, {words.count(len(found.files), 'whole file')}"
    output.line(words.printable(line))
    for path in found.files[:_MAX_FILES_SHOWN]:
        output.line(f"  {words.escaped(path)}")
    if len(found.files) > _MAX_FILES_SHOWN:
        output.line(f"  and {len(found.files) - _MAX_FILES_SHOWN:,} more; --json lists all")
    if found.problem is not None:
        output.warn(found.problem)


def _ranges(found: PrefetchInfo) -> str:
    """Return ``0-3, 7``."""
    shown = [
        str(one.start_span)
        if one.start_span == one.end_span
        else f"{one.start_span}-{one.end_span}"
        for one in found.ranges[:_MAX_RANGES_SHOWN]
    ]
    more = len(found.ranges) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
