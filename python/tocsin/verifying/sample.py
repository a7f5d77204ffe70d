"""Checks of a random sample of a layer's spans against its zTOC, without reading the whole layer.

For each span, four checks are made: its digest matches, it inflates from its checkpoint, it ends
with the window of the next span, and its tar headers match the entries of the TOC.

Source: docs/format.md#acceptance-rules.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from tocsin.errors import FormatError, TarError, VerificationError
from tocsin.model.finding import Finding
from tocsin.quoting import shown
from tocsin.tar.headers import BLOCK_SIZE, gzip_header_len, read_headers
from tocsin.verifying.difference import window_finding
from tocsin.verifying.findings import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.file_metadata import FileMetadata
    from tocsin.tar.headers import EntryHeaders

SAMPLE_SIZE = 4
"""Number of spans checked per layer, including the first and the last one."""
MAX_SPAN_SIZE = 256 << 20
"""Maximum bytes of a span, compressed or not; larger ones could exhaust memory and are skipped."""

_WINDOW_LEN = 1 << 15
_MAX_GZIP_HEADER = 1 << 16


def sample(span_count: int, *, seed: int, name: str) -> list[int]:
    """Return the ids of the spans to check, in ascending order.

    Args:
        span_count: number of spans in the layer.
        seed: seed of the random numbers; equal seeds give equal samples.
        name: name of the layer, so that layers with equal span counts get different samples.
    """
    if span_count <= SAMPLE_SIZE:
        return list(range(span_count))
    # random hashes a text seed the same way in every process, and the sample is not secret.
    chance = random.Random(f"{seed} {name}")  # noqa: S311
    between = chance.sample(range(1, span_count - 1), SAMPLE_SIZE - 2)
    return sorted([0, *between, span_count - 1])


def check_spans(
    ztoc: Ztoc, span_ids: list[int], fetch: Callable[[int, int], bytes]
) -> Iterator[Finding]:
    """Yield the differences between a zTOC and some spans of its layer.

    Args:
        ztoc: the zTOC to check.
        span_ids: ids of the spans to check, in ascending order.
        fetch: returns the compressed bytes in a half-open range.
    """
    if ztoc.compression_algorithm == "gzip":
        yield from _gzip_header(ztoc, fetch)
    headers = _header_ranges(ztoc)
    for span_id in span_ids:
        start, end = ztoc.span_range(span_id)
        inflated_start, inflated_end = _uncompressed_range(ztoc, span_id)
        if max(end - start, inflated_end - inflated_start) > MAX_SPAN_SIZE:
            yield note(
                "ztoc.sample",
                f"ztoc {ztoc.digest}: span {span_id} is larger than {MAX_SPAN_SIZE >> 20} MiB and "
                "was not checked",
            )
            continue
        compressed = fetch(start, end)
        try:
            data = ztoc.read_span(span_id, compressed, inflated_start, inflated_end)
        except VerificationError as error:
            yield _digest_finding(ztoc, span_id, error)
            continue
        except FormatError as error:
            yield Finding(
                "ztoc.checkpoint",
                f"ztoc {ztoc.digest}: span {span_id} does not inflate from its checkpoint: {error}",
            )
            continue
        yield from _next_window(ztoc, span_id, data)
        yield from _entries(ztoc, headers, inflated_start, data)


def _uncompressed_range(ztoc: Ztoc, span_id: int) -> tuple[int, int]:
    row = ztoc.spans[span_id]
    start, end = int(row["uncompressed_start"]), int(row["uncompressed_end"])
    # The last span of a gzip layer ends with the stream; reading to the end of the tar suffices.
    return start, max(start, ztoc.uncompressed_archive_size) if end < 0 else end


def _digest_finding(ztoc: Ztoc, span_id: int, error: VerificationError) -> Finding:
    start, end = ztoc.span_range(span_id)
    return Finding(
        "ztoc.span",
        f"ztoc {ztoc.digest}: digest of span {span_id} (compressed bytes {start} to {end}) is "
        f"{error.expected} in the zTOC, {error.actual} in the layer",
        expected=error.actual,
        actual=error.expected,
    )


def _next_window(ztoc: Ztoc, span_id: int, data: bytes) -> Iterator[Finding]:
    """Compare the end of an inflated span with the next span's window; the first is all zeros."""
    if ztoc.compression_algorithm != "gzip":
        return
    if span_id == 0 and any(ztoc.window(0)):
        yield window_finding(ztoc, 0, bytes(_WINDOW_LEN))
    if span_id + 1 < ztoc.span_count:
        expected = (ztoc.window(span_id) + data[-_WINDOW_LEN:])[-_WINDOW_LEN:]
        if ztoc.window(span_id + 1) != expected:
            yield window_finding(ztoc, span_id + 1, expected)


def _header_ranges(ztoc: Ztoc) -> list[tuple[int, int, int]]:
    """Return (start of header, start of data, entry index) in the order of the layer.

    A header starts at the end of the previous entry. After a sparse file, that is only a guess,
    because the layer stores less than the size of the file.
    """
    files = ztoc.files
    starts = files["uncompressed_offset"]
    # Links and devices may have a size, but they have no data.
    sizes = np.where(files["type"] == b"reg", files["uncompressed_size"], 0).tolist()
    order = starts.argsort(kind="stable").tolist()
    ranges = []
    header = 0
    for index in order:
        data = int(starts[index])
        ranges.append((header, data, index))
        header = -(-(data + sizes[index]) // BLOCK_SIZE) * BLOCK_SIZE
    return ranges


def _entries(
    ztoc: Ztoc, ranges: list[tuple[int, int, int]], start: int, data: bytes
) -> Iterator[Finding]:
    wrong = []
    before: int | None = None
    end_before: int | None = None
    for guess, at, index in ranges:
        header = guess if end_before is None else end_before
        is_guess, end_before = end_before is None, None
        # Overlapping entries break an acceptance rule, which is reported separately.
        if start <= header < at <= start + len(data):
            entry = ztoc.entries[index]
            found = _headers(data[header - start : at - start], header)
            problem = _header_problem(entry, found, header, at)
            if found is not None:
                end_before = found.end
            elif is_guess and before is not None and ztoc.entries[before].is_sparse:
                problem = None  # the end of the sparse file is unknown
            if problem is not None:
                wrong.append((index, entry.name, problem))
        before = index
    if wrong:
        index, name, (what, expected, actual) = wrong[0]
        more = f"; {len(wrong) - 1} more entries in this span differ" if len(wrong) > 1 else ""
        yield Finding(
            "ztoc.file",
            f"ztoc {ztoc.digest}: entry {index} ({shown(name)}): {what}{more}",
            expected=expected,
            actual=actual,
        )


def _headers(stretch: bytes, start: int) -> EntryHeaders | None:
    try:
        return read_headers(stretch, start)
    except TarError:
        return None


def _header_problem(
    entry: FileMetadata, found: EntryHeaders | None, start: int, end: int
) -> tuple[str, str | None, str | None] | None:
    """Return a description of the first difference, the value in the layer and in the zTOC."""
    if found is None or found.data_offset != end:
        length = None if found is None else str(found.data_offset - start)
        return "no tar header at the end of the previous entry", length, str(end - start)
    size, mode, uid, gid = found.columns
    pairs: tuple[tuple[str, object, object], ...] = (
        ("name", found.name, entry.name),
        ("type", found.type, entry.type),
        ("uncompressed_size", size, entry.uncompressed_size),
        ("mode", oct(mode), oct(entry.mode)),
        ("owner", f"{uid}:{gid}", f"{entry.uid}:{entry.gid}"),
        ("linkname", found.linkname, entry.linkname),
    )
    for what, in_layer, in_ztoc in pairs:
        if in_layer != in_ztoc:
            actual, expected = str(in_ztoc), str(in_layer)
            problem = f"{what} is {shown(actual)} in the zTOC, {shown(expected)} in the layer"
            return problem, expected, actual
    return None


def _gzip_header(ztoc: Ztoc, fetch: Callable[[int, int], bytes]) -> Iterator[Finding]:
    """Check acceptance rule 4: span 0 starts after a gzip header."""
    end = ztoc.span_range(0)[0]
    data = fetch(0, min(end, _MAX_GZIP_HEADER))
    length = gzip_header_len(data)
    if length is None or length > end:
        yield Finding(
            "ztoc.checkpoint",
            f"ztoc {ztoc.digest}: checkpoint of span 0 is at compressed byte {end}, which is not "
            "after a gzip header",
            expected=None if length is None else str(length),
            actual=str(end),
        )
