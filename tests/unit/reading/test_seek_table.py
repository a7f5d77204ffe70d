"""Reading an image with its seek table: same results as with zTOCs, few bytes and round trips."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import tarfile
import threading
from dataclasses import fields, replace

import pytest
import zstandard

import tocsin
from support import goldens, seek, tarmaker
from support.forked import exit_code, forked
from support.images import image_of
from support.readable import OPTIONS, put_image, text
from support.registry import Registry
from support.tarmaker import entry
from support.tree_snapshot import snapshot
from tocsin.errors import (
    FormatError,
    NotFoundError,
    PathError,
    VerificationError,
)
from tocsin.images.seek_tables import bound_seek_table, referring_seek_tables
from tocsin.layers import seek_parts
from tocsin.layers.seek import SeekSpanTable
from tocsin.layers.seek_parts import BlobParts, Part
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_LAYER, OCI_LAYER_GZIP
from tocsin.model.reference import parse_reference
from tocsin.reading import ranges
from tocsin.reading.blob_ranges import BlobRanges
from tocsin.reading.filesystem import TocsinFileSystem
from tocsin.reading.layer import Layer
from tocsin.reading.ranges import FileRange, read_ranges
from tocsin.stores.layout import OciLayout
from tocsin.stores.opening import open_sink

PLAIN_HTTP = tocsin.RegistryOptions(plain_http=True)
SPAN_SIZES = [64 << 10, 256 << 10, 1 << 20]
BIG = text(1_500_001, seed=8)
SMALL = b"NAME=small\n"
LAYERS = (
    tarmaker.tar(
        entry("etc/", type=tarfile.DIRTYPE, mode=0o755),
        entry("etc/os-release", SMALL, mode=0o644, uid=3, gid=4, mtime=1_700_000_000),
        entry("etc/gone", b"old"),
        entry("usr/big", BIG, mode=0o4755),
        entry("usr/twin", type=tarfile.LNKTYPE, linkname="usr/big", mode=0o700, uid=9),
        entry("lib", type=tarfile.SYMTYPE, linkname="/usr"),
        entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("empty"),
        entry("run/p", type=tarfile.FIFOTYPE),
        entry("x" * 200, b"1", pax={"SCHILY.xattr.user.k": "v", "mtime": "12.5"}),
    ),
    tarmaker.tar(
        entry("etc/.wh.gone"),
        entry("lib/new", b"behind the link"),
        entry("usr/again", type=tarfile.LNKTYPE, linkname="usr/twin", mode=0o4755),
        entry("broken", type=tarfile.LNKTYPE, linkname="nowhere"),
    ),
    tarmaker.tar(entry("usr/upper", b"upper")),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A layout with one image: plain, with zTOCs (soci, referred), with a table (bound, bare)."""
    directory = tmp_path_factory.mktemp("layout") / "D"
    plain = put_image(directory, *LAYERS)
    for tag in ("soci", "referred"):
        tocsin.convert(plain, f"oci:{directory}:{tag}", options=OPTIONS)
    with OciLayout(directory, write=True) as store:
        _, manifest, _ = seek.layers_of(store, "plain")
        other = replace(manifest, annotations={"other": "image"})
        store.put_manifest(other.to_json(), manifest.media_type, tag="bare")
        table = seek.bind(store, "plain", "bound")
        seek.add_referrer(store, "bare", table)
    return directory


def opened(place, tag, **options):
    return tocsin.open(f"oci:{place}:{tag}", **options)


def origins(image):
    return {layer.index_origin for layer in image.layers}


def listed(image):
    """Return all fields of each path, with the first path that has an inode in place of it."""
    found, names = {}, {}
    for status in image.find("/"):
        first = names.setdefault(status.inode, status.path)
        values = {each.name: getattr(status, each.name) for each in fields(status)}
        found[status.path] = {**values, "inode": first}
    return found


def data_of(image):
    return {status.path: image.cat(status.path) for status in image.find("/") if status.is_file}


@pytest.mark.parametrize("tag", ["bound", "bare"])
def test_image_when_read_with_table_then_the_same_as_without(place, tag, tmp_path):
    with opened(place, tag) as image, opened(place, "plain", index="none") as plain:
        assert origins(image) == {"seek"}
        assert image.notes == []
        assert listed(image) == listed(plain)
        assert data_of(image) == data_of(plain)
        for path in ("/", "usr", "lib", "etc/os-release", "lib/../usr/./twin", "empty/"):
            assert answers(image, path) == answers(plain, path), path
        assert list(image.walk()) == list(plain.walk())
        assert image.glob("**/*") == plain.glob("**/*")
        results = [
            replace(each.extract("/", tmp_path / name), seconds=0)
            for name, each in (("a", image), ("b", plain))
        ]
        assert results[0] == results[1]
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def answers(image, path):
    """Return what the methods of an image return for a path, or the error."""
    found = []
    for method in ("stat", "lstat", "ls", "listdir", "exists", "is_dir", "is_file", "cat"):
        try:
            result = getattr(image, method)(path)
        except PathError as error:
            result = (error.message, error.reason)
        if isinstance(result, tocsin.FileStat):
            result = replace(result, inode=0)
        elif method == "ls" and isinstance(result, list):
            result = [replace(each, inode=0) for each in result]
        found.append(result)
    return found


@pytest.mark.parametrize("span_size", SPAN_SIZES)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kind", ["gzip", "tar", "zstd"])
def test_cat_when_span_size_and_compression_vary_then_the_same(span_size, threads, kind, tmp_path):
    pack = {"gzip": gzip.compress, "tar": bytes, "zstd": zstandard.compress}[kind]
    media_type = OCI_LAYER if kind == "tar" else OCI_LAYER_GZIP
    with OciLayout(tmp_path / "D", write=True) as store:
        image_of(*((pack(tar), media_type) for tar in LAYERS)).put(store, "t")
        seek.add_referrer(store, "t", span_size=span_size, threads=threads)
    with (
        tocsin.open(f"oci:{tmp_path}/D:t", threads=threads) as image,
        tocsin.open(f"oci:{tmp_path}/D:t", index="none") as plain,
    ):
        assert origins(image) == {"seek"}
        assert data_of(image) == data_of(plain)
        assert image.read_range("usr/big", 700_000, 700_100) == BIG[700_000:700_100]
        with image.open("usr/big") as file:
            file.seek(100_000)
            assert file.read() == BIG[100_000:]


@pytest.mark.parametrize(("span_size", "threads"), list(zip(SPAN_SIZES, (1, 2, 3), strict=True)))
@pytest.mark.parametrize("name", sorted({case["layer"] for case in goldens.expected()["built"]}))
def test_golden_when_read_with_table_then_the_same_as_without(name, span_size, threads, tmp_path):
    layer = goldens.layer(name)
    media_type = OCI_LAYER_GZIP if layer[:2] == seek.GZIP else OCI_LAYER
    with OciLayout(tmp_path, write=True) as store:
        image_of((layer, media_type)).put(store, "t")
        seek.add_referrer(store, "t", span_size=span_size, threads=threads)
    reference = f"oci:{tmp_path}:t"
    with tocsin.open(reference) as image, tocsin.open(reference, index="none") as plain:
        assert origins(image) == {"seek"}
        assert listed(image) == listed(plain)
        assert data_of(image) == data_of(plain)


# -- trust -------------------------------------------------------------------------------------


def pinned(place, tag):
    with OciLayout(place) as store:
        return f"oci:{place}@{store.resolve(tag).digest}"


def test_open_when_pinned_then_only_a_bound_table_is_used(place):
    with tocsin.open(pinned(place, "bound")) as image:
        assert origins(image) == {"seek"}
    with tocsin.open(pinned(place, "bare")) as image:
        assert origins(image) == {"made"}
    with tocsin.open(pinned(place, "bare"), index="seek") as image:
        assert origins(image) == {"seek"}


def test_open_when_ztocs_are_bound_and_a_table_refers_then_ztocs_are_used(place):
    with OciLayout(place, write=True) as store:
        seek.add_referrer(store, "referred")
    with opened(place, "referred") as image:
        assert "v2" in origins(image)
    with opened(place, "referred", index="seek") as image:
        assert origins(image) == {"seek"}


@pytest.mark.parametrize("index", ["none", "v2", "v1"])
def test_open_when_another_index_is_requested_then_no_table_is_used(place, index):
    with opened(place, "bound", index=index) as image:
        assert origins(image) == {"made"}


@pytest.mark.parametrize("tag", ["bound", "bare"])
def test_open_when_the_digest_of_a_table_is_given_then_it_is_used(place, tag):
    with OciLayout(place) as store:
        image = store.resolve(tag)
        manifest = Manifest.from_json(store.manifest(image))
        found = bound_seek_table(store, manifest) or next(referring_seek_tables(store, image))
    for reference in (f"oci:{place}:{tag}", pinned(place, tag)):
        with tocsin.open(reference, index=str(found.digest)) as image:
            assert origins(image) == {"seek"}
            assert image.cat("usr/big") == BIG


def test_open_when_given_the_digest_of_another_table_then_error(place, tmp_path):
    reference = put_image(tmp_path, LAYERS[0])
    with OciLayout(tmp_path, write=True) as store:
        other = seek.make_table(gzip.compress(tarmaker.tar(entry("other", b"x")))).put(store)
    with (
        tocsin.open(reference, index=str(other.digest)) as image,
        pytest.raises(VerificationError, match="made for another image"),
    ):
        image.listdir()


def test_open_when_a_table_is_required_and_missing_then_error(place):
    with (
        opened(place, "plain", index="seek") as image,
        pytest.raises(NotFoundError, match="seek table not found"),
    ):
        image.listdir()


def test_extract_when_an_unbound_table_is_of_another_layer_then_error(tmp_path):
    # The manifest lists the honest layer; the registry serves another one of the same size.
    honest, other = (gzip.compress(tarmaker.tar(entry("f", c * 5000)), 0) for c in (b"a", b"b"))
    assert len(honest) == len(other)
    with OciLayout(tmp_path / "D", write=True) as store:
        image = image_of((honest, OCI_LAYER_GZIP))
        put = image.put(store, "t")
        table = seek.make_table(other, digests=[image.layer_descriptors[0].digest])
        table.put(store, put.plain())
        digest = image.layer_descriptors[0].digest
    blob = tmp_path / "D" / "blobs" / "sha256" / digest.hex
    blob.chmod(0o644)
    blob.write_bytes(other)
    with tocsin.open(f"oci:{tmp_path}/D:t") as opened_image:
        assert origins(opened_image) == {"seek"}
        with pytest.raises(VerificationError, match="the index describes another layer"):
            opened_image.extract("/", tmp_path / "out")


# -- broken tables -----------------------------------------------------------------------------


def other_image(table):
    return seek.make_table(gzip.compress(tarmaker.tar(entry("other", b"x"))))


def fewer_blobs(table):
    return replace(table, layers=table.layers[:-1])


def truncated_root(table):
    return replace(table, root=table.root[:-1])


def no_root(table):
    return replace(table, root=b"not a seek table")


def other_type(table):
    return replace(table, media_types=["application/octet-stream", table.media_types[1]])


DAMAGES = [other_image, fewer_blobs, truncated_root, no_root, other_type]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("inline", [True, False])
def test_open_when_the_table_is_broken_then_noted_and_not_used(damage, inline, place, tmp_path):
    plain = put_image(tmp_path, *LAYERS)
    with OciLayout(tmp_path, write=True) as store:
        table = replace(damage(seek.make_table(*seek.layers_of(store, "plain")[2])), inline=inline)
        seek.bind(store, "plain", "bad", table)
    with opened(tmp_path, "bad") as image, tocsin.open(plain, index="none") as expected:
        assert origins(image) == {"made"}
        (note,) = image.notes
        assert note.startswith("seek table sha256:")
        assert " is not used: " in note
        assert data_of(image) == data_of(expected)
    with (
        opened(tmp_path, "bad", index="seek") as image,
        pytest.raises((FormatError, VerificationError)),
    ):
        image.listdir()


def put_damaged(tmp_path, part, at):
    """Bind a table one of whose blobs is damaged in place; return the image's tag."""
    put_image(tmp_path, *LAYERS)
    with OciLayout(tmp_path, write=True) as store:
        table = seek.bind(store, "plain", "bad")
    blob = table.file_list if part == "list" else table.layers[0]
    digest = hashlib.sha256(blob).hexdigest()
    path = tmp_path / "blobs" / "sha256" / digest
    path.chmod(0o644)
    at = at % len(blob)
    path.write_bytes(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
    return "bad"


def test_read_when_a_chunk_is_damaged_then_named_error_and_no_wrong_bytes(tmp_path):
    tag = put_damaged(tmp_path, "list", -3)
    with opened(tmp_path, tag) as image:
        with pytest.raises(VerificationError, match="file list chunk 0 mismatch"):
            list(image.find("/"))
        with pytest.raises(VerificationError, match="file list chunk 0 mismatch"):
            image.cat("etc/os-release")


def test_read_when_positions_are_damaged_then_lists_but_reading_fails(tmp_path):
    tag = put_damaged(tmp_path, "list", 3)
    with opened(tmp_path, tag) as image:
        assert "etc" in image.listdir("/")
        with pytest.raises(VerificationError, match="position map mismatch"):
            image.cat("etc/os-release")


def test_read_when_a_seek_chunk_is_damaged_then_named_error(tmp_path):
    tag = put_damaged(tmp_path, "layer", -3)
    with opened(tmp_path, tag) as image:
        with pytest.raises(VerificationError, match="digest of seek chunk 0"):
            image.cat("etc/os-release")
        assert image.cat("lib/new") == b"behind the link"


def test_parts_when_beyond_the_blob_then_verification_error():
    class Source:
        name = "blob"
        in_order = False
        request_size = 0

    parts = BlobParts(Source(), 10)
    with pytest.raises(VerificationError, match="ends before a part"):
        parts.tasks([Part(0, 5, 11)], lambda *_: None)


class Chunks:
    """Spans of a seek table with two checkpoints a chunk, and the blob that holds the chunks."""

    name = "blob"
    in_order = False
    request_size = 1

    def __init__(self, chunk_size):
        self.chunk_size = chunk_size
        self.added = {}
        self.requests = []

    def chunk_of(self, span_id):
        return span_id // 2

    def has_chunk(self, chunk):
        return chunk in self.added

    def add_chunk(self, chunk, data):
        self.added[chunk] = data

    def read(self, start, end):
        self.requests.append((start, end))
        return bytes(at // self.chunk_size for at in range(start, end))

    def table(self):
        size = self.chunk_size
        return SeekSpanTable(
            compressed_size=1,
            spans=lambda: self,
            chunk_range=lambda chunk: (chunk * size, (chunk + 1) * size),
            parts=BlobParts(self, 99 * size),
            blob=Digest.of(b""),
        )


@pytest.mark.parametrize(
    ("chunk_size", "expected"),
    [(100, [(100, 400)]), (100 << 10, [(100 << 10, 300 << 10), (300 << 10, 400 << 10)])],
)
def test_chunks_when_adjacent_then_they_share_requests(chunk_size, expected):
    chunks = Chunks(chunk_size)
    table = chunks.table()
    twice = table.missing_parts([2, 3, 4, 7]), table.missing_parts([2, 3, 4, 7])
    for tasks in twice:
        for task in tasks:
            task()
    assert chunks.requests == expected
    assert chunks.added == {chunk: bytes([chunk]) * chunk_size for chunk in (1, 2, 3)}
    assert table.missing_parts([2, 7]) == []


# -- requests ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry():
    with Registry() as running:
        yield running


@pytest.fixture(scope="module")
def remote(registry, tmp_path_factory):
    """An image with many files, bound to a table, in a registry."""
    directory = tmp_path_factory.mktemp("many")
    files = [entry(f"usr/d{n // 50:03}/f{n}", b"%d\n" % n) for n in range(6000)]
    tar = tarmaker.tar(*files[:3000], entry("usr/big", BIG), *files[3000:])
    put_image(directory, tar, LAYERS[0])
    reference = f"{registry.host}/team/app:1"
    tocsin.copy(f"oci:{directory}:plain", reference)
    with open_sink(parse_reference(reference), registry=PLAIN_HTTP) as store:
        seek.bind(store, "1", "1")
    return reference


@pytest.fixture
def asked(registry):
    registry.requests.clear()
    return registry.requests


def test_ls_when_remote_then_four_requests_and_few_bytes(remote, asked):
    with tocsin.open(remote, registry=PLAIN_HTTP) as image:
        assert image.listdir("/") == sorted(image.listdir("/"))
        # The image, its config (for the platform), the seek manifest, and a chunk of the list.
        assert [request.path.split("/")[-2] for request in asked] == [
            "manifests",
            "blobs",
            "manifests",
            "blobs",
        ]
        assert {request.method for request in asked} == {"GET"}
        assert sum(request.sent for request in asked) < 40_000


def test_cat_when_remote_and_small_then_few_requests_and_bytes(remote, asked):
    with tocsin.open(remote, registry=PLAIN_HTTP) as image:
        assert image.cat("usr/d117/f5877") == b"5877\n"
    # The image, its config, the seek manifest; then file list and positions, which are adjacent
    # here; then a seek chunk and a span.
    assert [request.method for request in asked] == ["GET"] * 6
    assert sum(request.sent for request in asked) < 150_000


@pytest.mark.parametrize("threads", [1, 2])
def test_cat_when_remote_then_independent_requests_at_the_same_time(remote, threads, monkeypatch):
    both = threading.Barrier(2, timeout=30)
    inner = BlobRanges.read
    read = []

    def meet(self, start, end):
        both.wait()
        read.append((start, end))
        return inner(self, start, end)

    monkeypatch.setattr(seek_parts, "MAX_GAP", -1)
    with tocsin.open(remote, registry=PLAIN_HTTP, threads=threads) as image:
        monkeypatch.setattr(BlobRanges, "read", meet)
        assert image.cat("x" * 200) == b"1"
    assert len(read) == 4


def test_find_when_remote_then_the_whole_list_with_one_request(remote, asked):
    with tocsin.open(remote, registry=PLAIN_HTTP) as image:
        assert sum(status.is_file for status in image.find("/")) > 6000
    assert len(asked) == 4


def test_open_when_remote_and_read_in_pieces_then_requests_grow(remote, asked):
    with tocsin.open(remote, registry=PLAIN_HTTP) as image, image.open("usr/big") as file:
        del asked[:]
        assert b"".join(iter(lambda: file.read(10_000), b"")) == BIG
    assert len(asked) < 8


def test_cat_ranges_when_remote_then_few_requests(remote, asked):
    paths = [f"usr/d{n // 50:03}/f{n}" for n in range(0, 6000, 60)]
    with tocsin.open(remote, registry=PLAIN_HTTP) as image:
        image.listdir("/")
        del asked[:]
        ranges = [FileRange(path) for path in paths]
        found = dict(read_ranges(image._merged, ranges))
    assert [found[n] for n in range(len(paths))] == [b"%d\n" % n for n in range(0, 6000, 60)]
    # The file list and positions; then seek chunks and the spans, with one gap for the large file.
    assert len(asked) <= 8


def test_read_ranges_when_in_batches_then_next_is_fetched_ahead(place, monkeypatch):
    begun = []
    inner = Layer.read_ahead
    monkeypatch.setattr(ranges, "_BATCH_SIZE", 1)
    monkeypatch.setattr(Layer, "read_ahead", lambda *args: begun.append(inner(*args)))
    paths = ["etc/os-release", "usr/big", "lib/new"]
    with opened(place, "bound") as image:
        counts = [
            (len(data), len(begun))
            for _, data in read_ranges(image._merged, [FileRange(path) for path in paths])
        ]
    assert counts == [(len(SMALL), 2), (len(BIG), 3), (len(b"behind the link"), 3)]


# -- caches, processes -------------------------------------------------------------------------


def test_cat_when_cached_on_disk_then_no_blob_is_fetched_again(remote, asked, tmp_path):
    for count in (6, 3):
        del asked[:]
        with tocsin.open(remote, registry=PLAIN_HTTP, cache_dir=tmp_path) as image:
            assert image.cat("usr/d117/f5877") == b"5877\n"
        assert len(asked) == count


def test_cat_when_a_cached_part_is_damaged_then_fetched_again(remote, tmp_path):
    for _ in range(2):
        with tocsin.open(remote, registry=PLAIN_HTTP, cache_dir=tmp_path) as image:
            assert image.cat("usr/d117/f5877") == b"5877\n"
        for path in (tmp_path / "seek").rglob("*"):
            if path.is_file():
                path.write_bytes(bytes(path.stat().st_size))
    assert any("is ignored and fetched again" in note for note in image.notes)


def test_cat_when_cached_with_tables_of_other_span_sizes_then_correct(tmp_path):
    put_image(tmp_path / "D", *LAYERS)
    with OciLayout(tmp_path / "D", write=True) as store:
        for size in SPAN_SIZES:
            seek.bind(store, "plain", f"b{size}", span_size=size)
    for size in SPAN_SIZES * 2:
        with opened(tmp_path / "D", f"b{size}", cache_dir=tmp_path / "cache") as image:
            assert origins(image) == {"seek"}
            assert image.cat("usr/big") == BIG
            assert image.notes == []


def test_image_when_forked_then_both_processes_read(remote):
    with tocsin.open(remote, registry=PLAIN_HTTP) as image:
        assert image.cat("usr/d000/f0") == b"0\n"

        def read():
            return image.cat("usr/big") == BIG and image.cat("usr/d117/f5877") == b"5877\n"

        child = forked(read)
        assert image.cat("usr/d100/f5001") == b"5001\n"
        assert exit_code(child) == 0


def test_file_system_when_pickled_then_reads_with_table(place):
    fs = pickle.loads(pickle.dumps(TocsinFileSystem(f"oci:{place}:bound")))  # noqa: S301 (our own)
    assert fs.cat_file("/etc/os-release") == SMALL
    assert fs.cat_ranges(["/usr/big"] * 2, [0, 700_000], [10, 700_010]) == [
        BIG[:10],
        BIG[700_000:700_010],
    ]


def test_cat_when_read_by_many_threads_then_correct(remote):
    paths = [f"usr/d{n // 50:03}/f{n}" for n in range(0, 6000, 97)]
    found = {}
    with tocsin.open(remote, registry=PLAIN_HTTP) as image:
        threads = [
            threading.Thread(target=lambda path=path: found.update({path: image.cat(path)}))
            for path in paths
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert found == {path: path.rpartition("f")[2].encode() + b"\n" for path in paths}
