"""A zTOC in memory; expected values come from `support.ztocfile`, ``tarfile`` and ``zlib``."""

import gzip
import hashlib
import io
import mmap
import os
import tarfile
import threading
from array import array
from datetime import datetime
from pathlib import PurePosixPath

import numpy as np
import pytest

from support import tarmaker, ztocfile
from support.streams import Shape
from tocsin import (
    FILES_DTYPE,
    SPANS_DTYPE,
    FileMetadata,
    NotFoundError,
    UnsupportedError,
    VerificationError,
    Ztoc,
    ZtocError,
    build_ztoc,
)

TEXT = b"".join(b"line %d\n" % n for n in range(30_000))
PLAIN = tarmaker.tar(
    tarmaker.entry("d/", type=tarfile.DIRTYPE, mode=0o755),
    tarmaker.entry(
        "d/text",
        TEXT,
        mode=0o4755,
        uid=1000,
        gid=1001,
        uname="u",
        gname="g",
        pax={"mtime": "1700000000.25", "SCHILY.xattr.user.k": "v"},
    ),
    tarmaker.entry("d/empty"),
    tarmaker.entry("d/same", type=tarfile.LNKTYPE, linkname="d/text"),
    tarmaker.entry("again", type=tarfile.LNKTYPE, linkname="./d/same"),
    tarmaker.entry("there", type=tarfile.SYMTYPE, linkname="d/text"),
    tarmaker.entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mtime=1),
    tarmaker.entry("pipe", type=tarfile.FIFOTYPE),
    tarmaker.entry("last", b"the end", mtime=-6, format=tarfile.GNU_FORMAT),
)
LAYER = Shape(mem_level=2).compress(PLAIN)
SPAN_SIZE = 20_000


@pytest.fixture(scope="module")
def ztoc():
    return build_ztoc(LAYER, span_size=SPAN_SIZE)


@pytest.fixture(scope="module")
def blob(ztoc):
    return ztocfile.parse(ztoc.to_bytes())


def built(*entries, span_size=SPAN_SIZE):
    """Return the zTOC of a gzip layer with `entries`, and the layer."""
    layer = gzip.compress(tarmaker.tar(*entries), mtime=0)
    return build_ztoc(layer, span_size=span_size), layer


# Properties


def test_ztoc_when_read_then_fields_are_those_of_the_blob(ztoc, blob):
    assert (ztoc.version, ztoc.build_tool_identifier) == ("0.9", "AWS SOCI CLI v0.2")
    assert blob.fields["version"] == ztoc.version
    assert blob.fields["tool"] == ztoc.build_tool_identifier
    assert ztoc.compressed_archive_size == blob.fields["compressed_size"] == len(LAYER)
    assert ztoc.uncompressed_archive_size == blob.fields["uncompressed_size"] == len(PLAIN)
    assert ztoc.span_size == blob.span_size == SPAN_SIZE
    assert ztoc.span_count == blob.fields["max_span_id"] + 1 == len(blob.checkpoints)
    assert ztoc.span_count > 5
    assert ztoc.compression_algorithm == "gzip"
    assert ztoc.reader_refusals() == []
    digest = hashlib.sha256(ztoc.to_bytes()).hexdigest()
    assert (ztoc.digest, ztoc.size) == (f"sha256:{digest}", len(ztoc.to_bytes()))
    assert repr(ztoc) == (
        f"<Ztoc gzip {len(LAYER)} bytes, 9 entries, {len(blob.checkpoints)} spans>"
    )


def test_ztoc_when_equal_then_its_bytes_are_equal(ztoc):
    same = Ztoc.from_bytes(bytearray(ztoc.to_bytes()))
    other = build_ztoc(LAYER, span_size=SPAN_SIZE + 1)
    assert same == ztoc
    assert hash(same) == hash(ztoc)
    assert other != ztoc
    assert ztoc != ztoc.to_bytes()
    assert {ztoc, same, other} == {ztoc, other}


def test_ztoc_when_of_a_plain_tar_then_spans_are_slices_of_one_size():
    ztoc = build_ztoc(PLAIN, span_size=100_000)
    assert ztoc.compression_algorithm == "uncompressed"
    assert ztoc.span_count == -(-len(PLAIN) // 100_000)
    assert ztoc.spans["bits"].tolist() == [0] * ztoc.span_count
    assert ztoc.spans["uncompressed_end"].tolist()[-1] == len(PLAIN)
    assert ztoc.cat("d/text", PLAIN) == TEXT
    with pytest.raises(IndexError, match="has no window"):
        ztoc.window(0)


def test_ztoc_when_of_an_empty_plain_tar_then_no_rows():
    ztoc = build_ztoc(b"")
    assert (ztoc.span_count, len(ztoc.files), len(ztoc.spans)) == (0, 0, 0)
    assert (ztoc.paths, list(ztoc.entries)) == ([], [])
    assert ztoc.files.dtype == FILES_DTYPE
    with pytest.raises(IndexError, match="no span holds"):
        ztoc.span_of(0)
    with pytest.raises(IndexError, match="last span is -1"):
        ztoc.span_range(0)


# Arrays


def test_files_when_accessed_then_columns_are_those_of_the_blob(ztoc, blob):
    assert ztoc.files.dtype == FILES_DTYPE
    assert not ztoc.files.flags.writeable
    assert ztoc.files is ztoc.files
    for row, entry in zip(ztoc.files, blob.entries, strict=True):
        assert row["type"] == entry["type"]
        assert row["uncompressed_offset"] == entry["offset"]
        assert row["uncompressed_size"] == entry["size"]
        for name in ("mode", "uid", "gid", "devmajor", "devminor"):
            assert row[name] == entry[name]
    times = dict(zip(ztoc.paths, ztoc.files["mod_time"], strict=True))
    assert times["d/text"] == np.datetime64("2023-11-14T22:13:20.250000")
    assert times["null"] == np.datetime64("1970-01-01T00:00:01")
    assert times["last"] == np.datetime64("1969-12-31T23:59:54")
    assert isinstance(times["last"].item(), datetime)


def test_files_when_a_time_is_out_of_range_then_not_a_time():
    far = tarmaker.entry("far", pax={"mtime": "253402300800"})
    near = tarmaker.entry("near", pax={"mtime": "253402300799.9999999"})
    ztoc, _ = built(far, near)
    assert np.isnat(ztoc.files["mod_time"][0])
    assert ztoc.files["mod_time"][1] == np.datetime64("9999-12-31T23:59:59.999999")
    assert [entry.mod_time for entry in ztoc.entries] == ["", "9999-12-31T23:59:59.9999999Z"]


def test_files_when_accessed_then_spans_are_those_of_the_data(ztoc, blob):
    starts = blob.uncompressed_starts
    for path, row, entry in zip(ztoc.paths, ztoc.files, blob.entries, strict=True):
        held = range(row["first_span"], row["end_span"])
        if entry["type"] != b"reg" or entry["size"] == 0:
            assert len(held) == 0, path
            continue
        first, end = entry["offset"], entry["offset"] + entry["size"]
        expected = [
            at
            for at, start in enumerate(starts)
            if start < end and (at + 1 == len(starts) or starts[at + 1] > first)
        ]
        assert list(held) == expected == list(ztoc.spans_for(path))


def test_spans_when_accessed_then_columns_are_those_of_the_blob(ztoc, blob):
    assert ztoc.spans.dtype == SPANS_DTYPE
    assert not ztoc.spans.flags.writeable
    assert ztoc.spans["bits"].tolist() == [point.bits for point in blob.checkpoints]
    assert any(ztoc.spans["bits"])
    starts = blob.uncompressed_starts
    assert ztoc.spans["uncompressed_start"].tolist() == starts
    assert ztoc.spans["uncompressed_end"].tolist() == [*starts[1:], -1]
    for span_id, (start, end) in enumerate(blob.compressed_ranges):
        span = ztoc.spans[span_id]
        assert (span["compressed_start"], span["compressed_end"]) == (start, end)
        assert ztoc.span_range(span_id) == (start, end)
        assert span["sha256"].tobytes() == hashlib.sha256(LAYER[start:end]).digest()


# Entries


def test_entries_when_accessed_then_a_sequence_of_values(ztoc, blob):
    entries = ztoc.entries
    assert len(entries) == len(blob.entries) == 9
    assert entries[1] == FileMetadata(
        name="d/text",
        type="reg",
        uncompressed_offset=blob.entries[1]["offset"],
        uncompressed_size=len(TEXT),
        linkname="",
        mode=0o4755,
        uid=1000,
        gid=1001,
        uname="u",
        gname="g",
        mod_time="2023-11-14T22:13:20.25Z",
        devmajor=0,
        devminor=0,
        pax_records={b"mtime": b"1700000000.25", b"SCHILY.xattr.user.k": b"v"},
    )
    assert entries[-1] == entries[8] == list(entries)[8]
    assert entries[1:3] == [entries[1], entries[2]]
    assert entries[::-1][0] == entries[8]
    for index in (9, -10):
        with pytest.raises(IndexError, match=str(index)):
            entries[index]


def test_entry_when_a_path_is_not_normalized_then_the_same_entry(ztoc):
    for path in ("d/text", "/d/text", "./d/text", "d//text", "x/../d/text"):
        assert ztoc.entry(path).name == "d/text"
    assert ztoc.entry("d").name == ztoc.entry("/d/").name == "d/"
    with pytest.raises(NotFoundError, match="d/nope"):
        ztoc.entry("d/nope")


def test_entry_when_a_name_is_not_utf8_then_its_bytes_are_preserved():
    name = os.fsdecode(b"caf\xe9/\xff")
    ztoc, layer = built(tarmaker.entry(name, b"x", format=tarfile.GNU_FORMAT, uname="\udce9"))
    assert ztoc.paths == [name]
    assert os.fsencode(ztoc.entries[0].name) == b"caf\xe9/\xff"
    assert os.fsencode(ztoc.entries[0].uname) == b"\xe9"
    assert ztoc.cat(name, layer) == b"x"
    again = Ztoc.from_bytes(ztoc.to_bytes())
    assert again.paths == [name]


def test_entry_when_a_name_occurs_twice_then_the_last_is_used():
    ztoc, layer = built(tarmaker.entry("a", b"first"), tarmaker.entry("./a", b"second"))
    assert ztoc.entry("a").name == "./a"
    assert ztoc.cat("a", layer) == b"second"


# Spans


def test_span_of_when_between_two_spans_then_the_later_one(ztoc, blob):
    starts = blob.uncompressed_starts
    for span_id, start in enumerate(starts):
        assert ztoc.span_of(start) == span_id
        if span_id:
            assert ztoc.span_of(start - 1) == span_id - 1
    assert ztoc.span_of(len(PLAIN) + 10**9) == len(starts) - 1
    for offset in (-1, 1 << 64):
        with pytest.raises(IndexError, match=str(offset)):
            ztoc.span_of(offset)


def test_span_when_it_does_not_exist_then_index_error(ztoc):
    for span_id in (-1, ztoc.span_count, 1 << 32, 1 << 64):
        with pytest.raises(IndexError):
            ztoc.span_range(span_id)
        with pytest.raises(IndexError):
            ztoc.window(span_id)
        with pytest.raises(IndexError):
            ztoc.inflate_span(span_id, b"")


def test_spans_for_when_a_file_has_no_data_then_empty(ztoc):
    for path in ("d", "d/empty", "there", "null", "pipe"):
        assert list(ztoc.spans_for(path)) == []
    assert ztoc.spans_for("again") == ztoc.spans_for("d/text")
    with pytest.raises(NotFoundError):
        ztoc.spans_for("nope")


def test_inflate_span_when_bytes_differ_then_not_inflated(ztoc):
    start, end = ztoc.span_range(1)
    good = LAYER[start:end]
    flipped = bytes([good[0] ^ 1]) + good[1:]
    with pytest.raises(VerificationError) as refusal:
        ztoc.inflate_span(1, flipped)
    assert refusal.value.expected == f"sha256:{hashlib.sha256(good).hexdigest()}"
    assert refusal.value.actual == f"sha256:{hashlib.sha256(flipped).hexdigest()}"
    with pytest.raises(VerificationError) as refusal:
        ztoc.inflate_span(1, good[:-1])
    assert (refusal.value.expected, refusal.value.actual) == (str(len(good)), str(len(good) - 1))


# Files


@pytest.mark.parametrize("path", ["d/text", "d/same", "again"])
def test_cat_when_a_layer_is_a_path_file_or_bytes_then_the_same_data(ztoc, tmp_path, path):
    file = tmp_path / "layer"
    file.write_bytes(LAYER)
    with file.open("rb") as opened, file.open("rb", buffering=0) as raw:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        layers = [file, str(file), opened, raw, mapped, io.BytesIO(LAYER)]
        layers += [LAYER, bytearray(LAYER), memoryview(LAYER)]
        for layer in layers:
            assert ztoc.cat(path, layer) == TEXT
        assert not opened.closed
        mapped.close()


def test_cat_when_a_view_has_wide_items_then_offsets_are_still_bytes():
    layer = PLAIN + bytes(-len(PLAIN) % 8)
    ztoc = build_ztoc(memoryview(array("Q", layer)), span_size=30_000)
    assert ztoc == build_ztoc(layer, span_size=30_000)
    assert ztoc.cat("last", memoryview(array("Q", layer))) == b"the end"


def test_read_when_a_file_has_several_spans_then_yielded_span_by_span(ztoc, blob):
    pieces = list(ztoc.read("d/text", LAYER))
    assert len(pieces) == len(ztoc.spans_for("d/text")) > 5
    assert b"".join(pieces) == TEXT
    assert all(pieces)


@pytest.mark.parametrize("threads", [1, 2, 3, 8, None])
def test_read_when_threads_differ_then_the_same_and_all_threads_end(ztoc, threads):
    before = set(threading.enumerate())
    pieces = list(ztoc.read("d/text", LAYER, threads=threads))
    assert pieces == list(ztoc.read("d/text", LAYER, threads=1))
    assert ztoc.cat("d/text", io.BytesIO(LAYER), threads=threads) == TEXT
    given = ztoc.read("d/text", LAYER, threads=threads)
    assert next(given) == pieces[0]
    given.close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_read_when_a_span_is_damaged_then_earlier_ones_are_yielded(ztoc, threads):
    ztoc = Ztoc.from_bytes(ztoc.to_bytes())  # without spans cached by other tests
    spans = ztoc.spans_for("d/text")
    start, end = ztoc.span_range(spans[3])
    damaged = bytearray(LAYER)
    damaged[(start + end) // 2] ^= 1
    good = list(ztoc.read("d/text", LAYER))
    given = ztoc.read("d/text", damaged, threads=threads)
    assert [next(given) for _ in range(3)] == good[:3]
    with pytest.raises(VerificationError, match=f"span {spans[3]}"):
        next(given)


def test_read_when_threads_is_0_then_value_error(ztoc):
    with pytest.raises(ValueError, match="threads is 0"):
        ztoc.read("d/text", LAYER, threads=0)


def test_cat_when_other_spans_are_missing_then_they_are_not_read(ztoc):
    start, end = ztoc.span_range(ztoc.spans_for("last")[0])
    torn = bytes(start) + LAYER[start:end]
    assert ztoc.cat("last", torn) == b"the end"
    with pytest.raises(VerificationError):
        ztoc.cat("d/text", torn)


class CountedReads(io.BytesIO):
    """A layer that counts how often its bytes are read."""

    read_count = 0

    def read(self, size=-1, /):
        self.read_count += 1
        return super().read(size)


def test_cat_when_many_files_share_a_span_then_it_is_read_once():
    names = [f"f{number}" for number in range(100)]
    ztoc, layer = built(*(tarmaker.entry(name, name.encode()) for name in names), span_size=1 << 20)
    source = CountedReads(layer)
    assert [ztoc.cat(name, source) for name in names] == [name.encode() for name in names]
    assert (ztoc.span_count, source.read_count) == (1, 1)


def test_cat_when_another_layer_is_given_then_its_own_bytes_are_verified():
    ztoc, layer = built(tarmaker.entry("f", b"right"), span_size=1 << 20)
    assert ztoc.cat("f", layer) == b"right"
    damaged = bytearray(layer)
    damaged[len(layer) // 2] ^= 1
    with pytest.raises(VerificationError, match="span 0 digest"):
        ztoc.cat("f", damaged)


def test_cat_when_a_path_is_a_pathlib_object_then_accepted(ztoc):
    path = PurePosixPath("/d/text")
    assert ztoc.cat(path, LAYER) == b"".join(ztoc.read(path, LAYER)) == TEXT
    assert ztoc.entry(path) == ztoc.entry("d/text")
    assert ztoc.spans_for(path) == ztoc.spans_for("d/text")
    with pytest.raises(TypeError, match="path is bytes, expected str"):
        ztoc.cat(b"d/text", LAYER)


def test_extract_when_called_by_its_old_name_then_it_works_and_warns(ztoc):
    with pytest.warns(
        DeprecationWarning, match="Ztoc.extract is deprecated, use Ztoc.cat"
    ) as warned:
        assert ztoc.extract("d/text", LAYER, threads=1) == TEXT
    assert warned[0].filename == __file__


def test_cat_when_a_file_is_empty_then_nothing_is_read(ztoc):
    assert ztoc.cat("d/empty", b"") == b""


@pytest.mark.parametrize("layer", [LAYER, PLAIN], ids=["gzip", "plain"])
def test_cat_when_the_ztoc_claims_too_many_bytes_then_verification_error(layer):
    good = build_ztoc(layer, span_size=SPAN_SIZE).to_bytes()
    last = ztocfile.parse(good).tables["toc"].tables("metadata", ztocfile.ENTRY)[-1]
    at = last.places["size"]
    lying = Ztoc.from_bytes(good[:at] + (1 << 20).to_bytes(8, "little") + good[at + 8 :])
    given = lying.read("last", layer)
    with pytest.raises(VerificationError, match="before the end of the file") as refusal:
        b"".join(given)
    assert refusal.value.expected == str(1 << 20)
    assert int(refusal.value.actual) < len(PLAIN)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("there", "symlink to d/text"),
        ("d", "found dir"),
        ("null", "found char"),
        ("pipe", "found fifo"),
    ],
)
def test_cat_when_not_a_regular_file_then_the_error_names_its_type(ztoc, path, said):
    with pytest.raises(NotFoundError, match=said):
        ztoc.cat(path, LAYER)


@pytest.mark.parametrize(
    "layer", [LAYER[:-1], LAYER[1:], b"", bytes(len(LAYER)), gzip.compress(PLAIN, mtime=0)]
)
def test_cat_when_the_layer_is_another_one_then_no_data_is_returned(ztoc, layer):
    with pytest.raises(VerificationError):
        ztoc.cat("last", layer)


def test_cat_when_a_sparse_file_then_unsupported(tmp_path):
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    records |= {"GNU.sparse.name": "sparse", "GNU.sparse.realsize": "100000"}
    data = tarmaker.padded(b"1\n99995\n5\n") + b"data."
    ztoc, layer = built(tarmaker.entry("GNUSparseFile.0/sparse", data, pax=records))
    assert ztoc.entry("sparse").is_sparse
    with pytest.raises(UnsupportedError, match="sparse"):
        ztoc.cat("sparse", layer)


def test_cat_when_a_link_target_is_replaced_then_the_link_keeps_the_file():
    plain = tarmaker.tar(
        tarmaker.entry("a", b"old"),
        tarmaker.entry("link", type=tarfile.LNKTYPE, linkname="a"),
        tarmaker.entry("a", b"new"),
    )
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert archive.extractfile("link").read() == b"old"
    ztoc = build_ztoc(plain)
    assert ztoc.cat("link", plain) == b"old"
    assert ztoc.cat("a", plain) == b"new"
    assert ztoc.spans_for("link") == range(1)


def test_cat_when_links_are_dangling_then_not_found():
    link = {"type": tarfile.LNKTYPE}
    ztoc, layer = built(
        tarmaker.entry("a", linkname="b", **link),
        tarmaker.entry("b", linkname="a", **link),
        tarmaker.entry("self", linkname="self", **link),
        tarmaker.entry("early", linkname="late", **link),
        tarmaker.entry("late", b"x"),
    )
    for path in ("a", "b", "self", "early"):
        with pytest.raises(NotFoundError, match="hard link"):
            ztoc.cat(path, layer)


def test_cat_when_a_link_replaces_its_target_then_the_earlier_file():
    ztoc, layer = built(
        tarmaker.entry("a", b"x"), tarmaker.entry("a", type=tarfile.LNKTYPE, linkname="a")
    )
    assert ztoc.cat("a", layer) == b"x"


# Blobs


def test_from_bytes_when_a_blob_is_truncated_or_corrupt_then_refused(ztoc):
    blob = ztoc.to_bytes()
    for bad in (b"", b"x", blob[:100], blob[: len(blob) // 2], blob[4:], b"\xff" * 1000):
        with pytest.raises(ZtocError) as refusal:
            Ztoc.from_bytes(bad)
        assert refusal.value.what.startswith("ztoc.")
        assert refusal.value.offset.startswith("ztoc byte ")


def test_from_bytes_when_another_tool_wrote_it_then_its_own_digest(ztoc):
    # Bytes after the root are not read, so this is another blob of the same zTOC.
    blob = ztoc.to_bytes() + bytes(8)
    again = Ztoc.from_bytes(blob)
    assert again.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert again.size == len(blob)
    assert again.to_bytes() == ztoc.to_bytes()
    assert again.cat("last", LAYER) == b"the end"


@pytest.mark.parametrize(
    "entries",
    [
        [tarmaker.entry("a", linkname="late", type=tarfile.LNKTYPE), tarmaker.entry("late")],
        [tarmaker.entry("far", pax={"mtime": "253402300800"})],
        [tarmaker.entry("l", type=tarfile.SYMTYPE, linkname="x", size=9999), tarmaker.entry("b")],
    ],
)
def test_reader_refusals_when_the_reference_refuses_then_entries_are_named(entries):
    ztoc, _ = built(*entries)
    assert ztoc.reader_refusals()
    for refusal in ztoc.reader_refusals():
        assert refusal.entry_index is not None
        assert refusal.span_id is None
        assert f"toc entry {refusal.entry_index} " in str(refusal) == refusal.text
    assert Ztoc.from_bytes(ztoc.to_bytes()).reader_refusals() == ztoc.reader_refusals()
