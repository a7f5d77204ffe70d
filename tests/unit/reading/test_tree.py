"""`tocsin.reading.tree`: the OCI layer rules, with expected values from unpacking tools."""

from __future__ import annotations

import sys

import pytest

from tocsin.errors import PathError
from tocsin.reading.tree import MAX_LINKS, Tree


class Names:
    """A layer from lines: ``dir a``, ``reg a/f``, ``symlink l -> t``, ``hardlink h -> t``."""

    def __init__(self, *lines: str) -> None:
        self.paths: list[str] = []
        self.types: list[bytes] = []
        self.linknames: list[str] = []
        for line in lines:
            kind, _, rest = line.partition(" ")
            path, _, target = rest.partition(" -> ")
            self.paths.append(path)
            self.types.append(kind.encode())
            self.linknames.append(target)


def shown(tree: Tree) -> list[str]:
    return [path + ("/" if tree.is_directory(path) else "") for path, _ in tree.walk("")]


def place(tree: Tree, path: str) -> tuple[int, int | None]:
    """Return layer and entry of what is at a path, links not followed."""
    _, node = tree.find(path, follow=False)
    return node.layer, node.entry


KEPT = ["etc/", "etc/a", "etc/b", "opt/", "opt/x/", "opt/x/f", "top"]

BASE = Names("dir etc", "reg etc/a", "reg etc/b", "dir opt", "dir opt/x", "reg opt/x/f", "reg top")


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        (["reg etc/c"], ["etc/", "etc/a", "etc/b", "etc/c", "opt/", "opt/x/", "opt/x/f", "top"]),
        (["reg etc/.wh.a"], ["etc/", "etc/b", "opt/", "opt/x/", "opt/x/f", "top"]),
        (["reg .wh.etc"], ["opt/", "opt/x/", "opt/x/f", "top"]),
        (["reg .wh.missing"], KEPT),
        (
            ["dir etc", "reg etc/.wh..wh..opq", "reg etc/new"],
            ["etc/", "etc/new", "opt/", "opt/x/", "opt/x/f", "top"],
        ),
        # Entries of the same layer stay, before and after its opaque marker.
        (
            ["dir etc", "reg etc/new", "reg etc/.wh..wh..opq"],
            ["etc/", "etc/new", "opt/", "opt/x/", "opt/x/f", "top"],
        ),
        # As in containerd and Docker, which remove the file when they reach the whiteout.
        (["reg etc/a", "reg etc/.wh.a"], ["etc/", "etc/b", "opt/", "opt/x/", "opt/x/f", "top"]),
        (["reg etc/.wh.a", "reg etc/a"], KEPT),
        (
            ["reg opt/x/new", "reg opt/.wh..wh..opq"],
            ["etc/", "etc/a", "etc/b", "opt/", "opt/x/", "opt/x/new", "top"],
        ),
        (["reg .wh..wh..opq"], []),
        # A file replaces a directory, and a directory replaces a file.
        (["reg opt"], ["etc/", "etc/a", "etc/b", "opt", "top"]),
        (["dir top", "reg top/f"], [*KEPT[:-1], "top/", "top/f"]),
        (["symlink etc -> opt"], ["etc", "opt/", "opt/x/", "opt/x/f", "top"]),
        # aufs' own markers are not files.
        (["reg .wh..wh.aufs", "dir .wh..wh.plnk"], KEPT),
        # A directory that is listed again keeps its contents.
        (["dir etc"], KEPT),
    ],
)  # fmt: skip
def test_tree_when_a_layer_is_applied_then_the_expected_names_remain(upper, left):
    assert shown(Tree([BASE, Names(*upper)])) == left


def test_tree_when_a_name_is_repeated_then_the_last_entry_counts():
    tree = Tree([Names("reg a", "reg a", "dir d"), Names("dir d", "reg b", "reg b")])
    assert (place(tree, "a"), place(tree, "b"), place(tree, "d")) == ((0, 1), (1, 2), (1, 0))


def test_tree_when_a_file_becomes_a_directory_then_old_entries_are_gone():
    tree = Tree([Names("reg x"), Names("dir x", "reg x/f"), Names("reg x"), Names("dir x")])
    assert shown(tree) == ["x/"]


def test_tree_when_a_directory_has_no_entry_then_it_exists():
    tree = Tree([Names("reg usr/share/doc/f")])
    assert shown(tree) == ["usr/", "usr/share/", "usr/share/doc/", "usr/share/doc/f"]
    assert place(tree, "/usr/share") == (0, None)


def test_tree_when_an_entry_goes_through_a_symlink_then_at_its_target():
    base = Names("dir usr", "dir usr/lib", "symlink lib -> usr/lib", "symlink abs -> /usr/lib")
    tree = Tree([base, Names("reg lib/x", "reg abs/y", "reg lib/deep/z")])
    assert shown(tree) == [
        "abs", "lib", "usr/", "usr/lib/", "usr/lib/deep/", "usr/lib/deep/z", "usr/lib/x",
        "usr/lib/y",
    ]  # fmt: skip
    assert tree.find("lib/x")[0] == tree.find("/abs/../lib/x")[0] == "usr/lib/x"


def test_tree_when_a_whiteout_is_behind_a_symlink_then_it_applies():
    base = Names("dir usr", "dir usr/lib", "reg usr/lib/x", "symlink lib -> usr/lib")
    assert shown(Tree([base, Names("reg lib/.wh.x")])) == ["lib", "usr/", "usr/lib/"]


def test_tree_when_a_directory_replaces_a_symlink_then_whiteouts_are_local():
    base = Names("dir usr", "reg usr/x", "symlink lib -> usr")
    tree = Tree([base, Names("dir lib", "reg lib/.wh.x")])
    assert shown(tree) == ["lib/", "usr/", "usr/x"]


def test_tree_when_hard_links_span_layers_then_they_are_one_file():
    tree = Tree([Names("reg a", "hardlink b -> a"), Names("hardlink c -> ./b", "reg a")])
    assert place(tree, "b") == place(tree, "c") == (0, 0)
    assert place(tree, "a") == (1, 1)
    nodes = [tree.find(name)[1].inode for name in "abc"]
    assert nodes[1] == nodes[2] != nodes[0]


def test_tree_when_a_hard_link_is_dangling_then_it_is_a_separate_entry():
    tree = Tree([Names("hardlink b -> gone", "dir d", "hardlink e -> d", "hardlink s -> s")])
    assert [place(tree, name) for name in "bes"] == [(0, 0), (0, 2), (0, 3)]


def test_tree_when_a_hard_link_names_a_symlink_then_the_link_itself():
    tree = Tree([Names("reg t", "symlink l -> t", "hardlink h -> l")])
    assert place(tree, "h") == (0, 1)
    assert tree.find("h")[0] == "t"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", ""),
        ("/", ""),
        (".", ""),
        ("/../..", ""),
        ("a/b/f", "a/b/f"),
        ("/a//b/./f", "a/b/f"),
        ("a/b/../b/f", "a/b/f"),
        ("up/b/f", "a/b/f"),
        ("a/b/rel", "a/f"),
        ("a/b/out", "a/f"),
        ("a/b/abs", "a/f"),
        ("up/", "a"),
        # As in the kernel, the parent of the link's target.
        ("deep/../f", "a/f"),
    ],
)
def test_find_when_path_is_odd_then_resolved_inside_the_image(path, found):
    names = Names(
        "dir a", "dir a/b", "reg a/b/f", "reg a/f", "symlink up -> a", "symlink a/b/rel -> ../f",
        "symlink a/b/out -> ../../../../../a/f", "symlink a/b/abs -> /a/f", "symlink deep -> a/b",
    )  # fmt: skip
    assert Tree([names]).find(path)[0] == found


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "missing"),
        ("a/missing", "missing"),
        ("missing/../a", "missing"),
        ("a/f/x", "not_directory"),
        ("a/f/", "not_directory"),
        ("a/f/..", "not_directory"),
        ("self", "loop"),
        ("one", "loop"),
        ("self/x", "loop"),
        ("dangling", "missing"),
        ("empty", "missing"),
    ],
)
def test_find_when_path_is_missing_then_the_reason(path, reason):
    names = Names(
        "dir a", "reg a/f", "symlink self -> self", "symlink one -> two", "symlink two -> one",
        "symlink dangling -> nowhere", "symlink empty -> ",
    )  # fmt: skip
    with pytest.raises(PathError) as failed:
        Tree([names]).find(path)
    assert (failed.value.path, failed.value.reason) == (path, reason)


def test_find_when_links_are_chained_then_at_most_40_are_followed():
    chain = [f"symlink l{n} -> l{n + 1}" for n in range(MAX_LINKS)]
    tree = Tree([Names(*chain, f"reg l{MAX_LINKS}")])
    assert tree.find("l0")[0] == f"l{MAX_LINKS}"
    longer = Tree([Names("symlink start -> l0", *chain, f"reg l{MAX_LINKS}")])
    with pytest.raises(PathError, match="more than 40 symbolic links"):
        longer.find("start")
    assert longer.find("start", follow=False)[0] == "start"


def test_tree_when_directories_are_deep_then_recursion_is_not_used():
    depth = sys.getrecursionlimit() + 500
    path = "/".join(["d"] * depth)
    tree = Tree([Names(f"reg {path}"), Names("reg .wh.d")])
    assert shown(tree) == []
    assert len(shown(Tree([Names(f"reg {path}")]))) == depth


PATH = "the path has more than 4,095 bytes, the limit of Linux"
TARGET = "the link target has more than 4,095 bytes, the limit of Linux"
NUL = "the name or the link target contains a NUL byte"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        # The limit on all file systems is PATH_MAX, 4,096 bytes with the NUL at the end.
        ("reg " + "d/" * 2047 + "ff", PATH),
        ("dir " + "d/" * 2047 + "ff/", PATH),
        ("reg " + "\u00e9" * 2048, PATH),
        ("reg " + "/".join(["d"] * 5000), PATH),
        ("reg long/" + "f" * 100, PATH),
        ("symlink s -> " + "t" * 4096, TARGET),
        ("hardlink h -> " + "t/" * 2047 + "tt", TARGET),
        ("reg a\0b", NUL),
        ("reg a\0b/c", NUL),
        ("symlink s -> a\0b", NUL),
    ],
)
def test_tree_when_an_entry_is_invalid_on_linux_then_left_out_and_noted(line, why):
    base = Names("reg " + "d/" * 2000 + "f", "symlink long -> " + "d/" * 2000, "reg last")
    tree = Tree([base, Names("reg x", line, line, "reg y")])
    assert shown(tree) == shown(Tree([base, Names("reg x", "reg y")]))
    (note,) = tree.notes
    assert note.startswith("left out 2 entries, the first ")
    assert note.endswith(f" in layer 2: {why}")
    (first, _), second = tree.left_out_below("")
    assert (first, why) == second
    assert len(first) <= 401


def test_tree_when_names_have_the_maximum_length_then_they_exist():
    names = [
        "reg " + "n" * 300,  # a file system may refuse it, but the tree does not
        "reg " + "d/" * 2047 + "f",
        "symlink s -> " + "t" * 4095,
        # Dots and slashes that cleaning removes do not count.
        "reg ./" + "/./".join(["e"] * 2048),
        "hardlink h -> ./" + "/./".join(["e"] * 2048),
    ]
    tree = Tree([Names(*names)])
    assert tree.notes == ()
    assert place(tree, "d/" * 2047 + "f") == (0, 1)
    assert place(tree, "h") == place(tree, "e/" * 2047 + "e") == (0, 3)


def test_tree_when_a_whiteout_name_is_too_long_to_create_then_it_applies():
    name = "n" * 4095
    tree = Tree([Names(f"reg {name}", "reg a"), Names(f"reg .wh.{name}")])
    assert (shown(tree), tree.notes) == (["a"], ())


def test_tree_when_entries_are_left_out_then_a_note_for_each_reason():
    names = ["reg e/" + "n" * 4095, "symlink d/s -> a\0b", "reg e/" + "m" * 4096]
    tree = Tree([Names("reg a", *names)])
    first, second = tree.notes
    assert first.startswith('left out 2 entries, the first "e/nnn')
    assert first.endswith(f'…" in layer 1: {PATH}')
    assert second == f"left out 1 entry, d/s in layer 1: {NUL}"
    assert tree.left_out_below("d") == [("d/s", NUL)]
    assert [path[:3] for path, _ in tree.left_out_below("e")] == ["e/n", "e/m"]
    assert tree.left_out_below("d/s") == []


def test_tree_when_a_link_is_dangling_then_a_directory_replaces_it():
    tree = Tree([Names("symlink s -> ", "hardlink h -> s/x")])
    assert (shown(tree), place(tree, "h")) == (["h", "s"], (0, 1))
    assert shown(Tree([Names("symlink s -> ", "reg s/f")])) == ["s/", "s/f"]


def test_tree_when_parent_links_loop_then_a_directory_replaces_the_link():
    tree = Tree([Names("symlink a -> b", "symlink b -> a"), Names("reg a/f")])
    assert "f" in "".join(shown(tree))


@pytest.mark.parametrize("count", [1, 30_000])
def test_tree_when_links_form_long_chains_then_entries_behind_them_exist(count):
    # 39 links of 815 steps each, which are followed once, not once for each entry.
    links = [f"symlink s{n} -> " + "x/../" * 815 + f"s{n + 1}" for n in range(39)]
    tree = Tree([Names("dir x", *links, "dir s39", *[f"reg s0/f{n}" for n in range(count)])])
    assert tree.notes == ()
    assert len(tree.children("s39")) == count
    assert tree.find("s0/f0")[0] == "s39/f0"


def test_tree_when_links_cannot_be_cached_then_their_cost_is_bounded():
    # Each replaced directory may change the target of the whole chain.
    links = [f"symlink s{n} -> " + "x/../" * 815 + f"s{n + 1}" for n in range(39)]
    again = [line for n in range(2000) for line in ("reg x", "dir x", f"reg s0/f{n}")]
    tree = Tree([Names("dir x", *links, "dir s39", *again, "reg last")])
    (note,) = tree.notes
    assert "the path leads through too many symbolic links" in note
    assert place(tree, "last")
    assert tree.find("s0")[0] == "s39"


def test_tree_when_opaque_marks_repeat_then_each_directory_is_cleared_once():
    # 40,000 times 40,000 names would take minutes.
    files = [f"reg d/e/f{n}" for n in range(40_000)]
    marks = ["reg d/.wh..wh..opq", "reg d/e/.wh..wh..opq", "reg .wh..wh..opq"] * 13_000
    tree = Tree([Names("reg d/old", "reg d/e/old"), Names(*files, *marks)])
    assert len(tree.children("d/e")) == len(files)
    assert list(tree.children("d")) == ["e"]


def test_tree_when_names_are_not_utf8_then_sorted_as_python_sorts_them():
    names = ["\udcff", "\ue000", "a\udc80", "a", "\u00e9", "\U0001f600", "b"]
    tree = Tree([Names(*(f"reg {name}" for name in names))])
    assert list(tree.children("")) == shown(tree) == sorted(names)


def test_find_when_a_path_cannot_be_encoded_then_missing():
    with pytest.raises(PathError) as failed:
        Tree([BASE]).find("etc/\ud800")
    assert failed.value.reason == "missing"


def test_find_when_links_loop_then_the_result_is_always_the_same():
    loop = [f"symlink l{n} -> l{(n + 1) % 3}" for n in range(3)]
    chain = [f"symlink c{n} -> c{n + 1}" for n in range(MAX_LINKS)]
    tree = Tree([Names(*loop, "symlink start -> c0", *chain, f"reg c{MAX_LINKS}")])
    for _ in range(2):
        for path in ("l0", "l1", "start"):
            with pytest.raises(PathError) as failed:
                tree.find(path)
            assert failed.value.reason == "loop"
        assert tree.find("c0")[0] == f"c{MAX_LINKS}"


def test_inode_when_directories_have_no_entries_then_each_has_its_own():
    tree = Tree([Names("reg a/b/c/d/f", "reg a/b/x", "dir a/b/c/e"), Names("reg g/h/i")])
    inodes = [tree.root.inode, *(node.inode for _, node in tree.walk(""))]
    assert len(set(inodes)) == len(inodes)


def test_children_when_not_a_directory_then_path_error():
    with pytest.raises(PathError, match="/top: is not a directory"):
        Tree([BASE]).children("top")


def test_linked_when_files_have_several_links_then_the_last_entry():
    tree = Tree(
        [
            Names("reg a", "hardlink b -> a", "reg c", "hardlink d -> gone"),
            Names("hardlink e -> b", "reg .wh.e", "hardlink f -> c", "reg c"),
        ]
    )
    assert tree.linked == {(0, 0): (1, 0), (0, 2): (1, 2)}
