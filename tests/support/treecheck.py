"""Compares `_core.SeekTree` with `_core.Tree`, method by method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.seektables import Fetching, table_of
from tocsin import _core
from tocsin.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.seektables import Parts

INODE = 13
"""Place of the inode number in a row of `stat`; the numbers themselves may differ."""


def assert_trees_equal(
    parts: list[Parts], chunk_sizes: Iterable[int | None], asked: Iterable[str] = ()
) -> None:
    """Compare the trees of an image, with all chunks and with chunks added when needed.

    Args:
        parts: layers of the image.
        chunk_sizes: sizes of chunks to cut the file list into; ``None`` for its own.
        asked: paths to look for, besides those of the image and some made from them.
    """
    ztocs = [ztoc for ztoc, _, _ in parts]
    tree = _core.Tree(ztocs)
    everything = [path for path, _ in _batches(tree.walk(""), "nodes")]
    # Of a large image, some of the paths suffice: what they lead through is compared as a whole.
    some = everything[:: 1 + len(everything) // 40][: max(6, 2000 // (1 + len(everything)))]
    everything = everything[:: 1 + len(everything) // 100]
    asked = ["", "/", ".", "..", "no", "no/no", "\udcff", "\ud800", *asked, *some]
    for path in some:
        asked += [f"/{path}/", f"{path}/.", f"{path}/..", f"{path}/../{path}", f"{path}/no"]
    for size in chunk_sizes:
        table = table_of(parts, size)
        root = _core.SeekRoot(table.root())
        _compare(tree, Fetching(table, root).load_all(), ztocs, asked, everything)
        _compare(tree, Fetching(table, root), ztocs, asked, everything)
        for path in asked:
            for follow in (True, False):
                found, expected = (
                    _outcome(any_tree.find, path, follow)
                    for any_tree in (Fetching(table, root), tree)
                )
                assert _without_numbers(found) == _without_numbers(expected)


def _compare(
    tree: Any, other: Any, ztocs: list[_core.Ztoc], asked: list[str], everything: list[str]
) -> None:
    """Compare all methods."""
    for path in asked:
        _same(tree, other, "node_at", path)
        _same(tree, other, "type_of", path)
        _same(tree, other, "stat_all", path)
        for follow in (True, False):
            _same(tree, other, "find", path, follow)
            _same(tree, other, "stat", path, follow)
        for name in ("rows", "stats", "nodes"):
            found, expected = (
                _outcome(
                    lambda path, t=any_tree, name=name: _batches(t.walk_from(path), name), path
                )
                for any_tree in (other, tree)
            )
            assert _without_numbers(found) == _without_numbers(expected), (name, path)
    for path in ["", *everything, "no", "./no"]:
        for name in ("is_directory", "children", "names"):
            _same(tree, other, name, path)
        _same(tree, other, "walk", path, then=lambda walk: _batches(walk, "nodes"))
        _same(tree, other, "find", path, False)
        _same(tree, other, "stat", path, False)
    _same(tree, other, "root")
    _compare_numbers(tree, other, ztocs)


def _same(
    tree: Any, other: Any, name: str, *args: Any, then: Callable[[Any], Any] = lambda found: found
) -> None:
    found, expected = (
        _outcome(lambda t=any_tree: then(getattr(t, name)(*args))) for any_tree in (other, tree)
    )
    assert _without_numbers(found) == _without_numbers(expected), (name, args)


def _outcome(ask: Callable[..., Any], *args: Any) -> Any:
    try:
        return ask(*args)
    except PathError as error:
        return "error", error.reason, error.message, error.path


def _batches(walk: Any, name: str) -> list[Any]:
    """Return everything from a walk, in batches of different sizes."""
    found = []
    sizes = iter([1, 2, 3] + [997] * 10_000)
    while batch := getattr(walk, name)(next(sizes)):
        found += batch
    return found


def _without_numbers(found: Any) -> Any:
    """Return an answer without numbers of entries and inodes, which differ between the trees."""
    match found:
        case (int(layer), entry, str(kind), int()) if entry is None or isinstance(entry, int):
            return layer, entry is None, kind
        case (str(), str(), int(), int()):
            return found[:3]
        case tuple() if len(found) == INODE + 2:
            return *found[:INODE], found[INODE + 1]
        case tuple() | list():
            return [_without_numbers(item) for item in found]
    return found


def _compare_numbers(tree: Any, other: Any, ztocs: list[_core.Ztoc]) -> None:
    """Compare the numbers of inodes and entries, and what they lead to."""
    mine, theirs = (_batches(any_tree.walk(""), "nodes") for any_tree in (other, tree))
    inodes = {(node[3], expected[3]) for (_, node), (_, expected) in zip(mine, theirs, strict=True)}
    assert len(inodes) == len({a for a, _ in inodes}) == len({b for _, b in inodes})
    stats = _batches(other.walk_from(""), "stats")[1:]
    assert [status[INODE] for status in stats] == [node[3] for _, node in mine]
    for (path, node), (_, expected) in zip(mine, theirs, strict=True):
        found = other.stat_listed(path, node[0], node[1], node[3])
        listed = tree.stat_listed(path, expected[0], expected[1], expected[3])
        assert _without_numbers(found) == _without_numbers(listed), path
        if node[2] == "file":
            ztoc = ztocs[expected[0]]
            entry = ztoc.entry(expected[1])
            place = entry["uncompressed_offset"], entry["uncompressed_size"]
            assert other.data_place(node[1])[:3] == (expected[0], *place)
            assert other.data_place(node[1])[4] == ztoc.clean_paths()[expected[1]]
    rows, expected_rows = (_batches(any_tree.walk_from(""), "rows") for any_tree in (other, tree))
    for row, expected in zip(rows, expected_rows, strict=True):
        found, listed = other.stat_place(row[3]), tree.stat_place(expected[3])
        assert _without_numbers(found) == _without_numbers(listed), row
