"""Differences between the seek blob of a layer and the one rebuilt from the layer.

A checkpoint need not be where tocsin would put it, as long as its span can be read. If the rebuilt
blob does not have a checkpoint, the span is therefore inflated and compared with the layer.

Source: docs/seek-table.md#parts.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from tocsin.errors import FormatError, SeekTableError, VerificationError
from tocsin.layers.seek_contents import CheckpointReader
from tocsin.model.finding import Finding
from tocsin.verifying.findings import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tocsin.layers.seek_contents import Start
    from tocsin.layers.seek_table import SeekBlob

_WINDOW_LEN = 1 << 15
_SIZES = ("compression", "compressed size", "uncompressed size")


class _Wrong(NamedTuple):
    """A wrong value of a checkpoint or span."""

    span_id: int
    what: str
    expected: str | None
    actual: str | None


def layer_differences(
    name: str,
    stored: SeekBlob,
    rebuilt: SeekBlob,
    compressed_bytes: Callable[[int, int], bytes],
) -> list[Finding]:
    """Return the differences between a seek blob and its layer; empty if they are equal.

    Args:
        name: digest of the stored blob.
        stored: the stored blob.
        rebuilt: the blob rebuilt from the layer, with the same span size.
        compressed_bytes: returns a range of the layer as stored.
    """
    if stored.blob == rebuilt.blob:
        return []
    place = f"seek blob {name}"
    try:
        spans = CheckpointReader.of_blob(stored)
    except (SeekTableError, VerificationError) as error:
        return [Finding("seek_layer.chunk", f"{place}: {error.message}")]
    expected = CheckpointReader.of_blob(rebuilt)
    findings = list(_sizes(place, spans, expected))
    if findings:
        return findings
    findings = list(_Comparison(place, spans, expected, compressed_bytes).findings())
    if not findings:
        findings = [
            note("seek_layer.encoding", f"{place}: matches the layer but is encoded differently")
        ]
    return findings


def _sizes(place: str, stored: CheckpointReader, rebuilt: CheckpointReader) -> Iterator[Finding]:
    for what, actual, expected in zip(_SIZES, stored.sizes, rebuilt.sizes, strict=True):
        if actual != expected:
            yield Finding(
                "seek_layer.layer",
                f"{place}: {what} of the layer is {actual} in the seek table, {expected} in the "
                "layer",
                expected=str(expected),
                actual=str(actual),
            )


class _Comparison:
    """Compares the checkpoints and spans of a stored seek blob with those of a rebuilt one."""

    def __init__(
        self,
        place: str,
        stored: CheckpointReader,
        rebuilt: CheckpointReader,
        compressed_bytes: Callable[[int, int], bytes],
    ) -> None:
        self._place = place
        self._stored = stored
        self._rebuilt = rebuilt
        self._compressed_bytes = compressed_bytes
        self._wrong: dict[str, list[_Wrong]] = {}
        self._elsewhere: list[int] = []
        self._excess: list[int] = []

    def findings(self) -> Iterator[Finding]:
        rebuilt = self._rebuilt
        known = {rebuilt.position(at): at for at in range(rebuilt.span_count)}
        digests = {
            rebuilt.compressed_range(at): rebuilt.checkpoint(at).digest
            for at in range(rebuilt.span_count)
        }
        for span_id in range(self._stored.span_count):
            match = known.get(self._stored.position(span_id))
            expected = digests.get(self._stored.compressed_range(span_id))
            if match is None:
                self._compare_inflated(span_id)
                continue
            self._compare_start(span_id, match)
            self._compare_window(span_id, match)
            self._compare_digest(span_id, expected)
        for kind, label in (
            ("checkpoint", "checkpoints are"),
            ("start", "starts are"),
            ("window", "windows are"),
            ("span", "span digests are"),
        ):
            yield from self._found(kind, label)
        yield from self._notes()

    def _found(self, kind: str, label: str) -> Iterator[Finding]:
        wrong = self._wrong.get(kind)
        if not wrong:
            return
        first = wrong[0]
        more = f"; {len(wrong) - 1} more {label} wrong" if len(wrong) > 1 else ""
        chunk = self._stored.chunk_of(first.span_id)
        yield Finding(
            f"seek_layer.{kind}",
            f"{self._place}: {first.what} (seek chunk {chunk}){more}",
            expected=first.expected,
            actual=first.actual,
        )

    def _notes(self) -> Iterator[Finding]:
        if self._elsewhere:
            yield note(
                "seek_layer.checkpoints",
                f"{self._place}: {len(self._elsewhere)} of {self._stored.span_count} checkpoints "
                f"are not where tocsin puts them (the first is checkpoint {self._elsewhere[0]}), "
                "but their spans match the layer",
            )
        if self._excess:
            yield note(
                "seek_layer.excess",
                f"{self._place}: {len(self._excess)} windows have bytes that no span refers to "
                f"(the first is the window of checkpoint {self._excess[0]})",
            )

    def _add(
        self, kind: str, span_id: int, what: str, expected: str | None, actual: str | None
    ) -> None:
        self._wrong.setdefault(kind, []).append(_Wrong(span_id, what, expected, actual))

    def _compare_start(self, span_id: int, match: int) -> None:
        actual, expected = (
            _text(spans.checkpoint(at).start)
            for spans, at in ((self._stored, span_id), (self._rebuilt, match))
        )
        if actual != expected:
            what = f"checkpoint {span_id} is {actual} in the seek table, {expected} in the layer"
            self._add("start", span_id, what, expected, actual)

    def _compare_window(self, span_id: int, match: int) -> None:
        runs = self._stored.checkpoint(span_id).runs
        needed = self._rebuilt.checkpoint(match).runs
        if runs == needed:
            return
        window, is_known = _expand(runs)
        correct, is_needed = _expand(needed)
        for at in range(_WINDOW_LEN):
            if not is_needed[at] or (is_known[at] and window[at] == correct[at]):
                continue
            found = f"{window[at]:#04x}" if is_known[at] else "missing"
            what = (
                f"byte {at} of the window of checkpoint {span_id} is {found} in the seek table, "
                f"{correct[at]:#04x} in the layer"
            )
            self._add("window", span_id, what, f"{correct[at]:#04x}", found)
            return
        self._excess.append(span_id)

    def _compare_digest(self, span_id: int, expected: str | None) -> None:
        start, end = self._stored.compressed_range(span_id)
        if expected is None:  # the next checkpoint is somewhere else
            data = self._compressed_bytes(start, end)
            expected = f"sha256:{hashlib.sha256(data).hexdigest()}"
        actual = self._stored.checkpoint(span_id).digest
        if actual != expected:
            what = (
                f"digest of span {span_id} (compressed bytes {start} to {end}) is {actual} in the "
                f"seek table, {expected} in the layer"
            )
            self._add("span", span_id, what, expected, actual)

    def _compare_inflated(self, span_id: int) -> None:
        """Inflate a span whose checkpoint is not in the rebuilt blob, and compare its bytes."""
        uncompressed, bit = self._stored.position(span_id)
        place = f"checkpoint {span_id} (compressed bit {bit}, uncompressed byte {uncompressed})"
        start, end = self._stored.uncompressed_range(span_id)
        compressed = self._compressed_bytes(*self._stored.compressed_range(span_id))
        try:
            data = self._stored.inflate(span_id, compressed)
        except VerificationError as error:
            self._compare_digest(span_id, error.actual)
            return
        except (SeekTableError, FormatError) as error:
            what = f"{place}: its span does not inflate: {error.message}"
            self._add("checkpoint", span_id, what, None, None)
            return
        expected = self._rebuilt.read(start, end, self._compressed_bytes)
        if data == expected:
            self._elsewhere.append(span_id)
            return
        shorter = min(len(data), len(expected))
        at = next((at for at in range(shorter) if data[at] != expected[at]), shorter)
        what = f"{place}: its span differs from the layer at uncompressed byte {start + at}"
        self._add("checkpoint", span_id, what, _digest_of(expected), _digest_of(data))


def _text(start: Start) -> str:
    match start.kind:
        case "symbol":
            return f"inside a block with a header of {start.number} bits, {start.header.hex()}"
        case "stored":
            last = "the last" if start.is_last else "a"
            return f"inside {last} stored block with {start.number} bytes left"
        case kind:
            return f"at a {kind}"


def _expand(runs: Sequence[tuple[int, bytes]]) -> tuple[bytearray, bytearray]:
    """Return a window, and a 1 for each known byte."""
    window, is_known = bytearray(_WINDOW_LEN), bytearray(_WINDOW_LEN)
    for start, data in runs:
        window[start : start + len(data)] = data
        is_known[start : start + len(data)] = b"\1" * len(data)
    return window, is_known


def _digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
