"""Images with an unreadable layer: reads fail if the layer may affect them."""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import zstandard

import tocsin
from support import tarmaker
from support.images import image_of, layer_tar
from support.tarmaker import entry
from tocsin.errors import (
    NotFoundError,
    PathError,
    RegistryError,
    TocsinError,
    UnsupportedError,
    VerificationError,
)
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import (
    DOCKER_LAYER,
    DOCKER_LAYER_FOREIGN_GZIP,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
    OCI_LAYER,
    OCI_LAYER_FOREIGN,
    OCI_LAYER_GZIP,
)
from tocsin.reading.partial_tree import PartialTree
from tocsin.reading.tree import Tree
from tocsin.reading.unreadable import UnreadableLayer
from tocsin.stores.layout import OciLayout

OCI_LAYER_ZSTD = f"{OCI_LAYER}+zstd"
TAR = layer_tar({"d/f": b"data" * 999})
STORED = {
    "gzip": gzip.compress(TAR, mtime=0),
    "plain": TAR,
    "zstd": zstandard.ZstdCompressor().compress(TAR),
    "zstd after a skippable frame": b"\x53\x2a\x4d\x18\x02\0\0\0ab"
    + zstandard.ZstdCompressor().compress(TAR),
}


def gz(*entries: bytes) -> tuple[bytes, str]:
    return gzip.compress(tarmaker.tar(*entries), mtime=0), OCI_LAYER_GZIP


def directory(name: str) -> bytes:
    return entry(f"{name}/", type=b"5")


@pytest.fixture
def put(tmp_path):
    """A function that puts an image of layers, each (bytes, media type), and returns its name."""

    def put_layers(*layers):
        with OciLayout(tmp_path / "layout", write=True) as store:
            image_of(*layers).put(store, "t")
        return f"oci:{tmp_path / 'layout'}:t"

    return put_layers


# Compression


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(
    "media_type",
    [
        OCI_LAYER,
        OCI_LAYER_GZIP,
        OCI_LAYER_ZSTD,
        OCI_LAYER_FOREIGN,
        f"{OCI_LAYER_FOREIGN}+gzip",
        DOCKER_LAYER,
        DOCKER_LAYER_GZIP,
        DOCKER_LAYER_ZSTD,
        DOCKER_LAYER_FOREIGN_GZIP,
    ],
)
def test_layer_when_its_type_is_wrong_then_the_first_bytes_decide(put, stored, media_type):
    with tocsin.open(put((STORED[stored], media_type))) as image:
        assert image.cat("d/f") == b"data" * 999
        assert image.read_range("d/f", 5, 9) == b"ata" + b"d"


@pytest.mark.parametrize("media_type", [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER])
def test_layer_when_it_has_no_bytes_then_it_is_an_empty_tar(put, media_type):
    with tocsin.open(put(gz(directory("d"), entry("d/f", b"x")), (b"", media_type))) as image:
        assert [layer.entry_count for layer in image.layers] == [2, 0]
        assert image.cat("d/f") == b"x"


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("media_type", [OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER_GZIP])
def test_layer_when_its_type_is_wrong_then_converted_images_are_readable(
    put, tmp_path, stored, media_type
):
    plain = put((STORED[stored], media_type), gz(entry("g", b"g")))
    options = tocsin.IndexingOptions(min_layer_size=0)
    result = tocsin.convert(plain, f"oci:{tmp_path / 'out'}:t", options=options)
    first = result.platforms[0].layers[0]
    assert (first.ztoc is None) != (first.skipped is None)
    with tocsin.open(f"oci:{tmp_path / 'out'}:t") as image:
        assert image.cat("d/f") == b"data" * 999
    found = tocsin.verify(f"oci:{tmp_path / 'out'}:t")
    # The diff ids of these images are made up.
    assert {finding.kind for finding in found.all_findings} <= {"layer.diff_id"}


# Layers that cannot be read

ENCRYPTED = (b"\x8f" * 99, f"{OCI_LAYER_GZIP}+encrypted")
UNREADABLE = {
    "encrypted": (ENCRYPTED, UnsupportedError, "it is encrypted"),
    "other type": ((TAR, "application/vnd.oci.image.layer.v2.odd"), UnsupportedError, "v2.odd"),
    "other compression": ((TAR, f"{OCI_LAYER}+lz4"), UnsupportedError, "lz4"),
    "no layer": ((b"{}", "application/vnd.in-toto+json"), UnsupportedError, "in-toto"),
    "xz": ((b"\xfd7zXZ\0" + bytes(600), OCI_LAYER), UnsupportedError, "compressed with xz"),
    "no tar": ((gzip.compress(b"x" * 600), OCI_LAYER_GZIP), tocsin.FormatError, "tar"),
    "cut": ((STORED["gzip"][:-9], OCI_LAYER_GZIP), tocsin.FormatError, "ends inside"),
    "cut zstd": ((STORED["zstd"][:-9], OCI_LAYER_ZSTD), tocsin.FormatError, "zstd"),
}


def fails(image: tocsin.Image, read: object, *, kind: type = TocsinError, says: str = "") -> None:
    """Check that a read fails with an error that names the unreadable layer."""
    unreadable = next(layer for layer in image.layers if layer.problem)
    with pytest.raises(kind) as failed:
        read()
    assert not isinstance(failed.value, PathError)
    assert str(unreadable.descriptor.digest) in failed.value.message
    assert says in failed.value.message


@pytest.mark.parametrize("name", UNREADABLE)
def test_layer_when_it_cannot_be_read_then_only_reads_that_need_it_fail(put, name):
    layer, kind, says = UNREADABLE[name]
    below = gz(directory("d"), entry("d/below", b"0"), directory("e"), entry("e/f", b"old"))
    above = gz(directory("e"), entry("e/f", b"new"))
    with tocsin.open(put(below, layer, above)) as image:
        assert image.cat("e/f") == b"new"
        assert image.is_dir("e")
        assert image.stat("e/f").size == 3
        for read in (
            lambda: image.cat("d/below"),
            lambda: image.exists("nowhere"),
            lambda: image.ls("/"),
            lambda: image.listdir("e"),
            lambda: list(image.find("/")),
            lambda: image.glob("**/f"),
            lambda: list(image.walk("/")),
        ):
            fails(image, read, kind=kind, says=says)
        assert [layer.problem is None for layer in image.layers] == [True, False, True]
        assert any("cannot be read" in note for note in image.notes)


def test_layer_when_its_blob_is_missing_or_damaged_then_it_is_unreadable(put, tmp_path):
    reference = put(gz(entry("below", b"0")), gz(entry("lost", b"1")), gz(entry("f", b"2")))
    with tocsin.open(reference) as image:
        blob = tmp_path / "layout/blobs/sha256" / image.layers[1].descriptor.digest.hex
    data = blob.read_bytes()
    for damage, kind in (
        (data[:-1] + b"\xff", VerificationError),
        (data[:20] + b"\xff" * 9 + data[29:], VerificationError),
        (data[:-1], VerificationError),
        (None, NotFoundError),
    ):
        blob.unlink()
        if damage is not None:
            blob.write_bytes(damage)
        with tocsin.open(reference) as image:
            assert image.cat("f") == b"2"
            fails(image, lambda image=image: image.cat("below"), kind=kind)


def test_layer_when_it_is_the_highest_then_nothing_is_read(put):
    with tocsin.open(put(gz(directory("d"), entry("d/f", b"0")), ENCRYPTED)) as image:
        for path in ("d/f", "d", "/", "x"):
            fails(image, lambda path=path: image.lstat(path))


def test_layer_when_an_index_is_required_then_it_still_fails(put):
    with (
        tocsin.open(put(gz(entry("f", b"0"))), index_missing=False) as image,
        pytest.raises(UnsupportedError, match="has no ztoc"),
    ):
        image.cat("f")


def test_whiteout_when_above_an_unreadable_layer_then_path_is_missing(put):
    above = gz(directory("d"), entry("d/.wh.gone", b""), entry("d/f", b"1"), entry(".wh.top", b""))
    with tocsin.open(put(ENCRYPTED, above)) as image:
        for path in ("d/gone", "d/gone/below", "top"):
            assert not image.exists(path)
        with pytest.raises(PathError) as failed:
            image.cat("d/gone")
        assert failed.value.reason == "missing"
        fails(image, lambda: image.exists("d/other"))


@pytest.mark.parametrize("listed", [True, False])
def test_opaque_directory_when_above_an_unreadable_layer_then_it_is_listed(put, tmp_path, listed):
    above = gz(
        *([directory("d")] if listed else []),
        entry("d/.wh..wh..opq", b""),
        entry("d/f", b"1"),
        entry("d/s/g", b"2"),
    )
    with tocsin.open(put(ENCRYPTED, above)) as image:
        assert image.listdir("d") == ["f", "s"]
        assert not image.exists("d/other")
        assert image.cat("d/s/g") == b"2"
        if listed:
            image.extract("d", tmp_path / "out")
            assert (tmp_path / "out/s/g").read_bytes() == b"2"
        fails(image, lambda: image.ls("/"))


def test_directory_when_without_an_entry_then_readable_but_not_listed(put):
    with tocsin.open(put(ENCRYPTED, gz(entry("d/f", b"1"), entry("d/g", b"2")))) as image:
        assert (image.cat("d/f"), image.cat("d/g")) == (b"1", b"2")
        fails(image, lambda: image.stat("d"))  # its mode is in a layer below
        fails(image, lambda: image.listdir("d"))


def test_directory_when_it_may_be_a_link_then_possible_aliases_fail(put):
    # If lib is a link to usr/lib in the unreadable layer, both paths are the same file.
    layers = [gz(entry("lib/x", b"first")), gz(directory("usr"), entry("usr/lib/x", b"second"))]
    with tocsin.open(put(ENCRYPTED, *layers)) as image:
        fails(image, lambda: image.cat("lib/x"))
        assert image.cat("usr/lib/x") == b"second"


def test_link_when_it_may_lead_into_an_unreadable_layer_then_error(put):
    above = gz(
        entry("soft", type=b"2", linkname="target"),
        entry("good", type=b"2", linkname="d/f"),
        entry("hard", type=b"1", linkname="target"),
        directory("d"),
        entry("d/f", b"1"),
        entry("d/hard", type=b"1", linkname="d/f"),
    )
    with tocsin.open(put(ENCRYPTED, above)) as image:
        assert image.readlink("soft") == "target"
        assert image.cat("good") == image.cat("d/hard") == b"1"
        for read in (lambda: image.cat("soft"), lambda: image.cat("hard")):
            fails(image, read)


def test_layer_when_the_registry_fails_once_then_the_next_read_retries(put, monkeypatch):
    reference = put(gz(entry("below", b"0")), gz(entry("f", b"2")))
    answers = [RegistryError("try later", temporary=True)]
    blob = OciLayout.blob

    def fail_once(self, descriptor, **options):
        if answers and descriptor.media_type == OCI_LAYER_GZIP:
            raise answers.pop()
        return blob(self, descriptor, **options)

    monkeypatch.setattr(OciLayout, "blob", fail_once)
    with tocsin.open(reference) as image:
        with pytest.raises(RegistryError, match="try later"):
            image.cat("f")
        assert (image.cat("f"), image.cat("below")) == (b"2", b"0")
        assert not any(layer.problem for layer in image.layers)


# Random layers


@dataclass(frozen=True)
class Names:
    """A layer of which only names are known: path, type and target of each entry."""

    rows: tuple[tuple[str, bytes, str], ...]

    @property
    def paths(self):
        return [row[0] for row in self.rows]

    @property
    def types(self):
        return [row[1] for row in self.rows]

    @property
    def linknames(self):
        return [row[2] for row in self.rows]

    def entry(self, index):
        return SimpleNamespace(linkname=self.linknames[index])


def random_layer(rng: random.Random) -> Names:
    """Return a few random entries.

    Directories have the names a and b, other entries x and y, and some links b. Those links lead
    only to directories at other paths, outside themselves, since `reading/certainty.py` does not
    detect loops.
    """
    rows = []
    for _ in range(rng.randint(0, 5)):
        above = "".join(rng.choice("ab") + "/" for _ in range(rng.randint(0, 2)))
        leaf = above + rng.choice("xy")
        rows.append(
            rng.choice(
                [
                    (leaf, b"reg", ""),
                    (leaf, b"reg", ""),
                    (f"{above}{rng.choice('ab')}/", b"dir", ""),
                    (f"{above}{rng.choice('ab')}/", b"dir", ""),
                    (leaf, b"symlink", rng.choice(["/a/x", "/b/y", "../x", "y", "a/b"])),
                    (rng.choice(["b", "b/b"]), b"symlink", rng.choice(["/a", "/a/a"])),
                    (leaf, b"hardlink", rng.choice(["a/x", "b/y", "x", "b/b/y"])),
                    (f"{above}.wh.{rng.choice('abxy')}", b"reg", ""),
                    (f"{above}.wh..wh..opq", b"reg", ""),
                ]
            )
        )
    return Names(tuple(rows))


PATHS = [
    "/",
    *"abxy",
    *(f"{one}/{two}" for one in "ab" for two in "abxy"),
    *(f"{one}/{two}/{three}" for one in "ab" for two in "ab" for three in "abxy"),
]


def is_directory(tree: Tree, path: str) -> object:
    return tree.type_of(path)


def found(tree: Tree, path: str) -> object:
    node = tree.find(path)[1]
    return node.type if node.type == "dir" else node[:3]


def found_unfollowed(tree: Tree, path: str) -> object:
    node = tree.find(path, follow=False)[1]
    return node.type if node.type == "dir" else node[:3]


def status(tree: Tree, path: str) -> object:
    tree.stat(path)
    node = Tree.find(tree, path)[1]
    return node.type if node.entry is None else node[:3]


def children(tree: Tree, path: str) -> object:
    nodes = tree.children(tree.find(path)[0])
    return {name: node.type if node.entry is None else node[:3] for name, node in nodes.items()}


def walked(tree: Tree, path: str) -> object:
    rows = [row for batch in tree.rows(path) for row in batch]
    return [row[:2] for row in rows[1:]]


def answer(tree: Tree, query: object, path: str) -> object:
    try:
        return query(tree, path)
    except PathError as error:
        return error.reason


@pytest.mark.parametrize("seed", range(8))
def test_result_when_a_layer_is_unreadable_then_no_layer_could_change_it(seed):
    rng = random.Random(seed)  # noqa: S311 (no secret)
    queries = (is_directory, found, found_unfollowed, status, children, walked)
    unreadable = UnreadableLayer(Descriptor.of(b"x", OCI_LAYER), UnsupportedError("odd"))
    answer_count = 0
    for _ in range(60):
        above = [random_layer(rng) for _ in range(rng.randint(1, 3))]
        partial = PartialTree([Names(()), unreadable, *above])
        answers = {}
        for query in queries:
            for path in PATHS:
                try:
                    answers[query, path] = answer(partial, query, path)
                except UnsupportedError:
                    continue
        answer_count += len(answers)
        for _ in range(8):
            below = [random_layer(rng), random_layer(rng)]
            whole = Tree([*below, *above])
            for (query, path), expected in answers.items():
                assert answer(whole, query, path) == expected, (query, path, below, above)
    assert answer_count > 300
