"""`tocsin.open`: metadata, and bytes compared with ``tarfile`` and plain slices."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import re
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest
import zstandard

import tocsin
from support import goldens, tarmaker
from support.disks import tiny_disk
from support.forked import exit_code, forked
from support.images import image_of, make_image, put_index
from support.readable import SPAN, put_image, put_indexed, text
from support.registry_client import noise
from support.tarmaker import entry
from tocsin.errors import (
    FormatError,
    NotFoundError,
    PathError,
    UnsupportedError,
    VerificationError,
)
from tocsin.layers import spans
from tocsin.layers.known_ztocs import KNOWN
from tocsin.model.entry_path import clean_path
from tocsin.model.index_choice import IndexChoice
from tocsin.model.media_types import OCI_LAYER, OCI_LAYER_GZIP
from tocsin.stores.layout import OciLayout

BIG = text(700_001)
SMALL = b"NAME=small\n"


@pytest.fixture(scope="module")
def layers():
    """Three tars: files, a change with whiteouts, and a later one."""
    return (
        tarmaker.tar(
            entry("etc/", type=tarfile.DIRTYPE, mode=0o755),
            entry("etc/os-release", SMALL, mode=0o644, uid=3, gid=4, mtime=1_700_000_000),
            entry("etc/gone", b"old"),
            entry("usr/big", BIG, mode=0o4755),
            entry("usr/twin", type=tarfile.LNKTYPE, linkname="usr/big", mode=0o4755),
            entry("lib", type=tarfile.SYMTYPE, linkname="/usr"),
            entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("empty"),
            entry("run/p", type=tarfile.FIFOTYPE),
            entry("x", b"1", pax={"SCHILY.xattr.user.k": "v", "mtime": "12.5"}),
        ),
        tarmaker.tar(
            entry("etc/.wh.gone"),
            entry("lib/new", b"behind the link"),
            entry("usr/again", type=tarfile.LNKTYPE, linkname="usr/twin", mode=0o4755),
        ),
        tarmaker.tar(entry("usr/big", b"upper")),
    )


@pytest.fixture(scope="module")
def indexed(layers, tmp_path_factory):
    return put_indexed(tmp_path_factory.mktemp("indexed"), *layers)


@pytest.fixture
def image(indexed):
    with tocsin.open(indexed) as image:
        yield image


def test_open_when_indexed_then_ztocs_are_used(image):
    # The second layer has no zTOC, since readers refuse one with a hard link to another layer:
    # docs/format.md#acceptance-rules.
    assert [layer.index_origin for layer in image.layers] == ["v2", "made", "v2"]
    assert image.notes == []
    assert image.config["os"] == "linux"


def test_listdir_when_layers_are_merged_then_upper_replaces_lower(image):
    assert image.listdir() == ["dev", "empty", "etc", "lib", "run", "usr", "x"]
    assert image.listdir("etc") == ["os-release"]
    assert image.listdir("lib/") == ["again", "big", "new", "twin"]


def test_cat_when_given_links_to_a_file_then_each_has_its_bytes(image):
    assert image.cat("/usr/twin") == BIG
    assert image.cat("lib/again") == BIG
    assert image.cat("usr/big") == b"upper"
    assert image.cat("lib/new") == b"behind the link"
    assert image.cat("empty") == b""
    assert image.stat("usr/twin").inode == image.stat("usr/again").inode


def test_stat_when_called_then_as_in_the_tar(image):
    found = image.stat("etc/os-release")
    assert (found.path, found.name, found.type) == ("/etc/os-release", "os-release", "file")
    assert (found.size, found.mode, found.uid, found.gid) == (len(SMALL), 0o644, 3, 4)
    assert found.mtime_ns == 1_700_000_000 * 10**9
    assert image.stat("x").mtime_ns == 12_500_000_000
    assert image.stat("x").xattrs == {"user.k": b"v"}
    assert image.stat("usr/twin").mode == 0o4755
    assert (image.lstat("lib").type, image.lstat("lib").linkname) == ("symlink", "/usr")
    assert image.stat("lib").path == "/usr"
    assert (image.stat("dev/null").devmajor, image.stat("dev/null").devminor) == (1, 3)
    assert (image.stat("usr").mode, image.stat("usr").is_dir) == (0o755, True)
    assert [found.name for found in image.ls("usr")] == ["again", "big", "new", "twin"]


def test_paths_when_queried_then_the_same_as_with_os(image):
    assert image.exists("lib/big")
    assert not image.exists("etc/gone")
    assert image.is_dir("lib")
    assert image.is_file("lib/big")
    assert not image.is_file("dev/null")
    assert image.readlink("lib") == "/usr"
    walked = list(image.walk())
    assert walked[0] == ("/", ["dev", "etc", "run", "usr"], ["empty", "lib", "x"])
    assert [top for top, _, _ in walked] == ["/", "/dev", "/etc", "/run", "/usr"]
    assert list(image.walk("usr")) == [("/usr", [], ["again", "big", "new", "twin"])]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/etc/*", ["/etc/os-release"]),
        ("*", ["/dev", "/empty", "/etc", "/lib", "/run", "/usr", "/x"]),
        ("e*", ["/empty", "/etc"]),
        ("lib/t*", ["/lib/twin"]),
        ("**/[bt]*", ["/usr/big", "/usr/twin"]),
        ("usr/**", ["/usr/again", "/usr/big", "/usr/new", "/usr/twin"]),
        ("**/null", ["/dev/null"]),
        ("/usr/big", ["/usr/big"]),
        ("usr?big", []),
        ("nowhere/*", []),
        ("x/*", []),
    ],
)
def test_glob_when_given_a_pattern_then_the_matching_paths(image, pattern, found):
    assert image.glob(pattern) == found


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("usr", "directory"),
        ("dev/null", "special"),
        ("run/p", "special"),
        ("nope", "missing"),
        ("x/y", "not_directory"),
    ],
)
def test_open_when_not_a_regular_file_then_path_error(image, path, reason):
    with pytest.raises(PathError) as failed:
        image.open(path)
    assert failed.value.reason == reason


def test_open_when_not_read_only_then_value_error(image):
    for mode in ("r", "w", "wb", "r+b", "ab"):
        with pytest.raises(ValueError, match="read-only"):
            image.open("x", mode)


def test_file_when_used_then_it_behaves_like_a_file_object(image):
    with image.open("usr/twin") as file:
        assert isinstance(file, io.BufferedReader)
        assert file.read(10) == BIG[:10]
        assert file.seek(-7, os.SEEK_END) == len(BIG) - 7
        assert file.read() == BIG[-7:]
        assert file.read(1) == b""
        file.seek(SPAN - 3)
        assert file.read(6) == BIG[SPAN - 3 : SPAN + 3]
        assert file.seek(5, os.SEEK_CUR) == SPAN + 8
        assert file.seek(10**12) == 10**12
        assert file.read(1) == b""
        with pytest.raises(OSError, match="before the start"):
            file.raw.seek(-1)
        with pytest.raises(io.UnsupportedOperation, match="no file descriptor"):
            file.fileno()
        assert not file.writable()
    with pytest.raises(ValueError, match="closed file"):
        file.read()
    with image.open("usr/twin", buffering=0) as raw:
        buffer = bytearray(100)
        assert raw.readinto(buffer) == 100
        assert bytes(buffer) == BIG[:100]
        assert raw.readall() == BIG[100:]
    assert hashlib.file_digest(image.open("usr/twin"), "md5").digest() == hashlib.md5(BIG).digest()  # noqa: S324


def test_file_when_wrapped_in_text_io_then_text_is_read(image):
    with io.TextIOWrapper(image.open("etc/os-release")) as lines:
        assert list(lines) == ["NAME=small\n"]


def test_read_when_at_random_offsets_then_equal_to_slices(image):
    rng = random.Random(7)  # noqa: S311 (no secret)
    with image.open("usr/twin") as file:
        for _ in range(300):
            start = rng.randrange(len(BIG))
            size = rng.choice([1, 100, 4096, 70_000, 300_000])
            file.seek(start)
            assert file.read(size) == BIG[start : start + size]
    assert image.read_range("usr/twin", 5, 9) == BIG[5:9]
    assert image.read_range("usr/twin", len(BIG) - 2, len(BIG) + 9) == BIG[-2:]


@pytest.mark.parametrize("cache_size", [1, 100_000, 1 << 30])
def test_read_when_cache_has_any_size_then_the_bytes_are_correct(indexed, cache_size):
    with tocsin.open(indexed, cache_size=cache_size) as image:
        assert image.cat("usr/twin") == BIG
        assert image.read_range("usr/twin", 300_000, 300_005) == BIG[300_000:300_005]
        assert image.cat("usr/twin") == BIG


def test_read_when_from_many_threads_then_each_span_is_fetched_once(indexed, layers):
    with tocsin.open(indexed) as image:
        image._merged.tree  # noqa: B018 (so that only spans are counted below)
        before = image.traffic.read
        with ThreadPoolExecutor(64) as pool:
            assert all(data == BIG for data in pool.map(lambda _: image.cat("usr/twin"), range(64)))
        layer = image.layers[0].descriptor
        # Adjacent spans share a byte.
        assert image.traffic.read - before <= layer.size + len(layers[0]) // SPAN + 2


def test_read_when_one_small_file_then_only_its_spans_are_fetched(indexed):
    with tocsin.open(indexed) as image:
        image._merged.tree  # noqa: B018 (as above)
        before = image.traffic.read
        assert image.cat("etc/os-release") == SMALL
        spans = image._merged.layers[0].spans.span_ids(0, 4096)
        assert len(spans) == 1
        assert image.traffic.read - before < image.layers[0].descriptor.size // 3


def test_image_when_forked_then_both_processes_read(image):
    assert image.read_range("usr/twin", 0, 5) == BIG[:5]
    assert exit_code(forked(lambda: image.cat("usr/twin") == BIG)) == 0
    assert image.cat("usr/twin") == BIG


def test_paths_when_pathlib_objects_then_accepted(layers, tmp_path):
    path = PurePosixPath("/usr/twin")
    with tocsin.open(put_image(tmp_path, *layers)) as image:
        assert image.cat(path) == image.cat("/usr/twin") == BIG
        assert image.read_range(path, 1, 3) == BIG[1:3]
        assert image.stat(path) == image.lstat(path) == image.regular_file(path)
        assert image.exists(path)
        assert image.is_file(path)
        assert image.is_dir(path.parent)
        assert image.ls(path.parent) == image.ls("/usr")
        assert image.listdir(path.parent) == image.listdir("/usr")
        assert list(image.walk(path.parent)) == list(image.walk("/usr"))
        assert list(image.find(path.parent)) == list(image.find("/usr"))
        assert image.glob(path.parent / "*") == image.glob("/usr/*")
        with image.open(path) as file:
            assert file.read() == BIG
        image.extract(path, tmp_path / "out")
        with pytest.raises(TypeError, match="path is bytes, expected str"):
            image.cat(b"/usr/twin")


def test_regular_file_when_given_links_to_it_then_its_metadata(tmp_path):
    tar = tarmaker.tar(
        entry("d/f", b"x"),
        entry("l", type=tarfile.SYMTYPE, linkname="d/f"),
        entry("e", type=tarfile.DIRTYPE),
    )
    with tocsin.open(put_image(tmp_path, tar)) as image:
        assert image.regular_file("l") == image.stat("/d/f")
        for path, reason in (("e", "directory"), ("nope", "missing")):
            with pytest.raises(PathError) as refusal:
                image.regular_file(path)
            assert refusal.value.reason == reason


# Without zTOCs


def test_open_when_not_indexed_then_ztocs_are_made_and_noted(layers, tmp_path):
    noted = []
    large = tarmaker.tar(entry("noise", noise(11 << 20)))
    some = tarmaker.tar(entry("some", noise(1 << 20)))
    with tocsin.open(put_image(tmp_path, *layers, some, large), note=noted.append) as image:
        assert image.cat("usr/twin") == BIG
        assert [layer.index_origin for layer in image.layers] == ["made"] * 5
        assert noted == image.notes
        assert re.fullmatch(
            r"layer sha256:\w+ has no ztoc: 11\.0 MiB were read to make one, in \d+\.\d s", noted[0]
        )
        assert noted[1:] == ["4 small layers have no ztoc: 1.1 MiB were read"]


def test_open_when_one_small_layer_is_read_then_the_note_is_singular(tmp_path):
    image = put_image(tmp_path, tarmaker.tar(entry("noise", noise(2 << 20))))
    with tocsin.open(image) as opened:
        opened.cat("noise")
        assert opened.notes == ["1 small layer has no ztoc: 2.0 MiB were read"]


def test_open_when_layers_are_read_in_full_then_each_reports_progress(layers, tmp_path):
    busy, events = threading.Lock(), []

    def progress(event):
        assert busy.acquire(blocking=False)
        events.append(event)
        busy.release()

    with tocsin.open(put_image(tmp_path, *layers), progress=progress) as image:
        assert not events
        assert image.layers
        for layer in image.layer_descriptors:
            first, *advances, last = [event for event in events if event.layer == layer]
            assert first == tocsin.LayerStarted(layer)
            assert advances[-1] == tocsin.LayerAdvanced(layer, layer.size)
            assert last == tocsin.LayerFinished(layer, last.seconds)


@pytest.mark.parametrize("threads", [1, 2, 8, None])
def test_open_when_not_indexed_then_any_thread_count_gives_the_same(layers, tmp_path, threads):
    twice = tarmaker.tar(entry("some", noise(1 << 20)))
    image_name = put_image(tmp_path, *layers, twice, twice)
    with tocsin.open(image_name, threads=threads) as image:
        assert image.cat("usr/twin") == BIG
        assert [layer.index_origin for layer in image.layers] == ["made"] * 5


def test_open_when_a_layer_is_damaged_then_no_other_waits_for_it(tmp_path):
    large, small = (tarmaker.tar(entry("f", noise(size))) for size in (3 << 20, 1 << 20))
    name = put_image(tmp_path, small, large, small)
    with tocsin.open(name) as image:
        layer = image.layer_descriptors[1]
    spoil(tmp_path / "blobs" / "sha256" / layer.digest.hex, layer.size // 2)
    with (
        tocsin.open(name, threads=2) as image,
        pytest.raises((FormatError, VerificationError)),
    ):
        image.listdir()


def test_open_when_threads_is_0_then_value_error(tmp_path):
    with pytest.raises(ValueError, match="threads is 0"):
        tocsin.open(f"oci:{tmp_path}:t", threads=0)


def test_open_when_layers_are_plain_tars_then_read_too(layers, tmp_path):
    with tocsin.open(put_image(tmp_path, *layers, compress=False)) as image:
        assert image.cat("usr/twin") == BIG
    with tocsin.open(put_indexed(tmp_path / "i", *layers, compress=False)) as image:
        assert image.cat("usr/twin") == BIG


@pytest.fixture
def zstd_image(layers, tmp_path):
    """The lowest layer as zstd, the others as they were."""
    zstd = zstandard.ZstdCompressor().compress(layers[0])
    others = [(gzip.compress(tar, mtime=0), OCI_LAYER_GZIP) for tar in layers[1:]]
    with OciLayout(tmp_path, write=True) as store:
        image_of((zstd, "application/vnd.oci.image.layer.v1.tar+zstd"), *others).put(store, "t")
    return f"oci:{tmp_path}:t"


def test_open_when_a_layer_is_zstd_then_streamed_and_noted(zstd_image):
    with tocsin.open(zstd_image, cache_size=1) as image:
        assert image.cat("usr/twin") == BIG
        assert image.cat("etc/os-release") == SMALL  # further back: the stream starts again
        assert image.read_range("usr/twin", 600_000, 600_009) == BIG[600_000:600_009]
        assert any("again whenever a read goes back" in note for note in image.notes)


def test_open_when_a_zstd_layer_is_corrupt_then_verification_error(zstd_image, layers, tmp_path):
    with tocsin.open(zstd_image) as image:
        [layer, *_] = image.layer_descriptors
    spoil(tmp_path / "blobs" / "sha256" / layer.digest.hex, layer.size // 2)
    with (
        tocsin.open(zstd_image) as image,
        pytest.raises((FormatError, VerificationError), match=layer.digest.hex),
    ):
        image.listdir()


def test_open_when_index_missing_is_off_then_unsupported(layers, tmp_path):
    said = r"has no ztoc, \d+ bytes would have to be read"
    with (
        tocsin.open(put_image(tmp_path, *layers), index_missing=False) as image,
        pytest.raises(UnsupportedError, match=said),
    ):
        image.listdir()


def test_open_when_index_is_none_then_none_is_used(indexed):
    with tocsin.open(indexed, index="none") as image:
        assert image.cat("usr/twin") == BIG
        assert {layer.index_origin for layer in image.layers} == {"made"}


def test_open_when_an_index_is_given_by_digest_then_it_is_used(layers, tmp_path):
    plain = put_image(tmp_path, layers[0])
    made = tocsin.create(plain, options=tocsin.IndexingOptions(min_layer_size=0))
    [platform] = made.platforms
    with tocsin.open(plain, index=platform.soci_index.digest) as image:
        assert {layer.index_origin for layer in image.layers} == {"given"}
    with tocsin.open(plain, index=str(platform.soci_index.digest)) as image:
        assert {layer.index_origin for layer in image.layers} == {"given"}
        assert image.cat("usr/twin") == BIG
    with tocsin.open(plain) as image:
        assert {layer.index_origin for layer in image.layers} == {"v1"}
    with tocsin.open(plain, index="sha256:" + "0" * 64) as image, pytest.raises(NotFoundError):
        image.listdir()
    with pytest.raises(FormatError):
        tocsin.open(plain, index="newest")


def test_open_when_there_are_several_platforms_then_one_is_chosen(tmp_path):
    with OciLayout(tmp_path, write=True) as store:
        put_index(
            store,
            {p: make_image({"p": p.encode()}, platform=p) for p in ("linux/s390x", "linux/mips")},
            "t",
        )
    with tocsin.open(f"oci:{tmp_path}:t", platform=tocsin.Platform("linux", "mips")) as image:
        assert image.cat("p") == b"linux/mips"
    with tocsin.open(f"oci:{tmp_path}:t", platform="linux/mips") as image:
        assert image.cat("p") == b"linux/mips"
    with pytest.raises(NotFoundError, match=r"available: linux/s390x, linux/mips\)$") as caught:
        tocsin.open(f"oci:{tmp_path}:t")
    assert "--platform" in caught.value.hint
    with pytest.raises(NotFoundError):
        tocsin.open(f"oci:{tmp_path}:t", platform="linux/riscv64")


@pytest.mark.parametrize("name", sorted({c["layer"] for c in goldens.expected()["built"]}))
def test_cat_when_layer_is_golden_then_every_file_is_as_tarfile_has_it(name, tmp_path):
    layer = goldens.layer(name)
    compressed = layer[:2] == b"\x1f\x8b"
    with OciLayout(tmp_path, write=True) as store:
        image_of((layer, OCI_LAYER_GZIP if compressed else OCI_LAYER)).put(store, "t")
    raw = gzip.decompress(layer) if compressed else layer
    wanted = {}
    with tarfile.open(fileobj=io.BytesIO(raw), encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            if member.isreg():
                wanted[clean_path(member.name)] = tar.extractfile(member).read()
    with tocsin.open(f"oci:{tmp_path}:t") as image:
        files = [found.path for found in image.find() if found.is_file]
        for path in files:
            at = image._merged.tree.find(path)[1]
            # For a hard link, the path of the file to which it links.
            named = image._merged.layers[0].paths[at.entry]
            assert image.cat(path) == wanted[named]
    assert len(files) >= len(wanted) - 1  # one golden lists a name twice


# Errors


def spoil(path, at, value=None):
    data = bytearray(path.read_bytes())
    data[at] = data[at] ^ 1 if value is None else value
    path.chmod(0o644)
    path.write_bytes(data)


def test_read_when_a_span_is_corrupt_then_error_and_never_inflated(layers, tmp_path):
    reference = put_indexed(tmp_path, *layers)
    with tocsin.open(reference) as image:
        layer = image.layers[0].descriptor
        ids = image._merged.layers[0].spans.span_ids(400_000, 400_001)
        spoil(tmp_path / "blobs" / "sha256" / layer.digest.hex, layer.size // 2)
        with pytest.raises(VerificationError, match=rf"{layer.digest.hex}: .*span \d+") as failed:
            image.cat("usr/twin")
        assert failed.value.expected != failed.value.actual
        assert len(ids) == 1
        assert image.cat("etc/os-release") == SMALL


def test_open_when_a_ztoc_does_not_match_its_digest_then_not_used(layers, tmp_path):
    reference = put_indexed(tmp_path, *layers)
    with tocsin.open(reference) as image:
        [found] = image._opener.indexes(
            image.descriptor, image.manifest, IndexChoice(), pinned=False
        )
    ztoc = found.soci_index.ztocs[0]
    spoil(tmp_path / "blobs" / "sha256" / ztoc.digest.hex, ztoc.size - 9)
    KNOWN.clear()
    with tocsin.open(reference) as image:
        assert image.cat("usr/twin") == BIG
        assert [layer.index_origin for layer in image.layers] == ["made", "made", "v2"]
        assert any(f"ztoc {ztoc.digest} is not used" in note for note in image.notes)


def test_open_when_a_layer_cannot_be_read_then_unsupported(tmp_path):
    with OciLayout(tmp_path, write=True) as store:
        image_of((b"x", "application/vnd.oci.image.layer.v1.tar+lz4")).put(store, "t")
    with (
        tocsin.open(f"oci:{tmp_path}:t") as image,
        pytest.raises(UnsupportedError, match=r"tar\+lz4 is not supported"),
    ):
        image.listdir()


def test_open_when_a_layer_type_is_unknown_then_not_ignored(layers, tmp_path):
    with OciLayout(tmp_path, write=True) as store:
        good = (gzip.compress(layers[0]), OCI_LAYER_GZIP)
        image_of(good, (b"x", "application/vnd.example.layer")).put(store, "t")
    with (
        tocsin.open(f"oci:{tmp_path}:t") as image,
        pytest.raises(UnsupportedError, match=r"vnd\.example\.layer is not supported"),
    ):
        image.listdir()


def test_open_when_a_layer_is_not_a_tar_then_format_error(tmp_path):
    with OciLayout(tmp_path, write=True) as store:
        image_of((gzip.compress(b"x" * 2000), OCI_LAYER_GZIP)).put(store, "t")
    with tocsin.open(f"oci:{tmp_path}:t") as image, pytest.raises(FormatError):
        image.listdir()


def test_open_when_names_are_hostile_then_they_stay_names(tmp_path):
    odd = b"caf\xe9\xff".decode("utf-8", "surrogateescape")
    long = "/".join(["n" * 200] * 20)
    tar = tarmaker.tar(
        entry("../../up", b"1"), entry("/abs", b"2"), entry(odd, b"3"), entry(long, b"4"),
        entry("loop", type=tarfile.SYMTYPE, linkname="loop"),
        entry("out", type=tarfile.SYMTYPE, linkname="../../../etc/passwd"),
    )  # fmt: skip
    with tocsin.open(put_image(tmp_path, tar)) as image:
        assert image.cat("up") == b"1"
        assert image.cat("/abs") == b"2"
        assert image.cat(odd) == b"3"
        assert image.cat(long) == b"4"
        with pytest.raises(PathError, match="loop"):
            image.cat("loop")
        with pytest.raises(PathError, match="no such file"):
            image.cat("out")


def test_cat_when_a_hard_link_is_dangling_then_path_error(tmp_path):
    tar = tarmaker.tar(entry("h", type=tarfile.LNKTYPE, linkname="gone"))
    with (
        tocsin.open(put_image(tmp_path, tar)) as image,
        pytest.raises(PathError, match="hard link to gone, which is not in the image"),
    ):
        image.cat("h")


def test_cat_when_a_link_target_has_escapes_then_it_is_quoted(tmp_path):
    tar = tarmaker.tar(entry("h", type=tarfile.LNKTYPE, linkname="x; run\n\x1b[2Jhint: y\udce9"))
    with tocsin.open(put_image(tmp_path, tar)) as image, pytest.raises(PathError) as caught:
        image.cat("h")
    said = r'h: hard link to "x; run\n\x1b[2Jhint: y\xe9", which is not in the image'
    assert (caught.value.message, caught.value.hint) == (said, None)


def test_read_when_a_span_is_too_large_for_memory_then_unsupported(tmp_path, monkeypatch):
    bomb = tarmaker.tar(entry("zeros", bytes(4 << 20)))
    monkeypatch.setattr(spans, "MAX_SPAN_SIZE", 1 << 20)
    with tocsin.open(put_image(tmp_path, bomb)) as image:
        assert image.read_range("zeros", 0, 100) == bytes(100)
        for _ in range(2):
            with pytest.raises(UnsupportedError, match=r"span \d+ is too large to be held"):
                image.cat("zeros")


def test_open_when_opened_again_then_ztocs_are_not_fetched_again(layers, tmp_path):
    reference = put_indexed(tmp_path, layers[0])
    KNOWN.clear()
    with tocsin.open(reference) as image:
        image.listdir()
        first = image.traffic.read
    with tocsin.open(reference) as image:
        assert image.cat("usr/twin") == BIG
        [layer] = image.layers
        assert image.traffic.read - layer.descriptor.size < first - 30_000  # a window, at least


def test_stat_when_a_hard_link_has_other_metadata_then_the_file_has_it(tmp_path):
    """As containerd 1.7.27 unpacks it: it makes the link, then sets owner, mode and time."""
    capability = {"SCHILY.xattr.security.capability": "\1\0\0\2" + "\0" * 16}
    made = tarmaker.tar(
        entry("f", b"1", mode=0o600, uid=1, gid=2, mtime=1000, pax={"SCHILY.xattr.user.a": "1"}),
        entry("h", type=tarfile.LNKTYPE, linkname="f", mode=0o755, uid=5, gid=6, mtime=2000),
        entry("cap", b"1", mode=0o755, pax={**capability, "SCHILY.xattr.user.a": "1"}),
        entry("l", type=tarfile.SYMTYPE, linkname="f", mode=0o777),
    )
    upper = tarmaker.tar(
        entry("cap2", type=tarfile.LNKTYPE, linkname="cap", pax={"SCHILY.xattr.user.b": "2"}),
        entry("l2", type=tarfile.LNKTYPE, linkname="l", mode=0o600, uid=7, mtime=3),
    )
    with tocsin.open(put_image(tmp_path, made, upper)) as image:
        for name in ("f", "h"):
            found = image.stat(name)
            assert (found.mode, found.uid, found.gid, found.mtime) == (
                0o755,
                5,
                6,
                datetime.fromtimestamp(2000, UTC),
            )
            assert found.xattrs == {"user.a": b"1"}
            assert found.size == 1
        assert image.stat("cap").xattrs == {"user.a": b"1", "user.b": b"2"}
        found = image.lstat("l")
        assert (found.mode, found.uid, found.mtime_ns) == (0o777, 7, 3 * 10**9)


def test_stat_when_an_owner_is_not_a_valid_id_then_root(tmp_path):
    no_owner = {"uid": "4294967295", "gid": "4294967295"}
    made = tarmaker.tar(
        entry("f", b"1", pax=no_owner),
        entry("d/", type=tarfile.DIRTYPE, gid=9, pax={"uid": no_owner["uid"]}),
        entry("g", b"1", uid=5, gid=6),
        entry("h", type=tarfile.LNKTYPE, linkname="g", pax=no_owner),
    )
    with tocsin.open(put_image(tmp_path, made)) as image:
        owners = {found.name: (found.uid, found.gid) for found in image.ls("/")}
    assert owners == {"f": (0, 0), "d": (0, 9), "g": (5, 6), "h": (5, 6)}


# The cache on disk


def cached_files(directory):
    """Return the files that hold data, but not the one that holds their total size."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(path for path in files if not path.name.startswith("."))


def test_cache_dir_when_used_again_then_nothing_is_fetched(indexed, tmp_path):
    with tocsin.open(indexed, cache_dir=tmp_path) as image:
        assert image.cat("usr/twin") == BIG
    with tocsin.open(indexed, cache_dir=tmp_path) as image:
        image.descriptor  # noqa: B018
        before = image.traffic.read
        assert image.cat("usr/twin") == BIG
        sizes = sum(layer.descriptor.size for layer in image.layers)
        assert image.traffic.read - before < 4000 < sizes  # the SOCI index alone


@pytest.mark.parametrize("harm", ["spoilt", "short", "empty", "gone"])
def test_cache_dir_when_tampered_with_then_files_are_replaced(indexed, tmp_path, harm):
    with tocsin.open(indexed, cache_dir=tmp_path) as image:
        assert image.cat("usr/twin") == BIG
    kept = {path: path.read_bytes() for path in cached_files(tmp_path)}
    for path, data in kept.items():
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes({"spoilt": b"\0" * len(data), "short": data[:-1], "empty": b""}[harm])
    for _ in range(2):
        with tocsin.open(indexed, cache_dir=tmp_path) as image:
            assert image.cat("usr/twin") == BIG
    assert {path: path.read_bytes() for path in cached_files(tmp_path)} == kept


def test_cache_dir_when_it_is_a_file_then_noted(indexed, tmp_path):
    place = tmp_path / "file"
    place.write_bytes(b"")
    with tocsin.open(indexed, cache_dir=place) as image:
        assert image.cat("usr/twin") == BIG
        assert image.notes == [f"cache {place}: not used: Not a directory"]


@pytest.mark.parametrize("what", ["fifo", "endless", "huge", "directory", "link"])
def test_cache_dir_when_files_are_replaced_by_others_then_fetched_again(indexed, tmp_path, what):
    with tocsin.open(indexed, cache_dir=tmp_path / "c") as image:
        assert image.cat("usr/twin") == BIG
        fetched = image.traffic.read
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for path in cached_files(tmp_path / "c"):
        path.unlink()
        match what:
            case "fifo":
                os.mkfifo(path)
            case "endless":
                path.symlink_to("/dev/zero")
            case "huge":
                path.touch()
                os.truncate(path, 1 << 40)
            case "directory":
                path.mkdir()
            case "link":
                path.symlink_to(victim)
    KNOWN.clear()
    for is_harmed in (True, what == "directory"):  # anything else is replaced
        with tocsin.open(indexed, cache_dir=tmp_path / "c") as image:
            assert image.cat("usr/twin") == BIG
            notes = [note for note in image.notes if "ignored and fetched again" in note]
            assert len(notes) == is_harmed
            assert (image.traffic.read == fetched) == is_harmed
    assert victim.read_bytes() == b"precious"


def test_cache_dir_size_when_small_then_the_directory_stays_below_it(indexed, tmp_path):
    with tocsin.open(indexed, cache_dir=tmp_path, cache_dir_size=200_000) as image:
        assert image.cat("usr/twin") == BIG
    sizes = [path.stat().st_size for path in cached_files(tmp_path)]
    assert 0 < sum(sizes) <= 200_000


def test_cache_dir_when_the_disk_is_full_then_noted_and_reading_continues(indexed, tmp_path):
    with tiny_disk(tmp_path / "disk", size=64 << 10) as disk:
        with tocsin.open(indexed, cache_dir=disk) as image:
            assert image.cat("usr/twin") == BIG
            [note] = [note for note in image.notes if "no longer written to" in note]
            assert "No space left" in note
        with tocsin.open(indexed, cache_dir=disk) as image:
            assert image.cat("usr/twin") == BIG


def test_image_when_closed_while_fetching_then_no_thread_hangs(indexed):
    image = tocsin.open(indexed)
    file = image.open("usr/twin")
    file.read(1)
    threads = [threading.Thread(target=image.close) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_config_when_read_then_json(image):
    assert json.loads(json.dumps(image.config)) == image.config
