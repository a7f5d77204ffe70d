"""`_core.SeekTree` equals `_core.Tree` for any layers and chunks."""

from __future__ import annotations

import tarfile

from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.seektables import layer_parts
from support.tarmaker import entry, tar
from support.treecheck import assert_trees_equal

PARTS = ["a", "b", "c", "a", "b", ".", "..", "", "\udcff", "é", "n" * 255]
MARKS = [".wh.a", ".wh.b", ".wh..wh..opq"]
TYPES = {
    "dir": tarfile.DIRTYPE,
    "file": tarfile.REGTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "char": tarfile.CHRTYPE,
}


def joined(parts, slash):
    return "/".join(parts) + slash * "/"


def paths(parts, most):
    return st.builds(
        joined, st.lists(st.sampled_from(parts), min_size=1, max_size=most), st.booleans()
    )


def made(kind, name, target, number):
    """Return the blocks of an entry, all of whose metadata depend on `number`."""
    is_link = kind.endswith("link")
    return entry(
        name,
        b"x" * (number % 700) if kind == "file" else b"",
        type=TYPES[kind],
        linkname=target if is_link else "",
        mode=0o600 + number % 64,
        uid=number % 3,
        gid=2**32 - 1 if number % 7 == 0 else number,
        uname="user" if number % 2 else "",
        mtime=number * 10**6 - 10**9 + (0.5 if number % 5 == 0 else 0),
        devmajor=number % 5 if kind == "char" else 0,
        devminor=number % 9 if kind == "char" else 0,
        pax={"SCHILY.xattr.user.k": str(number)} if number % 4 == 0 else None,
    )


NAMES = st.one_of(
    paths(PARTS, 4),
    st.builds("{}/{}".format, paths(PARTS, 2), st.sampled_from(MARKS)),
    st.sampled_from(MARKS),
)
ENTRIES = st.lists(
    st.builds(
        made,
        st.sampled_from([*TYPES, "symlink", "hardlink", "file"]),
        NAMES.filter(lambda name: name.strip("/")),
        paths(PARTS, 5).filter(bool),
        st.integers(0, 2000),
    ),
    max_size=10,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(ENTRIES, min_size=1, max_size=3),
    st.sampled_from([None, 1, 2, 3]),
    st.lists(paths(PARTS, 6), max_size=4),
)
@example(
    # A hard link in an upper layer changes the metadata of a file that it finds through a link.
    [[made("dir", "b", "", 1), made("symlink", "a", "b", 2), made("file", "a/c", "", 3)],
     [made("hardlink", "d", "a/c", 4), made("hardlink", "e", "d", 5)]],
    1,
    ["a/c", "d"],
)  # fmt: skip
@example([[made("symlink", "a", "b", 2), made("symlink", "b", "a", 2)]], 1, ["a/c", "a", "b/."])
@example(
    [[made("symlink", f"a{n}", f"a{n + 1}", 2) for n in range(42)]], 1, ["a0", "a1", "a2", "a3"]
)
def test_seek_tree_when_layers_are_arbitrary_then_equals_tree(layers, size, asked):
    parts = [layer_parts(tar(*entries)) for entries in layers]
    assert_trees_equal(parts, [size], asked)
