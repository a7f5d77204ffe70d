"""`_core.SeekTree` equals `_core.Tree` in every method, whatever chunks have been added."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from support import seekfile
from support.goldens import GOLDEN, layer
from support.seektables import Fetching, archive_layers, layer_parts, table_of
from support.tarmaker import entry, tar
from support.treecheck import assert_trees_equal
from tocsin import _core
from tocsin.errors import TocsinError

CASES = Path(__file__).parents[2] / "cases" / "images"
NOT_INDEXED = {"ct-zero-length-blob"}
TARS = {
    path.name.partition(".")[0]: path.name
    for path in sorted((GOLDEN / "layers").iterdir())
    if not path.name.startswith("bad.")
}
"""One golden layer of each tar: their compression makes no difference here."""


DATA_OFFSET = 512 * (3 + 1500 * 2 + 358 + 2142 * 2 + 1 + 1)
"""Offset of ``var/first`` in the lower layer of `many`: 358 libraries are empty."""


@pytest.fixture(scope="module")
def many():
    """Return parts, table and tree of an image with several chunks."""
    lower = [
        entry("bin", type=tarfile.SYMTYPE, linkname="usr/bin"),
        entry("lib", type=tarfile.SYMTYPE, linkname="usr/lib"),
        entry("lib64", type=tarfile.SYMTYPE, linkname="lib"),
        *(entry(f"usr/bin/tool{number:04}", b"x") for number in range(1500)),
        *(entry(f"usr/lib/lib{number:04}.so", b"y" * (number % 7)) for number in range(2500)),
        entry("usr/bin/sh", type=tarfile.SYMTYPE, linkname="tool0007"),
        entry("var/first", b"z"),
        *(entry(f"var/{number:03}/a", b"") for number in range(600)),
        entry("a/link", type=tarfile.LNKTYPE, linkname="var/first"),
    ]
    upper = [entry("usr/lib/lib0100.so", b"new"), entry("usr/lib/.wh.lib0101.so")]
    parts = [layer_parts(tar(*lower)), layer_parts(tar(*upper))]
    return parts, table_of(parts), _core.Tree([ztoc for ztoc, _, _ in parts])


@pytest.mark.parametrize("name", TARS.values())
def test_golden_when_listed_then_equals_tree(name):
    parts = [layer_parts(layer(name))]
    assert_trees_equal(parts, [None, 5] if name.startswith("wide") else [None, 1, 3])


@pytest.mark.parametrize("path", sorted(CASES.glob("*.oci.tar")), ids=lambda path: path.name[:-8])
def test_case_when_listed_then_equals_tree(path):
    try:
        parts = [layer_parts(blob) for blob in archive_layers(path)]
    except TocsinError:
        assert path.name.removesuffix(".oci.tar") in NOT_INDEXED
        return
    assert_trees_equal(parts, [None, 1, 3, 1000])


def test_image_when_it_has_no_layers_then_only_the_root():
    assert_trees_equal([], [None])


def test_image_when_it_has_several_chunks_then_equals_tree(many):
    parts, table, _ = many
    assert len(table.chunks) == 6
    assert_trees_equal(parts, [None], asked=["bin/sh", "lib64/lib0100.so", "lib64/lib0101.so"])


def test_chunk_when_cut_then_at_1024_entries_or_256_kib(many):
    _, table, _ = many
    assert [chunk.count for chunk in table.chunks[:-1]] == [1024] * 5
    names = [f"{number:03}" + "n" * 250 for number in range(500)]
    long = [
        entry(f"{'d' * 200}/{name}", type=tarfile.SYMTYPE, linkname="t" * 4000) for name in names
    ]
    table = table_of([layer_parts(tar(*long))])
    sizes = [chunk.size for chunk in table.chunks]
    assert len(sizes) > 5
    assert all(256 << 10 <= size < 260 << 10 for size in sizes[:-1])


def test_table_when_written_by_the_independent_writer_then_same_content(many):
    parts, _, _ = many
    table, entries = seekfile.read(*_core.build_seek_table(parts))
    rest = entries
    for chunk in table.chunks:
        content = seekfile.zstandard.decompress(chunk.stored)
        assert seekfile.content_of(seekfile.columns_of(rest[: chunk.count])) == content
        rest = rest[chunk.count :]
    assert [entry.key for entry in entries] == sorted(
        (entry.key for entry in entries), key=lambda key: tuple(key.split(b"\0"))
    )
    assert [layer.digest for layer in table.layers] == [
        bytes.fromhex(digest.removeprefix("sha256:")) for _, _, digest in parts
    ]


def test_table_when_built_twice_then_same_bytes(many):
    parts, _, _ = many
    assert _core.build_seek_table(parts) == _core.build_seek_table(parts)


# -- rounds of fetching ----------------------------------------------------------------------------


def rounds(table, name, *args):
    tree = Fetching(table)
    getattr(tree, name)(*args)
    return len(tree.rounds)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/usr/bin/tool1499", 1),
        ("usr/lib/lib2499.so", 1),
        ("/var/599/a", 1),
        ("/usr/../var/599/a", 2),
        ("/", 1),
        ("", 1),
        ("/usr", 1),
        ("/bin/tool0000", 2),
        ("/lib/lib2499.so", 2),
        ("/lib64/lib2499.so", 3),
        ("/bin/sh", 3),
    ],
)
def test_find_when_chunks_are_missing_then_few_rounds(many, path, most):
    _, table, _ = many
    assert rounds(table, "find", path, True) <= most
    assert rounds(table, "stat", path, True) <= most
    assert rounds(table, "type_of", path) <= most


@pytest.mark.parametrize(
    ("path", "most"),
    [("/usr/bin/tool1499", 1), ("/bin/tool1499", 2), ("/lib64/lib2499.so", 3), ("/bin/sh", 3)],
)
def test_find_when_chunks_have_one_entry_then_few_rounds(many, path, most):
    parts, _, _ = many
    table, entries = seekfile.read(*_core.build_seek_table(parts))
    wanted = {b"", b"usr", b"usr/bin", b"usr/lib"}
    some = [entry for entry in entries if entry.directory in wanted][::7]
    keep = {b"bin", b"lib", b"lib64", b"usr", b"usr/bin", b"usr/lib", b"usr/bin/sh"}
    keep |= {b"usr/bin/tool1499", b"usr/lib/lib2499.so", b"usr/bin/tool0007"}
    some += [
        entry for entry in entries if (entry.directory + b"/" + entry.name).strip(b"/") in keep
    ]
    some = sorted({entry.key: entry for entry in some}.values(), key=lambda entry: entry.key)
    assert rounds(seekfile.cut(table, some, 1), "find", path, True) == most


@pytest.mark.parametrize("path", ["/usr/bin/none", "/none", "/usr/lib/none/none", "/var/599/a/b"])
def test_find_when_path_is_missing_then_at_most_two_rounds(many, path):
    _, table, _ = many
    assert rounds(table, "type_of", path) <= 2


@pytest.mark.parametrize("path", ["", "usr/lib", "var/599", "usr/bin"])
def test_children_when_chunks_are_missing_then_at_most_two_rounds(many, path):
    _, table, _ = many
    assert rounds(table, "children", path) <= 2


def test_hard_link_when_found_then_the_chunk_of_any_name_suffices(many):
    _, table, _ = many
    fetching = Fetching(table)
    found = fetching.find("var/first", True)[1]
    assert fetching.data_place(found[1])[1:3] == (DATA_OFFSET, 1)
    assert len(fetching.rounds) == 1
    assert found == fetching.find("a/link", True)[1]


# -- where the data is -----------------------------------------------------------------------------


def headers_of(path, data):
    """Return offset and size of the data of each file by name, and its number of header blocks."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            member.name: (
                member.offset_data,
                member.size,
                (member.offset_data - member.offset) // 512,
            )
            for member in archive
            if member.isreg() and not member.issparse()
        }


@pytest.mark.parametrize("name", ["gnu.zlib6.tar.gz", "pax.tar"])
def test_data_place_when_compared_with_tarfile_then_equal(name):
    data = layer(name)
    data = gzip.decompress(data) if name.endswith("gz") else data
    tree = Fetching(table_of([layer_parts(data)])).load_all()
    expected = headers_of(name, data)
    found = {}
    walk = tree.walk("")
    while batch := walk.nodes(100):
        for path, (_, number, kind, _) in batch:
            if kind == "file":
                _, offset, size, blocks, tar_name, *_ = tree.data_place(number)
                found[path] = (offset, size, blocks)
                assert tar_name == path or tar_name in expected
    assert {path: found[path] for path in expected if path in found} == {
        path: expected[path] for path in expected if path in found
    }
    assert len(found) >= 5
