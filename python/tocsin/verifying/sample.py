"""A random sample of a layer's spans, held against its zTOC without reading the whole layer.

What some spans can show: their digests, that they inflate from their checkpoints, that their end is
the next span's window, and that the tar headers in them are those of the TOC's entries. Files are
found as the reference's reader finds them: a header begins where the entry before it ends
(soci-format 6.4, rule 7).
"""

from __future__ import annotations

import io
import random
import tarfile
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, VerificationError
from tocsin.quoting import shown
from tocsin.verifying.difference import window_finding
from tocsin.verifying.findings import Finding, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.file_metadata import FileMetadata

SAMPLE_SIZE = 4
"""Spans of a layer that are looked at, the first and the last among them."""
MAX_SPAN_SIZE = 256 << 20
"""A larger span, compressed or not, is passed over: it would be held in memory whole."""

_WINDOW_LEN = 1 << 15
_BLOCK = 512
_MAX_GZIP_HEADER = 1 << 16
_GZIP_FIXED_LEN = 10
_TYPES = {
    tarfile.REGTYPE: "reg",
    tarfile.AREGTYPE: "reg",
    tarfile.LNKTYPE: "hardlink",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.DIRTYPE: "dir",
    tarfile.FIFOTYPE: "fifo",
}


def sample(span_count: int, *, seed: int, name: str) -> list[int]:
    """Return the ids of the spans to look at, ascending.

    Args:
        span_count: of the layer.
        seed: the same gives the same spans.
        name: of what is sampled, so that layers of equally many spans get different ones.
    """
    if span_count <= SAMPLE_SIZE:
        return list(range(span_count))
    # Text seeds are hashed by random itself, alike in every process; no secret depends on it.
    chance = random.Random(f"{seed} {name}")  # noqa: S311
    between = chance.sample(range(1, span_count - 1), SAMPLE_SIZE - 2)
    return sorted([0, *between, span_count - 1])


def check_spans(
    ztoc: Ztoc, span_ids: list[int], fetch: Callable[[int, int], bytes]
) -> Iterator[Finding]:
    """Yield what some spans of a layer show to be untrue of its zTOC.

    Args:
        ztoc: what is said.
        span_ids: which to look at, ascending.
        fetch: from a half-open range of compressed bytes to those bytes.
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
                "was not looked at",
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
    # The last span of a gzip layer goes on to the end of the stream; the tar's end is enough.
    return start, max(start, ztoc.uncompressed_archive_size) if end < 0 else end


def _digest_finding(ztoc: Ztoc, span_id: int, error: VerificationError) -> Finding:
    start, end = ztoc.span_range(span_id)
    return Finding(
        "ztoc.span",
        f"ztoc {ztoc.digest}: digest of span {span_id} (compressed bytes {start} to {end}) is "
        f"{error.expected}, the layer gives {error.actual}",
        expected=error.actual,
        actual=error.expected,
    )


def _next_window(ztoc: Ztoc, span_id: int, data: bytes) -> Iterator[Finding]:
    """Compare what was inflated with the window of the span after it; the first has only zeros."""
    if ztoc.compression_algorithm != "gzip":
        return
    if span_id == 0 and any(ztoc.window(0)):
        yield window_finding(ztoc, 0, bytes(_WINDOW_LEN))
    if span_id + 1 < ztoc.span_count:
        true = (ztoc.window(span_id) + data[-_WINDOW_LEN:])[-_WINDOW_LEN:]
        if ztoc.window(span_id + 1) != true:
            yield window_finding(ztoc, span_id + 1, true)


def _header_ranges(ztoc: Ztoc) -> list[tuple[int, int, int]]:
    """Return (start of header, start of data, entry index) in the order a reader derives them."""
    files = ztoc.files
    starts, sizes = files["uncompressed_offset"], files["uncompressed_size"]
    order = starts.argsort(kind="stable").tolist()
    ranges = []
    header = 0
    for index in order:
        data = int(starts[index])
        ranges.append((header, data, index))
        header = -(-(data + int(sizes[index])) // _BLOCK) * _BLOCK
    return ranges


def _entries(
    ztoc: Ztoc, headers: list[tuple[int, int, int]], start: int, data: bytes
) -> Iterator[Finding]:
    wrong = []
    for header, at, index in headers:
        # What overlaps is a refusal of the zTOC itself, told elsewhere.
        if start <= header < at <= start + len(data):
            entry = ztoc.entries[index]
            problem = _header_problem(entry, data[header - start : at - start])
            if problem is not None:
                wrong.append((index, entry.name, problem))
    if wrong:
        index, name, (what, expected, actual) = wrong[0]
        more = f"; {len(wrong) - 1} more entries of this span differ" if len(wrong) > 1 else ""
        yield Finding(
            "ztoc.file",
            f"ztoc {ztoc.digest}: entry {index} ({shown(name)}): {what}{more}",
            expected=expected,
            actual=actual,
        )


def _header_problem(
    entry: FileMetadata, header: bytes
) -> tuple[str, str | None, str | None] | None:
    """Return how an entry differs from its header, the layer's value and the zTOC's."""
    found = _parse(header)
    if found is None or found.offset_data != len(header):
        length = None if found is None else str(found.offset_data)
        return "has no header where the entry before it ends", length, str(len(header))
    pairs: tuple[tuple[str, object, object], ...] = (
        ("name", found.name.rstrip("/"), entry.name.rstrip("/")),
        ("type", _TYPES.get(found.type, "unknown"), entry.type),
        ("uncompressed_size", found.size, entry.uncompressed_size),
        ("mode", oct(found.mode), oct(entry.mode)),
        ("linkname", found.linkname if entry.linkname else "", entry.linkname),
    )
    for what, is_, says in pairs:
        if is_ != says and not (what == "uncompressed_size" and entry.is_sparse):
            said, true = str(says), str(is_)
            return f"{what} is {shown(said)}, the layer gives {shown(true)}", true, said
    return None


def _parse(header: bytes) -> tarfile.TarInfo | None:
    try:
        with tarfile.open(
            fileobj=io.BytesIO(header), mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            return tar.next()
    except (tarfile.TarError, ValueError, OverflowError):
        return None


def _gzip_header(ztoc: Ztoc, fetch: Callable[[int, int], bytes]) -> Iterator[Finding]:
    """Check rule 4: before span 0 there is a gzip header."""
    end = ztoc.span_range(0)[0]
    data = fetch(0, min(end, _MAX_GZIP_HEADER))
    length = gzip_header_len(data)
    if length is None or length > end:
        yield Finding(
            "ztoc.checkpoint",
            f"ztoc {ztoc.digest}: checkpoint of span 0 is at compressed byte {end}, where no gzip "
            "header has ended",
            expected=None if length is None else str(length),
            actual=str(end),
        )


def gzip_header_len(data: bytes) -> int | None:
    """Return the bytes of the gzip header that `data` begins with (RFC 1952 §2.3).

    Returns:
        ``None`` when there is none, or `data` ends within it.
    """
    if len(data) < _GZIP_FIXED_LEN or data[:3] != b"\x1f\x8b\x08":
        return None
    flags = data[3]
    at = _GZIP_FIXED_LEN
    if flags & 4:  # FEXTRA
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (8, 16):  # FNAME, FCOMMENT: to the zero byte
        if flags & flag:
            zero = data.find(b"\0", at)
            if zero < 0:
                return None
            at = zero + 1
    if flags & 2:  # FHCRC
        at += 2
    return at if at <= len(data) else None
