"""Sparse files and the files after them: only the headers of a sparse file say where it ends."""

from __future__ import annotations

import itertools

import pytest

import tocsin
from support.tarmaker import entry, padded, tar
from tocsin.errors import TarError

SIZE = 100_000


def sparse(name: str, content: bytes, *, offset: int = 0, wanted: int | None = None) -> bytes:
    """Return the blocks of a file of `SIZE` bytes, zeros but for `content`, in GNU's format 1.0.

    Args:
        name: name of the file.
        content: its data.
        offset: offset of the data in the file.
        wanted: size of the data according to the map; by default, the correct size.
    """
    records = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(SIZE),
    }
    wanted = len(content) if wanted is None else wanted
    stored = padded(f"1\n{offset}\n{wanted}\n".encode()) + content
    return entry(f"GNUSparseFile.0/{name}", stored, pax=records)


def expanded(content: bytes, offset: int = 0) -> bytes:
    return (bytes(offset) + content).ljust(SIZE, b"\0")


@pytest.fixture
def opened(tmp_path):
    def open_layer(*entries):
        layer = tar(*entries)
        (tmp_path / "layer").write_bytes(layer)
        return tocsin.open_layer(tmp_path / "layer", tocsin.build_ztoc(layer).to_bytes())

    return open_layer


@pytest.mark.parametrize("order", list(itertools.permutations("abcd")), ids="".join)
def test_cat_when_sparse_files_are_consecutive_then_read_in_any_order(opened, order):
    content = {"a": b"A" * 600, "b": b"B", "c": b"C" * 512, "d": b"plain"}
    layer = opened(
        sparse("a", content["a"], offset=7),
        sparse("b", content["b"], offset=SIZE - 1),
        sparse("c", content["c"]),
        entry("d", content["d"]),
    )
    expected = {
        "a": expanded(content["a"], 7),
        "b": expanded(content["b"], SIZE - 1),
        "c": expanded(content["c"]),
        "d": content["d"],
    }
    with layer:
        assert {name: layer.cat(name) for name in order} == expected


def test_extract_when_sparse_files_are_consecutive_then_all_are_correct(opened, tmp_path):
    with opened(sparse("a", b"A", offset=9), sparse("b", b"B" * 700), entry("c", b"C")) as layer:
        layer.extract("/", tmp_path / "out")
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {"a": expanded(b"A", 9), "b": expanded(b"B" * 700), "c": b"C"}


@pytest.mark.parametrize("wanted", [699, 701, 5000])
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_cat_when_a_sparse_map_is_wrong_then_only_that_file_fails(opened, wanted, order):
    with opened(sparse("a", b"A" * 700, wanted=wanted), entry("b", b"next")) as layer:
        for name in order:
            if name == "b":
                assert layer.cat("b") == b"next"
                continue
            with pytest.raises(TarError, match=f"a: sparse map needs {wanted} bytes") as error:
                layer.cat("a")
            assert error.value.what == "tar.sparse"


def test_cat_when_the_sparse_version_is_unknown_then_read_as_plain(opened):
    records = {"GNU.sparse.major": "2", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    with opened(entry("a", b"1\n0\n4\n", pax=records), entry("b", b"next")) as layer:
        assert layer.cat("a") == b"1\n0\n4\n"
        assert layer.cat("b") == b"next"
