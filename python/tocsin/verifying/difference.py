"""How a zTOC differs from the one its layer gives: which entry, checkpoint, window or span.

Two zTOCs may differ and both be true: another tool's name, version 1 of the zinfo, checkpoints
left out. So bytes are compared first, and when they differ what they say is. Nothing is fetched
here but the bytes of spans that only one of the two has. Source: docs/format.md#the-ztoc-blob;
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
"""From a half-open range of compressed bytes to those bytes, in pieces."""

_FIELDS = tuple(field.name for field in fields(FileMetadata))
_MAX_VALUE_LEN = 200


def differences(blob: bytes, stored: Ztoc, made: Ztoc, span_bytes: SpanBytes) -> list[Finding]:
    """Return what of a zTOC its layer does not bear out; empty when they are equal.

    Args:
        blob: the zTOC as it is stored.
        stored: what it says.
        made: what the layer gives, made with the same span size and tool name.
        span_bytes: reads the layer.
    """
    if blob == made.to_bytes():
        return []
    findings = [
        *_archive(stored, made),
        *_entries(stored, made),
        *_checkpoints(stored, made),
        *_span_digests(stored, made, span_bytes),
    ]
    return findings or [
        note(
            "ztoc.encoding",
            f"ztoc {stored.digest}: says the same as its layer in other bytes (version "
            f"{shown(stored.version)}, {stored.size} bytes; made here it has {made.size})",
        )
    ]


def _archive(stored: Ztoc, made: Ztoc) -> Iterator[Finding]:
    for name, kind in (
        ("compression_algorithm", "ztoc.algorithm"),
        ("compressed_archive_size", "ztoc.layer_size"),
        ("uncompressed_archive_size", "ztoc.tar_size"),
    ):
        says, is_ = str(getattr(stored, name)), str(getattr(made, name))
        if says != is_:
            yield Finding(
                kind,
                f"ztoc {stored.digest}: {name} is {says}, the layer gives {is_}",
                expected=is_,
                actual=says,
            )


def _entries(stored: Ztoc, made: Ztoc) -> Iterator[Finding]:
    pairs = enumerate(zip_longest(stored.entries, made.entries))
    wrong = [(index, says, is_) for index, (says, is_) in pairs if says != is_]
    if not wrong:
        return
    index, says, is_ = wrong[0]
    what, expected, actual = _entry_difference(says, is_)
    counts = len(stored.entries), len(made.entries)
    rest = f"; {counts[0]} entries are listed, the layer has {counts[1]}"
    yield Finding(
        "ztoc.file",
        f"ztoc {stored.digest}: entry {index}{what}{_more(wrong, 'entries differ')}"
        + (rest if counts[0] != counts[1] else ""),
        expected=expected,
        actual=actual,
    )


def _entry_difference(
    says: FileMetadata | None, is_: FileMetadata | None
) -> tuple[str, str | None, str | None]:
    """Return what differs, the layer's value and the zTOC's."""
    if says is None:
        assert is_ is not None  # noqa: S101 (one of a pair is there)
        return f": {shown(is_.name)} is in the layer but not listed", is_.name, None
    if is_ is None:
        return f": {shown(says.name)} is listed but not in the layer", None, says.name
    unequal = [name for name in _FIELDS if getattr(says, name) != getattr(is_, name)]
    name = unequal[0]
    said, true = (_text(name, getattr(entry, name)) for entry in (says, is_))
    others = f" ({', '.join(unequal[1:])} differ too)" if len(unequal) > 1 else ""
    what = f" ({shown(is_.name)}): {name} is {shown(said)}, the layer gives {shown(true)}{others}"
    return what, true, said


def _text(name: str, value: Any) -> str:  # noqa: ANN401 (of a field)
    if name == "pax_records":
        value = {key: value[key] for key in sorted(value)}
    text = f"{value:#o}" if name == "mode" else str(value)
    return text if len(text) <= _MAX_VALUE_LEN else f"{text[:_MAX_VALUE_LEN]}…"


_Key = tuple[int, int]
"""Where a span starts in the compressed layer: its first byte, and the bits of it that count."""


def _keys(ztoc: Ztoc) -> list[_Key]:
    spans = ztoc.spans
    return list(zip(spans["compressed_start"].tolist(), spans["bits"].tolist(), strict=True))


def _checkpoints(stored: Ztoc, made: Ztoc) -> Iterator[Finding]:
    if stored.compression_algorithm != "gzip" or made.compression_algorithm != "gzip":
        return
    there = {key: span_id for span_id, key in enumerate(_keys(made))}
    starts = (stored.spans["uncompressed_start"], made.spans["uncompressed_start"])
    wrong: list[tuple[int, int | None]] = []
    windows: list[int] = []
    matched = 0
    for span_id, key in enumerate(_keys(stored)):
        twin = there.get(key)
        if twin is None or starts[0][span_id] != starts[1][twin]:
            wrong.append((span_id, twin))
        else:
            matched += 1
            if stored.window(span_id) != made.window(twin):
                windows.append(span_id)
    if wrong:
        yield _checkpoint_finding(stored, made, wrong)
    elif matched < made.span_count:
        yield note(
            "ztoc.checkpoints",
            f"ztoc {stored.digest}: has {matched} of the {made.span_count} checkpoints that the "
            f"layer gives at span size {made.span_size}; they are right, spans are larger",
        )
    if windows:
        yield _window_finding(stored, made.window(there[_keys(stored)[windows[0]]]), windows)


def _checkpoint_finding(
    stored: Ztoc, made: Ztoc, wrong: Sequence[tuple[int, int | None]]
) -> Finding:
    span_id, twin = wrong[0]
    # Without a twin the one of the same number is what was most likely meant.
    nearest = min(span_id, made.span_count - 1) if twin is None else twin
    says, is_ = _place(stored, span_id), _place(made, nearest)
    return Finding(
        "ztoc.checkpoint",
        f"ztoc {stored.digest}: checkpoint of span {span_id} is at {says}, the layer gives {is_}"
        f"{_more(wrong, 'checkpoints differ')}",
        expected=is_,
        actual=says,
    )


def _place(ztoc: Ztoc, span_id: int) -> str:
    row = ztoc.spans[span_id]
    return (
        f"compressed byte {row['compressed_start']} with {row['bits']} bits, "
        f"uncompressed byte {row['uncompressed_start']}"
    )


def _window_finding(stored: Ztoc, true: bytes, wrong: Sequence[int]) -> Finding:
    span_id = wrong[0]
    return window_finding(stored, span_id, true, more=_more(wrong, "windows differ"))


def window_finding(stored: Ztoc, span_id: int, true: bytes, *, more: str = "") -> Finding:
    """Return that the window of a span is not the output before it, which is `true`."""
    window = stored.window(span_id)
    at = next(at for at, (says, is_) in enumerate(zip(window, true, strict=True)) if says != is_)
    return Finding(
        "ztoc.window",
        f"ztoc {stored.digest}: window of span {span_id} differs from the layer at byte {at} of "
        f"{len(window)}{more}",
        expected=f"sha256:{hashlib.sha256(true).hexdigest()}",
        actual=f"sha256:{hashlib.sha256(window).hexdigest()}",
    )


def _span_digests(stored: Ztoc, made: Ztoc, span_bytes: SpanBytes) -> Iterator[Finding]:
    known = dict(zip(_ranges(made), made.spans["sha256"].tolist(), strict=True))
    ranges = _ranges(stored)
    # Spans of false checkpoints are no spans: to read the layer for them would tell nothing.
    truthful = set(_keys(stored)) <= set(_keys(made))
    wrong = []
    for span_id, (range_, says) in enumerate(
        zip(ranges, stored.spans["sha256"].tolist(), strict=True)
    ):
        is_ = known.get(range_)
        if is_ is None and truthful:
            is_ = _digest_of(span_bytes(*range_))
        if is_ is not None and says != is_:
            wrong.append((span_id, says, is_))
    if wrong:
        span_id, says, is_ = wrong[0]
        yield Finding(
            "ztoc.span",
            f"ztoc {stored.digest}: digest of span {span_id} (compressed bytes "
            f"{ranges[span_id][0]} to {ranges[span_id][1]}) is sha256:{says.hex()}, the layer "
            f"gives sha256:{is_.hex()}{_more(wrong, 'span digests differ')}",
            expected=f"sha256:{is_.hex()}",
            actual=f"sha256:{says.hex()}",
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


def _more(found: Sequence[object], what: str) -> str:
    return f"; {len(found) - 1} more {what}" if len(found) > 1 else ""
