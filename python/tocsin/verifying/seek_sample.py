"""Checks of a random sample of a seek table, without reading whole layers.

Some spans of each layer are read with the seek table, as readers do: their digests must match, they
must inflate, and they must end with the window of the next span. Some chunks of the file list are
read, and the tar headers of some of their files are compared with the list.

Source: docs/seek-table.md#parts.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, SeekTableError, TarError, VerificationError
from tocsin.images.seek_tables import PROBLEMS
from tocsin.model.finding import Finding
from tocsin.quoting import shown
from tocsin.tar.headers import BLOCK_SIZE, read_headers
from tocsin.verifying.findings import note
from tocsin.verifying.sample import MAX_SPAN_SIZE, sample
from tocsin.verifying.seek import DAMAGED
from tocsin.verifying.unreadable import missing, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.layers.seek_contents import CheckpointReader, DataPlace, ListedEntry
    from tocsin.stores.base import Source
    from tocsin.tar.headers import EntryHeaders
    from tocsin.verifying.seek import SeekLayerCheck, SeekTableCheck

_WINDOW_LEN = 1 << 15
_FILES_PER_CHUNK = 2
"""Number of files whose headers are read, for each chunk of the file list in the sample."""
_MAX_HEADERS_SIZE = 1 << 20
_PERMISSIONS = 0o7777


def sample_layer(
    store: Source,
    check: SeekLayerCheck,
    span_ids: list[int],
    fetch: Callable[[int, int], bytes],
) -> None:
    """Check some spans of a layer.

    Args:
        store: store that contains the image.
        check: receives the findings.
        span_ids: ids of the spans to check, in ascending order.
        fetch: returns a range of the layer as stored.
    """
    spans = check.table.readable_contents.spans(check.number)
    if spans is None:  # reported with the position map
        return
    if not store.has_blob(check.blob):
        check.findings.append(missing("seek_layer", check.blob))
        return
    for span_id in span_ids:
        if not add_chunks(store, check, spans, span_id):
            return
        check.findings += _span(check, spans, span_id, fetch)
        check.checked_spans += 1


def add_chunks(store: Source, check: SeekLayerCheck, spans: CheckpointReader, span_id: int) -> bool:
    """Add the chunks with the checkpoints of a span and of the next one."""
    for one in {span_id, min(span_id + 1, spans.span_count - 1)}:
        chunk = spans.chunk_of(one)
        if spans.has_chunk(chunk):
            continue
        range_ = check.table.readable_contents.seek_chunk_range(check.number, chunk)
        try:
            spans.add_chunk(chunk, store.blob_range(check.blob, *range_))
        except DAMAGED as error:
            place = f"seek blob {check.blob.digest}: seek chunk {chunk}"
            check.findings.append(Finding("seek_layer.chunk", f"{place}: {error.message}"))
            return False
        except PROBLEMS as error:
            check.findings.append(unreadable(error, "seek_layer", str(check.blob.digest)))
            return False
    return True


def _span(
    check: SeekLayerCheck, spans: CheckpointReader, span_id: int, fetch: Callable[[int, int], bytes]
) -> Iterator[Finding]:
    place = f"seek blob {check.blob.digest}"
    start, end = spans.compressed_range(span_id)
    first, last = spans.uncompressed_range(span_id)
    if max(end - start, last - first) > MAX_SPAN_SIZE:
        yield note(
            "seek_layer.sample",
            f"{place}: span {span_id} is larger than {MAX_SPAN_SIZE >> 20} MiB and was not checked",
        )
        return
    compressed = fetch(start, end)
    try:
        data = spans.inflate(span_id, compressed)
    except VerificationError as error:
        yield Finding(
            "seek_layer.span",
            f"{place}: digest of span {span_id} (compressed bytes {start} to {end}) is "
            f"{error.expected} in the seek table, {error.actual} in the layer",
            expected=error.actual,
            actual=error.expected,
        )
        return
    except (SeekTableError, FormatError) as error:
        yield Finding(
            "seek_layer.checkpoint",
            f"{place}: span {span_id} does not inflate from its checkpoint: {error.message}",
        )
        return
    if span_id + 1 < spans.span_count:
        yield from _next_window(place, spans, span_id, data)


def _next_window(
    place: str, spans: CheckpointReader, span_id: int, data: bytes
) -> Iterator[Finding]:
    """Compare the end of a span with the part of the next span's window that lies in it."""
    for start, run in spans.checkpoint(span_id + 1).runs:
        # Offset of the run in `data`; negative if the run begins before the span.
        at = len(data) - _WINDOW_LEN + start
        cut = max(0, -at)
        expected = data[at + cut : at + len(run)] if len(run) > cut else b""
        actual = run[cut : cut + len(expected)]
        if actual != expected:
            first = next(i for i in range(len(expected)) if actual[i] != expected[i])
            yield Finding(
                "seek_layer.window",
                f"{place}: byte {start + cut + first} of the window of checkpoint {span_id + 1} is "
                f"{actual[first]:#04x} in the seek table, {expected[first]:#04x} in the layer",
                expected=f"{expected[first]:#04x}",
                actual=f"{actual[first]:#04x}",
            )
            return


# The file list


def sample_list(store: Source, check: SeekTableCheck, *, seed: int) -> None:
    """Check some chunks of the file list, and the headers of some of their files.

    Args:
        store: store that contains the image.
        check: receives the findings; its layers have been sampled.
        seed: seed of the random numbers; equal seeds give equal samples.
    """
    contents, manifest = check.contents, check.manifest
    if contents is None or manifest is None or not store.has_blob(manifest.file_list):
        return
    for chunk in sample(contents.list_chunk_count, seed=seed, name=str(check.digest)):
        range_ = contents.list_chunk_range(chunk)
        try:
            contents.add_list_chunk(chunk, store.blob_range(manifest.file_list, *range_))
        except DAMAGED as error:
            check.add("file_list.chunk", f"file list chunk {chunk}: {error.message}")
            continue
        except PROBLEMS as error:
            check.findings.append(unreadable(error, "file_list", str(manifest.file_list.digest)))
            return
        files = [one for one in contents.chunk_entries(chunk) if one.place is not None]
        # random hashes a text seed the same way in every process, and the sample is not secret.
        chance = random.Random(f"{seed} {chunk}")  # noqa: S311
        for entry in chance.sample(files, min(_FILES_PER_CHUNK, len(files))):
            check.findings += _headers(store, check, entry)
            check.checked_entries += 1


def _headers(store: Source, check: SeekTableCheck, entry: ListedEntry) -> Iterator[Finding]:
    """Compare an entry of the file list with the headers in its layer."""
    place = entry.place
    assert place is not None  # noqa: S101 (as selected)
    layer = check.layers[place.layer]
    spans = check.readable_contents.spans(place.layer)
    length = place.header_blocks * BLOCK_SIZE
    name = f"seek table {check.digest}: entry {shown(entry.path)}"
    if not 0 < length <= min(place.offset, _MAX_HEADERS_SIZE):
        yield note("file_list.sample", f"{name}: its headers were not checked")
        return
    # Missing blobs were reported with the layer, and zstd layers can only be read in full.
    present = store.has_blob(layer.blob) and store.has_blob(layer.layer)
    start = place.offset - length
    if spans is None or not spans.span_count or not present:
        return
    for span_id in spans.span_ids(start, place.offset):
        if not add_chunks(store, layer, spans, span_id):
            return

    def fetch(first: int, end: int) -> bytes:
        return store.blob_range(layer.layer, first, end)

    try:
        found = read_headers(spans.read(start, place.offset, fetch), start)
    except TarError as error:
        what = f"no tar header {place.header_blocks} blocks before its data: {error.message}"
        yield Finding("file_list.entry", f"{name}: {what}")
    except (NotFoundError, VerificationError, FormatError) as error:
        yield Finding("seek_layer.span", f"{name}: cannot be read: {error.message}")
    else:
        yield from _header_differences(name, entry, place, found)


def _header_differences(
    name: str, entry: ListedEntry, place: DataPlace, found: EntryHeaders
) -> Iterator[Finding]:
    size, mode, uid, gid = found.columns
    values = entry.values
    pairs: list[tuple[str, object, object]] = [
        ("path in the layer", place.path, found.path.strip("/")),
        ("size", place.size, size),
        ("offset", place.offset, found.data_offset),
    ]
    if place.has_owner:
        pairs += [
            ("mode", f"{values['mode']:#o}", f"{mode & _PERMISSIONS:#o}"),
            ("owner", f"{values['uid']}:{values['gid']}", f"{uid}:{gid}"),
        ]
    for what, actual, expected in pairs:
        if actual != expected:
            yield Finding(
                "file_list.entry",
                f"{name}: {what} is {shown(str(actual))} in the file list, {shown(str(expected))} "
                "in the layer",
                expected=str(expected),
                actual=str(actual),
            )
            return
