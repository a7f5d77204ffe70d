"""The merged tree of the core equals that of a simple implementation for any layers."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from support import plain_tree
from tocsin.errors import PathError
from tocsin.reading.tree import Tree

PARTS = ["a", "b", "c", "d", "a", "b", ".", "..", "", "\udcff", "é"]
LONG = ["n" * 255, "n" * 500, "m" * 250, "a\0b"]
MARKS = [".wh.a", ".wh.b", ".wh.c", ".wh..wh..opq", ".wh..wh.plnk", ".wh."]
KINDS = ["dir", "dir", "reg", "reg", "symlink", "symlink", "hardlink", "fifo"]


def joined(parts, absolute, slash):
    return absolute * "/" + "/".join(parts) + slash * "/"


def paths(parts, max_size=4):
    sizes = st.lists(st.sampled_from(parts), min_size=1, max_size=max_size)
    return st.builds(joined, sizes, st.booleans(), st.booleans())


NAMES = st.one_of(
    paths(PARTS),
    paths(PARTS),
    st.builds("{}/{}".format, paths(PARTS, 2), st.sampled_from(MARKS)),
    st.sampled_from(MARKS),
    paths([*PARTS, *MARKS]),
    paths([*PARTS, *LONG], 20),
)
TARGETS = st.one_of(
    paths(PARTS),
    paths(PARTS, 6),
    paths([*PARTS, *LONG], 20),
    st.sampled_from(["", "", "/", "a/" * 2050, "a\0b"]),
)


class Names:
    """A layer given as tuples of type, path and link target."""

    def __init__(self, entries):
        self.types = [kind.encode() for kind, _, _ in entries]
        self.paths = [path for _, path, _ in entries]
        self.linknames = [target for _, _, target in entries]

    def __repr__(self):
        rows = zip(self.types, self.paths, self.linknames, strict=True)
        return f"Names({list(rows)})"


ENTRIES = st.lists(st.tuples(st.sampled_from(KINDS), NAMES, TARGETS), max_size=12)
LAYERS = st.lists(ENTRIES.map(Names), min_size=1, max_size=4)


def outcome(tree, path, follow):
    """Return the node at a path in either tree, or the reason why it cannot be resolved."""
    try:
        resolved, node = tree.find(path, follow=follow)
    except PathError as error:
        return error.reason
    return resolved, node.layer, node.entry, tree.is_directory(resolved)


def listed(tree):
    """Return the nodes of a tree by path."""
    return [(path, node.layer, node.entry, tree.is_directory(path)) for path, node in tree.walk("")]


def files(tree):
    """Return the sets of paths that are links to one file."""
    found = {}
    for path, node in tree.walk(""):
        if node.entry is not None:
            found.setdefault(node.inode, []).append(path)
    return sorted(found.values())


def assert_equal(layers, asked):
    tree, plain = Tree(layers), plain_tree.Tree(layers)
    assert listed(tree) == listed(plain)
    assert files(tree) == files(plain)
    assert sum(count for _, count, _, _ in tree._core.left_out()) == plain.left_out
    assert tree.linked == plain.linked
    assert (tree.root.layer, tree.root.entry) == tuple(plain.root)
    everything = [path for path, _, _, _ in listed(plain)]
    beyond = [f"{path}/../a/." for path in everything[:10]]
    for path in [*asked, *everything[:50], *beyond]:
        for follow in (True, False):
            assert outcome(tree, path, follow) == outcome(plain, path, follow), path
    for path in everything:
        if plain.is_directory(path):
            assert list(tree.children(path)) == sorted(plain.children(path))
    # Again, with cached results of resolved links.
    assert [outcome(tree, path, True) for path in asked] == [
        outcome(plain, path, True) for path in asked
    ]


@settings(max_examples=80, deadline=None)
@given(LAYERS, st.lists(paths(PARTS, 6), max_size=6))
@example(
    # A chain of directories that is removed while a later entry is inside it.
    [Names([("reg", "a/b/c/d/f", ""), ("dir", "a/b", ""), ("reg", "a/b/c/x", "")])],
    [],
)
@example([Names([("dir", "a", ""), ("hardlink", "a", "a")])], [])
@example(
    # A loop of links is replaced, which invalidates the cached results of links.
    [Names([("symlink", "a", "b"), ("symlink", "b", "a"), ("reg", "a/f", ""), ("reg", "b/g", "")])],
    ["a/f", "b/g"],
)
@example(
    [
        Names([("reg", "a/b/c", "")]),
        Names([("reg", "a/.wh.b", ""), ("reg", "a/b/d", ""), ("reg", "a/.wh..wh..opq", "")]),
    ],
    [],
)
@example([Names([("symlink", "a", "a/a"), *[("dir", "a/b/a/a", "")] * 2])], [])
@example([Names([("symlink", "a", ""), ("reg", "a/f", "")])], ["a", "a/f"])
@example(
    # The target of a link is cached, then the chain of directories above it is removed.
    [
        Names(
            [
                ("symlink", "a", "b/a"),
                ("reg", "a/f", ""),
                ("reg", "b/g", ""),
                ("reg", "a/b/f", ""),
                ("hardlink", "h", "a/f"),
            ]
        )
    ],
    [],
)
@example([Names([("symlink", "a", "m" * 250 + "/" + "x/" * 1900), ("reg", "a/f", "")])], ["a/f"])
def test_tree_when_layers_are_arbitrary_then_equals_simple_tree(layers, asked):
    assert_equal(layers, asked)
