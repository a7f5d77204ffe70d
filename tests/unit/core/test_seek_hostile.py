"""Roots and file lists that break a rule of docs/seek-table.md are rejected with a named error."""

from __future__ import annotations

import hashlib
import resource
import time
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from support import seekfile
from support.seekfile import Chunk, Entry, Layer, Table, chunk_of, frame, varint
from tocsin import _core
from tocsin.errors import PathError, SeekTableError, VerificationError

S = 256 << 10
ROOT = Entry(b"", b"", kind=1)
FILES = [
    ROOT,
    Entry(b"", b"a", kind=1),
    Entry(b"", b"b", size=5),
    Entry(b"", b"l", kind=2, target=b"a"),
    Entry(b"a", b"c", offset=1536, extra={"tar_name": b"x", "xattrs": [(b"k", b"v")]}),
]


def zstd_layer(**changes):
    return replace(Layer(b"\1" * 32, 2, 100, 4096, 0, 20), **changes)


def gzip_layer(spans=65):
    chunks = -(-spans // 64)
    return Layer(b"\2" * 32, 0, 10_000, spans * S, spans, 30, [7] * chunks, [b"\3" * 32] * chunks)


def positions(spans=65):
    return varint(0) * 2 + (varint(S) + varint(800)) * (spans - 1)


def table(entries=FILES, *, layers=None, size=1024):
    layers = [zstd_layer()] if layers is None else layers
    return seekfile.cut(Table(layers=layers), list(entries), size)


def add_all(table, **root):
    """Return the tree of a table, with all chunks."""
    tree = _core.SeekTree(_core.SeekRoot(table.root(**root)))
    for number, chunk in enumerate(table.chunks):
        tree.add_chunk(number, chunk.stored)
    return tree


def rejected(table, code, **root):
    with pytest.raises(SeekTableError) as caught:
        add_all(table, **root)
    assert caught.value.error_code == code


def with_content(content, **changes):
    """Return a table with one chunk of this content."""
    return replace(table(), chunks=[replace(chunk_of(FILES, content), **changes)])


def columns(**changes):
    """Return a table with other columns."""
    found = seekfile.columns_of(FILES)
    names = {name.replace("_", " "): data for name, data in changes.items()}
    assert set(names) <= set(found)
    return with_content(seekfile.content_of(found | names))


def test_table_when_valid_then_read():
    tree = add_all(table())
    assert [name for name, _ in tree.children("")] == ["a", "b", "l"]
    assert tree.find("l/c", True)[0] == "a/c"
    assert tree.data_place(4)[:5] == (0, 1536, 0, 1, "x")


# -- digests ---------------------------------------------------------------------------------------


def test_chunk_when_digest_differs_then_not_even_decompressed():
    found = table(size=2)
    tree = _core.SeekTree(_core.SeekRoot(found.root()))
    for data in [b"", found.chunk(1), found.chunk(0)[:-1], found.chunk(0) + b"\0", b"bomb" * 1000]:
        with pytest.raises(VerificationError):
            tree.add_chunk(0, data)
    assert tree.missing_chunks() == [0, 1, 2]
    with pytest.raises(SeekTableError):
        tree.add_chunk(3, found.chunk(0))


def test_position_map_when_digest_differs_then_verification_error():
    found = Table(layers=[gzip_layer()], map=positions())
    root = _core.SeekRoot(found.root())
    assert [spans.span_count for spans in root.positions(frame(found.map))] == [65]
    for data in [b"", frame(found.map)[:-1], frame(b"")]:
        with pytest.raises(VerificationError):
            root.positions(data)


# -- the root --------------------------------------------------------------------------------------


def test_root_when_truncated_or_longer_then_named_error():
    root = replace(table(size=2), layers=[gzip_layer()]).root()
    for size in range(len(root)):
        with pytest.raises(SeekTableError) as caught:
            _core.SeekRoot(root[:size])
        assert caught.value.error_code.startswith("seek.")
    with pytest.raises(SeekTableError) as caught:
        _core.SeekRoot(root + b"\0")
    assert caught.value.error_code == "seek.trailing-bytes"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"span_size": (64 << 10) - 1}, "seek.value"),
        ({"span_size": (64 << 20) + 1}, "seek.too-large"),
        ({"entries_per_chunk": 1023}, "seek.value"),
        ({"checkpoints_per_chunk": 65}, "seek.value"),
        ({"layers": [zstd_layer()] * 4097}, "seek.too-large"),
        ({"layers": [zstd_layer(compression=3)]}, "seek.value"),
        ({"layers": [zstd_layer(span_count=1)]}, "seek.value"),
        ({"layers": [zstd_layer(compression=0)]}, "seek.value"),
        ({"layers": [zstd_layer(compressed_size=1 << 61)]}, "seek.too-large"),
        ({"layers": [zstd_layer(uncompressed_size=1 << 61)]}, "seek.too-large"),
        ({"layers": [zstd_layer(head_len=1 << 32)]}, "seek.too-large"),
        ({"layers": [replace(gzip_layer(), span_count=1 << 23)]}, "seek.too-large"),
        ({"layers": [replace(gzip_layer(), digests=[])]}, "seek.too-large"),
        ({"layers": [replace(gzip_layer(), digests=[b"\0" * 32] * 3)]}, "seek.trailing-bytes"),
        ({"layers": [replace(gzip_layer(), chunks=[7, 1 << 32])]}, "seek.too-large"),
        ({"map": bytes(21)}, "seek.too-large"),
    ],
)
def test_root_when_a_number_is_wrong_then_named_error(changes, code):
    rejected(replace(table(), **changes), code)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"count": 0}, "seek.value"),
        ({"count": 1025}, "seek.too-large"),
        ({"size": (4 << 20) + 1}, "seek.too-large"),
        ({"key": b"no NUL"}, "seek.order"),
        ({"key": b"\0" + b"n" * 4096}, "seek.too-large"),
        ({"key": b""}, "seek.order"),
        ({"count": 4}, "seek.too-large"),
        ({"count": 6}, "seek.value"),
        ({"size": 1}, "seek.compression"),
        ({"key": b"\0a"}, "seek.order"),
    ],
)
def test_root_when_it_lies_about_a_chunk_then_named_error(changes, code):
    found = table()
    rejected(replace(found, chunks=[replace(found.chunks[0], **changes)]), code)


def test_root_when_first_keys_do_not_ascend_then_error():
    found = table(size=2)
    for order in [(1, 0, 2), (0, 2, 1), (0, 0, 1), (0, 1, 1)]:
        rejected(replace(found, chunks=[found.chunks[at] for at in order]), "seek.order")


def test_root_when_chunks_lack_digests_then_error_and_little_memory():
    many = [Chunk(b"", 0, 1, b"%06d\0" % number) for number in range(300_000)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rejected(replace(table(), chunks=many), "seek.too-large", digests=bytes(320))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10  # in KiB


def test_root_when_its_content_is_a_bomb_then_error():
    rejected(table(), "seek.too-large", content=bytes((64 << 20) + 1))
    rejected(table(), "seek.value", content=bytes(1 << 20))


def test_chunk_when_swapped_with_another_of_the_image_then_error():
    found = table(size=2)
    first, second, third = found.chunks
    swapped = [replace(second, key=first.key), replace(first, key=second.key), third]
    rejected(replace(found, chunks=swapped), "seek.order")


def test_chunk_when_its_last_key_is_in_the_next_chunk_then_error():
    chunks = [chunk_of(FILES), chunk_of(FILES[2:])]
    rejected(replace(table(), chunks=chunks), "seek.order")


# -- chunks of the file list -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"kind": 7}, "seek.value"),
        ({"implied": True}, "seek.value"),
        ({"layer": 1}, "seek.value"),
        ({"layer": 1 << 40}, "seek.value"),
        ({"mode": 0o10000}, "seek.too-large"),
        ({"owner": (1 << 32, 0, b"", b"")}, "seek.too-large"),
        ({"nanoseconds": 1_000_000_000}, "seek.too-large"),
        ({"size": (1 << 60) + 1}, "seek.too-large"),
        ({"header_blocks": 0}, "seek.value"),
        ({"header_blocks": 16385, "offset": 1 << 30}, "seek.too-large"),
        ({"header_blocks": 2}, "seek.value"),
        ({"offset": 511}, "seek.value"),
        ({"offset": (1 << 60) + 1}, "seek.too-large"),
        ({"kind": 2, "target": b"t" * 4096}, "seek.too-large"),
        ({"kind": 3, "target": bytes((1 << 20) + 1)}, "seek.too-large"),
        ({"extra": {"names_before": 3}}, "seek.too-large"),
        ({"extra": {"tar_name": bytes((1 << 20) + 1)}}, "seek.too-large"),
        ({"extra": {"xattrs": [(b"b", b""), (b"a", b"")]}}, "seek.order"),
        ({"extra": {"xattrs": [(b"a", b""), (b"a", b"")]}}, "seek.order"),
        ({"name": b"a"}, "seek.order"),
        ({"name": b""}, "seek.order"),
        ({"name": b"."}, "seek.value"),
        ({"name": b".."}, "seek.value"),
        ({"name": b"b/c"}, "seek.value"),
        ({"name": b"b\0"}, "seek.value"),
        ({"name": b"b" * 4096}, "seek.too-large"),
        ({"directory": b"/", "name": b"b"}, "seek.value"),
        ({"directory": b"a/..", "name": b"b"}, "seek.value"),
        ({"directory": b"a//b", "name": b"b"}, "seek.value"),
        ({"directory": b"a\0b", "name": b"b"}, "seek.value"),
        ({"directory": b"a" * 4096, "name": b"b"}, "seek.too-large"),
    ],
)
def test_entry_when_a_field_is_wrong_then_named_error(entry, code):
    changed = replace(FILES[2], **entry)
    first, second = FILES[:2]
    last = [] if changed.directory else FILES[3:]
    rejected(table([first, second, changed, *last]), code)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (columns(directories=b""), "seek.truncated"),
        (columns(directories=varint(6)), "seek.too-large"),
        (columns(directories=bytes([2, 0, 0, 4, 0, 1, 97, 0])), "seek.value"),
        (columns(directories=bytes([2, 0, 0, 4, 0, 1, 97, 2])), "seek.too-large"),
        (columns(directories=bytes([2, 0, 0, 4, 1, 1, 97, 1])), "seek.too-large"),
        (columns(directories=bytes([2, 0, 0, 4, 0, 0, 1])), "seek.order"),
        (columns(name_lengths=bytes([0, 0, 1, 1])), "seek.too-large"),
        (columns(name_lengths=bytes(10), names=b""), "seek.order"),
        (columns(names=b"abl"), "seek.truncated"),
        (columns(names=b"ablcd"), "seek.trailing-bytes"),
        (columns(kinds=bytes([1, 1, 0, 2])), "seek.truncated"),
        (columns(kinds=bytes([1, 1, 32, 2, 16])), "seek.value"),
        (columns(owners=bytes([0, 0, 1, 0, 0])), "seek.value"),
        (columns(owner_table=varint(6)), "seek.too-large"),
        (columns(owner_table=bytes([1, 0, 0, 9])), "seek.truncated"),
        (columns(extras=b"\0"), "seek.value"),
        (columns(extras=varint(32)), "seek.too-large"),
        (columns(extras=bytes([8]) + varint(1 << 63)), "seek.too-large"),
        (columns(modes=b"\x80\0" * 5), "seek.varint"),
        (with_content(b""), "seek.truncated"),
        (with_content(varint(1 << 40) * 15), "seek.too-large"),
        (
            with_content(seekfile.content_of(seekfile.columns_of(FILES)) + b"\0"),
            "seek.trailing-bytes",
        ),
    ],
)
def test_column_when_wrong_then_named_error(found, code):
    rejected(found, code)


def test_chunk_when_cut_at_any_byte_then_named_error():
    content = seekfile.content_of(seekfile.columns_of(FILES))
    for size in range(len(content)):
        with pytest.raises(SeekTableError):
            add_all(with_content(content[:size]))


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"not zstd",
        zstandard.ZstdCompressor(write_checksum=True).compress(bytes(100)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100)),
        frame(bytes(100)) * 2,
        frame(bytes(101)),
        frame(bytes(99)),
        frame(bytes(100))[:-1],
    ],
)
def test_frame_when_not_one_frame_of_the_stated_size_then_error(stored):
    chunk = replace(table().chunks[0], stored=stored, size=100)
    with pytest.raises(SeekTableError):
        add_all(replace(table(), chunks=[chunk]))


# -- bombs and lies --------------------------------------------------------------------------------


def test_chunks_when_they_expand_enormously_then_memory_is_bounded():
    """A chunk stands for 1,024 paths of 4,000 bytes in a few hundred; 100 chunks, for 400 MB."""
    chunks = []
    for number in range(100):
        name = b"%03d" % number + b"n" * 3990
        entries = [Entry(b"", name + b"%04d" % at, kind=1) for at in range(1024)]
        chunks.append(chunk_of([ROOT, *entries[1:]] if number == 0 else entries))
    found = replace(table(), chunks=chunks)
    assert sum(len(chunk.stored) for chunk in chunks) < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tree = add_all(found)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250 << 10  # in KiB
    name = "099" + "n" * 3990 + "0005"
    assert tree.find(name, True)[0] == name


def test_xattrs_when_too_many_then_error():
    xattrs = [(b"%06d" % number, b"") for number in range((1 << 18) + 1)]
    rejected(table([ROOT, Entry(b"", b"a", extra={"xattrs": xattrs})]), "seek.too-large")


def test_names_when_they_lead_to_no_file_then_error_instead_of_data():
    entries = [ROOT, Entry(b"", b"a", kind=1), Entry(b"", b"b", extra={"names_before": 1})]
    tree = add_all(table(entries))
    _, number, kind, _ = tree.find("b", True)[1]
    assert (number, kind) == (1, "file")
    with pytest.raises(SeekTableError):
        tree.data_place(number)


def test_targets_when_they_are_long_and_many_then_a_loop_is_found_quickly():
    deep = [Entry(b"/".join([b"a"] * depth), b"a", kind=1) for depth in range(1000)]
    target = b"/a" * 1000 + b"/../" * 500
    links = [
        Entry(b"", b"l%02d" % number, kind=2, target=target + b"/l%02d" % (number + 1))
        for number in range(41)
    ]
    found = table(sorted([ROOT, *deep, *links], key=lambda entry: entry.key))
    tree = add_all(found)
    start = time.process_time()
    with pytest.raises(PathError) as caught:
        tree.find("l00", True)
    assert caught.value.reason in {"loop", "missing"}
    with pytest.raises(PathError):
        tree.find("a/" * 1_000_000, True)
    with pytest.raises(PathError):
        tree.find("./" * 1_000_000 + "no", True)
    assert not tree.is_directory("a/" * 1_000_000)
    assert time.process_time() - start < 5


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bytes_when_changed_anywhere_then_named_error_or_valid(data):
    """Digests are computed after the change, so that the changed bytes are parsed."""
    found = table(size=data.draw(st.sampled_from([2, 1024])), layers=[gzip_layer()])
    found.map = positions()
    number = data.draw(st.integers(0, len(found.chunks) - 1))
    content = bytearray(zstandard.decompress(found.chunk(number)))
    root = bytearray(found.content())
    changed = data.draw(st.sampled_from([content, root]))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    chunk = replace(found.chunks[number], stored=frame(bytes(content)))
    found.chunks[number] = chunk
    digests = found.digests()
    assert hashlib.sha256(chunk.stored).digest() in digests
    try:
        tree = _core.SeekTree(_core.SeekRoot(found.root(bytes(root), digests)))
        for at, each in enumerate(found.chunks):
            tree.add_chunk(at, each.stored)
        for path in ["", "a", "b", "l/c", "a/../l", "a/c/d"]:
            for ask in (tree.type_of, tree.is_directory):
                ask(path)
        walk = tree.walk_from("")
        while walk.rows(2):
            pass
    except (SeekTableError, VerificationError, PathError, _core.MissingChunks):
        pass
