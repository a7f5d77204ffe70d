"""Differences between a stored zTOC and one rebuilt from the layer.

Two different zTOCs may both be correct: the build tool, the zinfo version or the set of checkpoints
may differ. So if the blobs differ, their content is compared. The layer is read again only for
spans that the rebuilt zTOC does not have. Source: docs/format.md#the-ztoc-blob;
docs/format.md#zinfo; docs/format.md#span-digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import fields
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tocsin.model.file_metadata import FileMetadata
from tocsin.model.finding import Finding
from tocsin.quoting import shown
from tocsin.verifying.findings import note

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.layers.ztoc import Ztoc

SpanBytes = Callable[[int, int], Iterable[bytes]]
"""Returns the compressed bytes in a half-open range, in pieces."""

_FIELDS = tuple(field.name for field in fields(FileMetadata))
_MAX_VALUE_LEN = 200


def differences(blob: bytes, stored: Ztoc, rebuilt: Ztoc, span_bytes: SpanBytes) -> list[Finding]:
    """Return the differences between a zTOC and its layer; empty if they are equal.

    Args:
        blob: the stored zTOC as bytes.
        stored: the stored zTOC.
        rebuilt: the zTOC rebuilt from the layer, with the same span size and build tool.
        span_bytes: reads the layer.
    """
    if blob == rebuilt.to_bytes():
        return []
    findings = [
        *_archive(stored, rebuilt),
        *_entries(stored, rebuilt),
        *_checkpoints(stored, rebuilt),
        *_span_digests(stored, rebuilt, span_bytes),
    ]
    return findings or [
        note(
            "ztoc.encoding",
            f"ztoc {stored.digest}: matches the layer but is encoded differently (version "
            f"{shown(stored.version)}, {stored.size} bytes; {rebuilt.size} bytes when rebuilt)",
        )
    ]


def _archive(stored: Ztoc, rebuilt: Ztoc) -> Iterator[Finding]:
    for name, kind in (
        ("compression_algorithm", "ztoc.algorithm"),
        ("compressed_archive_size", "ztoc.layer_size"),
        ("uncompressed_archive_size", "ztoc.tar_size"),
    ):
        actual, expected = str(getattr(stored, name)), str(getattr(rebuilt, name))
        if actual != expected:
            yield Finding(
                kind,
                f"ztoc {stored.digest}: {name} is {actual} in the zTOC, {expected} in the layer",
                expected=expected,
                actual=actual,
            )


def _entries(stored: Ztoc, rebuilt: Ztoc) -> Iterator[Finding]:
    pairs = enumerate(zip_longest(stored.entries, rebuilt.entries))
    different = [(index, listed, found) for index, (listed, found) in pairs if listed != found]
    if not different:
        return
    index, listed, found = different[0]
    what, expected, actual = _entry_difference(listed, found)
    counts = len(stored.entries), len(rebuilt.entries)
    totals = f"; number of entries is {counts[0]} in the zTOC, {counts[1]} in the layer"
    yield Finding(
        "ztoc.file",
        f"ztoc {stored.digest}: entry {index}{what}{_more(different, 'entries differ')}"
        + (totals if counts[0] != counts[1] else ""),
        expected=expected,
        actual=actual,
    )


def _entry_difference(
    listed: FileMetadata | None, found: FileMetadata | None
) -> tuple[str, str | None, str | None]:
    """Return a description, the value in the layer and the value in the zTOC."""
    if listed is None:
        assert found is not None  # noqa: S101 (zip_longest never pads both)
        return f": {shown(found.name)} is in the layer but not in the zTOC", found.name, None
    if found is None:
        return f": {shown(listed.name)} is in the zTOC but not in the layer", None, listed.name
    unequal = [name for name in _FIELDS if getattr(listed, name) != getattr(found, name)]
    name = unequal[0]
    actual, expected = (_text(name, getattr(entry, name)) for entry in (listed, found))
    others = f" (also different: {', '.join(unequal[1:])})" if len(unequal) > 1 else ""
    values = f"{shown(actual)} in the zTOC, {shown(expected)} in the layer"
    return f" ({shown(found.name)}): {name} is {values}{others}", expected, actual


def _text(name: str, value: Any) -> str:  # noqa: ANN401 (value of any field)
    if name == "pax_records":
        value = {key: value[key] for key in sorted(value)}
    text = f"{value:#o}" if name == "mode" else str(value)
    return text if len(text) <= _MAX_VALUE_LEN else f"{text[:_MAX_VALUE_LEN]}…"


_BitPosition = tuple[int, int]
"""Start of a span in the compressed layer: the first byte, and the number of its bits to use."""


def _span_starts(ztoc: Ztoc) -> list[_BitPosition]:
    spans = ztoc.spans
    return list(zip(spans["compressed_start"].tolist(), spans["bits"].tolist(), strict=True))


def _checkpoints(stored: Ztoc, rebuilt: Ztoc) -> Iterator[Finding]:
    if stored.compression_algorithm != "gzip" or rebuilt.compression_algorithm != "gzip":
        return
    span_at = {start: span_id for span_id, start in enumerate(_span_starts(rebuilt))}
    offsets = (stored.spans["uncompressed_start"], rebuilt.spans["uncompressed_start"])
    wrong: list[tuple[int, int | None]] = []
    wrong_windows: list[int] = []
    matched = 0
    for span_id, start in enumerate(_span_starts(stored)):
        match = span_at.get(start)
        if match is None or offsets[0][span_id] != offsets[1][match]:
            wrong.append((span_id, match))
        else:
            matched += 1
            if stored.window(span_id) != rebuilt.window(match):
                wrong_windows.append(span_id)
    if wrong:
        yield _checkpoint_finding(stored, rebuilt, wrong)
    elif matched < rebuilt.span_count:
        yield note(
            "ztoc.checkpoints",
            f"ztoc {stored.digest}: has {matched} of the {rebuilt.span_count} checkpoints that "
            f"span size {rebuilt.span_size} allows; they are correct, but some spans are larger",
        )
    if wrong_windows:
        match = span_at[_span_starts(stored)[wrong_windows[0]]]
        yield _window_finding(stored, rebuilt.window(match), wrong_windows)


def _checkpoint_finding(
    stored: Ztoc, rebuilt: Ztoc, wrong: Sequence[tuple[int, int | None]]
) -> Finding:
    span_id, match = wrong[0]
    # Without a match, compare with the checkpoint of the same number.
    nearest = min(span_id, rebuilt.span_count - 1) if match is None else match
    actual, expected = _position(stored, span_id), _position(rebuilt, nearest)
    return Finding(
        "ztoc.checkpoint",
        f"ztoc {stored.digest}: checkpoint of span {span_id} is at {actual} in the zTOC, at "
        f"{expected} in the layer{_more(wrong, 'checkpoints differ')}",
        expected=expected,
        actual=actual,
    )


def _position(ztoc: Ztoc, span_id: int) -> str:
    row = ztoc.spans[span_id]
    return (
        f"compressed byte {row['compressed_start']} with {row['bits']} bits, "
        f"uncompressed byte {row['uncompressed_start']}"
    )


def _window_finding(stored: Ztoc, expected: bytes, wrong: Sequence[int]) -> Finding:
    span_id = wrong[0]
    return window_finding(stored, span_id, expected, more=_more(wrong, "windows differ"))


def window_finding(stored: Ztoc, span_id: int, expected: bytes, *, more: str = "") -> Finding:
    """Return the finding for a window that differs from the layer's, which is `expected`."""
    window = stored.window(span_id)
    at = next(at for at, (a, b) in enumerate(zip(window, expected, strict=True)) if a != b)
    return Finding(
        "ztoc.window",
        f"ztoc {stored.digest}: window of span {span_id} differs from the layer at byte {at} of "
        f"{len(window)}{more}",
        expected=f"sha256:{hashlib.sha256(expected).hexdigest()}",
        actual=f"sha256:{hashlib.sha256(window).hexdigest()}",
    )


def _span_digests(stored: Ztoc, rebuilt: Ztoc, span_bytes: SpanBytes) -> Iterator[Finding]:
    known = dict(zip(_ranges(rebuilt), rebuilt.spans["sha256"].tolist(), strict=True))
    ranges = _ranges(stored)
    # With wrong checkpoints, the spans between them are wrong too, so hashing them is pointless.
    has_valid_checkpoints = set(_span_starts(stored)) <= set(_span_starts(rebuilt))
    wrong = []
    for span_id, (range_, actual) in enumerate(
        zip(ranges, stored.spans["sha256"].tolist(), strict=True)
    ):
        expected = known.get(range_)
        if expected is None and has_valid_checkpoints:
            expected = _digest_of(span_bytes(*range_))
        if expected is not None and actual != expected:
            wrong.append((span_id, actual, expected))
    if wrong:
        span_id, actual, expected = wrong[0]
        yield Finding(
            "ztoc.span",
            f"ztoc {stored.digest}: digest of span {span_id} (compressed bytes "
            f"{ranges[span_id][0]} to {ranges[span_id][1]}) is sha256:{actual.hex()} in the zTOC, "
            f"sha256:{expected.hex()} in the layer{_more(wrong, 'span digests differ')}",
            expected=f"sha256:{expected.hex()}",
            actual=f"sha256:{actual.hex()}",
        )


def _ranges(ztoc: Ztoc) -> list[tuple[int, int]]:
    spans = ztoc.spans
    starts, ends = spans["compressed_start"].tolist(), spans["compressed_end"].tolist()
    return list(zip(starts, ends, strict=True))


def _digest_of(pieces: Iterable[bytes]) -> bytes:
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


def _more(different: Sequence[object], what: str) -> str:
    return f"; {len(different) - 1} more {what}" if len(different) > 1 else ""
