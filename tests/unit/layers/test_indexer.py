"""One pass over one layer: sources, results and errors."""

import gzip
import hashlib
import io
import random
import subprocess
import sys
import tarfile
import textwrap
import zlib
from contextlib import closing, nullcontext
from itertools import pairwise

import pytest

from support import tarmaker, ztocfile
from support.streams import Shape
from tocsin import (
    FormatError,
    GzipError,
    TarError,
    UnsupportedError,
    ZtocError,
    build_ztoc,
    index_layer,
    processors,
)
from tocsin.layers.indexer import PIECE_SIZE, Hazard, LayerPass
from tocsin.model.events import Advanced

PLAIN = tarmaker.tar(tarmaker.entry("a", b"hello" * 5000), tarmaker.entry("b", b"x"))
LAYER = gzip.compress(PLAIN, mtime=0)
EMPTY_MEMBER = gzip.compress(b"", mtime=0)
ZSTD = bytes.fromhex("28b52ffd") + bytes(20)


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# Sources


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_pass_when_for_reading_then_global_headers_are_accepted(compress, threads):
    plain = tarmaker.global_header({"comment": "of git archive"}) + PLAIN
    layer = gzip.compress(plain, mtime=0) if compress else plain
    with pytest.raises(TarError, match="type 'g'"):
        build_ztoc(layer, threads=threads)
    reading = LayerPass(threads=threads, for_reading=True)
    reading.push(layer)
    ztoc = reading.finish().ztoc
    assert ztoc.paths == ["a", "b"]
    assert ztoc.entries[0].uncompressed_offset == len(plain) - len(PLAIN) + 512


# Results


def test_index_layer_when_gzip_then_all_fields_are_returned():
    found = index_layer(LAYER, diff_id=True)
    assert (found.format, found.digest, found.size) == ("gzip", sha256(LAYER), len(LAYER))
    assert (found.diff_id, found.uncompressed_size) == (sha256(PLAIN), len(PLAIN))
    assert (found.hazards, found.dropped_checkpoint_count) == ((), 0)
    assert found.ztoc == build_ztoc(LAYER)
    assert index_layer(LAYER).diff_id is None


def test_index_layer_when_plain_then_digest_and_diff_id_are_equal():
    found = index_layer(PLAIN)
    assert (found.format, found.digest, found.diff_id) == (
        "uncompressed",
        sha256(PLAIN),
        sha256(PLAIN),
    )
    assert (found.size, found.uncompressed_size) == (len(PLAIN), len(PLAIN))


def test_index_layer_when_bytes_follow_the_tar_then_sizes_differ():
    plain = PLAIN + bytes(8192)
    found = index_layer(gzip.compress(plain, mtime=0), diff_id=True)
    assert found.uncompressed_size == len(plain)
    assert found.diff_id == sha256(plain)
    assert found.ztoc.uncompressed_archive_size == len(PLAIN)


@pytest.mark.parametrize(
    ("entries", "needed"),
    [
        ([tarmaker.entry("a", pax={"mtime": "1.5", "comment": "x"})], False),
        ([tarmaker.entry("a", pax={"SCHILY.xattr.user.x": "1"})], True),
        ([tarmaker.entry("a", pax={"LIBARCHIVE.xattr.user.x": "1"})], False),
        ([tarmaker.entry("d/.wh..wh..opq")], True),
        ([tarmaker.entry("d/.wh.a")], False),
        ([], False),
    ],
)
def test_index_layer_when_entries_need_xattrs_then_needs_xattrs(entries, needed):
    assert index_layer(tarmaker.tar(*entries)).needs_xattrs is needed


SPARSE = {
    "GNU.sparse.major": "1",
    "GNU.sparse.minor": "0",
    "GNU.sparse.name": "s",
    "GNU.sparse.realsize": "100000",
}
HAZARDS = {
    "sparse-file": [
        tarmaker.entry("S/s", tarmaker.padded(b"1\n99995\n5\n") + b"data.", pax=SPARSE)
    ],
    "size-without-data": [tarmaker.entry("l", type=tarfile.SYMTYPE, linkname="x", size=5)],
    "wide-owner": [tarmaker.entry("u", b"x", uid=1 << 32, format=tarfile.GNU_FORMAT)],
    "impossible-year": [tarmaker.entry("y", pax={"mtime": "253402300800"})],
    "link-target-not-earlier": [
        tarmaker.entry("h", type=tarfile.LNKTYPE, linkname="later"),
        tarmaker.entry("later"),
    ],
}
"""Entries that the builder accepts and the reader refuses: docs/format.md#broken-for-readers."""


@pytest.mark.parametrize("kind", HAZARDS)
def test_index_layer_when_readers_would_refuse_then_hazards_are_returned(kind):
    plain = tarmaker.tar(tarmaker.entry("before"), *HAZARDS[kind], tarmaker.entry("after"))
    for layer in (plain, gzip.compress(plain)):
        found = index_layer(layer)
        (hazard,) = found.hazards
        assert isinstance(hazard, Hazard)
        assert (hazard.entry_index, hazard.kind) == (1, kind)
        assert hazard.reason
        assert len(found.ztoc.entries) == len(HAZARDS[kind]) + 2
        assert index_layer(layer, reference_identical=True).hazards == found.hazards


def test_index_layer_when_checkpoints_precede_output_then_one_is_kept():
    layer = EMPTY_MEMBER * 2 + LAYER
    found = index_layer(layer)
    assert found.dropped_checkpoint_count == 2
    assert found.ztoc.span_count == 1
    assert found.ztoc.reader_refusals() == []
    assert found.ztoc.span_range(0)[0] == len(EMPTY_MEMBER) * 2 + 10
    identical = index_layer(layer, reference_identical=True)
    assert identical.dropped_checkpoint_count == 0
    points = ztocfile.parse(identical.ztoc.to_bytes()).checkpoints
    member = len(EMPTY_MEMBER)
    assert [(point.compressed, point.uncompressed) for point in points] == [
        (10, 0),
        (member + 10, 0),
        (2 * member + 10, 0),
    ]
    assert identical.ztoc.reader_refusals()
    for ztoc in (found.ztoc, identical.ztoc):
        assert ztoc.cat("a", layer) == b"hello" * 5000


# Pieces


@pytest.mark.parametrize("size", [0, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, 3 * PIECE_SIZE])
def test_index_layer_when_read_in_pieces_then_progress_counts_to_the_size(tmp_path, size):
    path = tmp_path / "layer"
    path.write_bytes(bytes(size))
    for source in (path, str(path), path.open("rb"), bytes(size), bytearray(size)):
        seen = []
        with closing(source) if isinstance(source, io.IOBase) else nullcontext():
            index_layer(source, progress=seen.append)
        assert seen[0] == Advanced(0, size)
        assert {event.total for event in seen} == {size}
        steps = [after.done - before.done for before, after in pairwise(seen)]
        assert sum(steps) == size
        assert all(0 < step <= PIECE_SIZE for step in steps)


@pytest.mark.parametrize("make", [io.BytesIO, lambda layer: iter([layer])])
def test_index_layer_when_the_size_is_unknown_then_progress_has_no_total(make):
    seen = []
    index_layer(make(LAYER), progress=seen.append)
    assert seen == [Advanced(0, None), Advanced(len(LAYER), None)]


def test_index_layer_when_progress_raises_then_it_stops():
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_layer(LAYER, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        build_ztoc(LAYER, progress=stop)


def test_index_layer_when_a_source_fails_then_its_error_is_raised():
    def pieces():
        yield LAYER[:5]
        raise OSError(5, "input/output error")

    with pytest.raises(OSError, match="input/output error"):
        index_layer(pieces())


def test_index_layer_when_the_path_is_bad_then_os_error(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        index_layer(tmp_path / "nope")
    assert missing.value.filename == str(tmp_path / "nope")
    with pytest.raises(IsADirectoryError):
        index_layer(str(tmp_path))


def test_index_layer_when_a_file_is_text_then_type_error(tmp_path):
    path = tmp_path / "layer"
    path.write_text("text")
    with path.open() as file, pytest.raises(TypeError, match="binary mode"):
        index_layer(file)
    for source in (["text"], [1, 2]):
        with pytest.raises(TypeError):
            index_layer(source)


def test_index_layer_when_pieces_are_empty_then_they_do_not_end_the_layer():
    pieces = [b"", LAYER[:1], b"", LAYER[1:20], b"", LAYER[20:], b""]
    assert index_layer(pieces).ztoc == build_ztoc(LAYER)


def test_index_layer_when_a_file_has_no_bytes_yet_then_blocking_io_error():
    class Unready(io.RawIOBase):
        """Return ``None``, as a non-blocking source does when more bytes may still arrive."""

        def __init__(self):
            self._answers = [PLAIN[:20_000], None, PLAIN[20_000:], b""]

        def read(self, size=-1):
            return self._answers.pop(0)

    with pytest.raises(BlockingIOError):
        index_layer(Unready())


# Formats


@pytest.mark.parametrize(
    ("layer", "said", "error", "message"),
    [
        (ZSTD, None, UnsupportedError, "zstd"),
        (ZSTD, "gzip", FormatError, "found zstd, expected gzip"),
        (ZSTD, "uncompressed", FormatError, "found zstd"),
        (LAYER, "uncompressed", FormatError, "found gzip"),
        (PLAIN, "gzip", GzipError, "0x61"),
        (b"\x1f", None, TarError, "ends inside"),
        (b"\x1f", "gzip", GzipError, "ends inside"),
        (b"\x1f\x8b", None, GzipError, "ends inside"),
        (b"", "gzip", GzipError, "ends inside"),
    ],
)
def test_index_layer_when_the_format_differs_then_the_error_names_both(layer, said, error, message):
    for source in (layer, [layer[at : at + 1] for at in range(len(layer))]):
        with pytest.raises(error, match=message) as refusal:
            index_layer(source, format=said)
        assert type(refusal.value) is error
    if error is FormatError:
        assert (refusal.value.what, refusal.value.offset) == ("layer.format", None)


def test_index_layer_when_empty_and_format_is_none_then_an_empty_tar():
    found = index_layer(b"")
    assert (found.format, found.size, len(found.ztoc.entries)) == ("uncompressed", 0, 0)
    # docs/format.md#the-ztoc-blob, the digests to check against
    assert found.ztoc.digest == (
        "sha256:adea60c2769acec3e7efdf8c3a78d809921af5a25afc10e66a57bc7ca2cbac37"
    )


@pytest.mark.parametrize(
    ("layer", "size", "digest"),
    [
        (bytes(1024), 280, "b9801d474a9e314e3ea0a153179a0aa36cdc2459861624b9b97d3ff5bf80031d"),
        (
            bytes.fromhex("1f8b08000000000002030300") + bytes(8),
            33016,
            "73e2aa60cbcb62f11ded7edc2132803cdc65dd146e32d37c6c0aa19ec7d51116",
        ),
    ],
)
def test_build_ztoc_when_the_layer_is_minimal_then_as_the_vector(layer, size, digest):
    ztoc = build_ztoc(layer)  # as above
    assert (ztoc.size, ztoc.digest) == (size, f"sha256:{digest}")


@pytest.mark.parametrize("value", [-1, 1 << 63])
def test_layer_when_the_span_size_is_invalid_then_value_error(value):
    with pytest.raises(ValueError, match=rf"span_size: .* \(found {value}\)"):
        index_layer(LAYER, span_size=value)


def test_layer_when_span_size_is_0_then_one_span_a_block_and_no_tar():
    layer = Shape(cuts=(512, 9000), flush=zlib.Z_SYNC_FLUSH).compress(PLAIN)
    assert build_ztoc(layer, span_size=0).span_count > 2
    for said in (None, "uncompressed"):
        with pytest.raises(ZtocError) as refusal:
            index_layer(PLAIN, span_size=0, format=said)
        assert refusal.value.what == "ztoc.value"


def test_layer_when_the_format_is_unknown_then_value_error():
    with pytest.raises(ValueError, match="zstd"):
        index_layer(LAYER, format="zstd")


# LayerPass


def test_pass_when_it_has_finished_then_it_cannot_be_used_again():
    layer = LayerPass()
    layer.push(LAYER)
    assert layer.finish().digest == sha256(LAYER)
    with pytest.raises(RuntimeError, match="already finished"):
        layer.push(b"x")
    with pytest.raises(RuntimeError, match="already finished"):
        layer.finish()


def test_pass_when_it_has_failed_then_it_cannot_be_used_again():
    layer = LayerPass(format="gzip")
    with pytest.raises(GzipError):
        layer.push(PLAIN)
    with pytest.raises(RuntimeError):
        layer.push(LAYER)
    with pytest.raises(RuntimeError):
        layer.finish()


def test_pass_when_a_piece_is_any_buffer_then_accepted():
    layer = LayerPass()
    for piece in (LAYER[:5], bytearray(LAYER[5:9]), memoryview(LAYER)[9:20], LAYER[20:]):
        layer.push(piece)
    assert layer.finish().digest == sha256(LAYER)
    with pytest.raises(BufferError):
        LayerPass().push(memoryview(LAYER)[::2])


def test_pass_when_two_threads_push_two_layers_then_independent():
    # Free-threaded or not: the state belongs to the pass.
    script = """
        import gzip, threading
        from tocsin.layers.indexer import LayerPass
        layers = [gzip.compress(bytes(512 * n)) for n in range(2, 40)]
        passes = [LayerPass() for _ in layers]
        def run(layer, one):
            for at in range(len(layer)):
                one.push(layer[at : at + 1])
        threads = [threading.Thread(target=run, args=a) for a in zip(layers, passes)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(*(one.finish().uncompressed_size // 512 for one in passes))
    """
    out = subprocess.run(  # noqa: S603 (this interpreter)
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=True, timeout=60
    ).stdout
    assert list(map(int, out.split())) == list(range(2, 40))


# Threads

THREADS = [1, 2, 3, 8]
LARGE = gzip.compress(
    tarmaker.tar(
        tarmaker.entry("words", b"".join(b"line %d of many\n" % n for n in range(600_000))),
        tarmaker.entry("noise", random.Random(3).randbytes(3 << 20)),  # noqa: S311 (to be large)
        tarmaker.entry("zeros", bytes(2 << 20)),
    ),
    6,
    mtime=0,
)
"""A layer of several MiB, since small ones are indexed in a single thread."""


@pytest.mark.parametrize("threads", THREADS)
def test_index_layer_when_threads_differ_then_the_result_is_the_same(threads, tmp_path):
    (tmp_path / "layer").write_bytes(LARGE)
    alone = index_layer(LARGE, span_size=1 << 20, diff_id=True, threads=1)
    pieces = [LARGE[at : at + 70_001] for at in range(0, len(LARGE), 70_001)]
    for source in (LARGE, tmp_path / "layer", pieces):
        found = index_layer(source, span_size=1 << 20, diff_id=True, threads=threads)
        assert found == alone
        assert found.ztoc.to_bytes() == alone.ztoc.to_bytes()
    ztoc = build_ztoc(LARGE, span_size=1 << 20, threads=threads)
    assert ztoc.to_bytes() == alone.ztoc.to_bytes()


@pytest.mark.parametrize("threads", THREADS)
def test_index_layer_when_damaged_and_threads_differ_then_the_same_error(threads):
    damaged = bytearray(LARGE)
    damaged[len(LARGE) // 2] ^= 0x10
    with pytest.raises(FormatError) as alone:
        index_layer(damaged, threads=1)
    with pytest.raises(FormatError) as refusal:
        index_layer(damaged, threads=threads)
    found, expected = refusal.value, alone.value
    assert (type(found), str(found), found.offset) == (
        type(expected),
        str(expected),
        expected.offset,
    )


@pytest.mark.parametrize("threads", [0, -1])
def test_layer_when_threads_is_0_then_value_error(threads):
    for index in (index_layer, build_ztoc):
        with pytest.raises(ValueError, match=f"threads is {threads}, expected 1 or more"):
            index(LAYER, threads=threads)
    with pytest.raises(ValueError, match="threads is"):
        LayerPass(threads=threads)


def test_pass_when_threads_is_none_then_all_processors(monkeypatch):
    asked = []
    monkeypatch.setattr(processors, "available", lambda: asked.append(True) or 3)
    LayerPass()
    LayerPass(threads=2)
    assert asked == [True]


def test_pass_when_dropped_before_its_end_then_its_threads_end():
    layer = LayerPass(threads=3)
    layer.push(LARGE[: len(LARGE) // 2])
    del layer
    assert index_layer(LARGE, threads=3).size == len(LARGE)
