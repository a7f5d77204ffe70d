"""Invalid layouts, end to end: a typed error with a location, and nothing is tagged."""

import gzip
import shutil

import pytest

from support import goldens
from support.disks import unprivileged
from support.images import image_of, make_image
from support.layout_files import LayoutFiles, compact, descriptor_of, digest_of
from tocsin import (
    FormatError,
    IndexingOptions,
    NotFoundError,
    TocsinError,
    UnsupportedError,
    VerificationError,
    convert,
    create,
)
from tocsin.model.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.stores.layout import OciLayout

ALL = IndexingOptions(min_layer_size=0)
USTAR = "ustar.zlib6.tar.gz"


@pytest.fixture
def source(tmp_path):
    """A layout with a valid image, for tests to break."""
    with OciLayout(tmp_path / "source", write=True) as store:
        image_of((goldens.layer(USTAR), OCI_LAYER_GZIP)).put(store, "t")
    return LayoutFiles(tmp_path / "source")


@pytest.fixture
def sink(tmp_path):
    return LayoutFiles(tmp_path / "sink")


def file_of(source, digest):
    return source.path / "blobs" / digest.replace(":", "/")


def put(source, data, media_type):
    """Write a blob without a store, and return its descriptor."""
    descriptor = descriptor_of(data, media_type)
    file_of(source, descriptor["digest"]).write_bytes(data)
    return descriptor


def list_alone(source, descriptor):
    """Make ``index.json`` list only this entry, tagged ``t``."""
    entry = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": "t"}}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    (source.path / "index.json").write_bytes(compact(index))


def manifest_with(source, **changes):
    """List the valid image with some fields of its manifest changed."""
    manifest = {**source.image("t"), **changes}
    list_alone(source, put(source, compact(manifest), OCI_MANIFEST))


def check_refused(source, sink, error, message=None, **fields):
    """Check that both commands fail in the same way and leave no image."""
    before = source.snapshot()
    runs = (
        lambda: convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL),
        lambda: convert(f"oci:{source.path}:t", f"oci-archive:{sink.path}.tar:c", options=ALL),
        lambda: convert(f"oci:{source.path}:t", f"oci:{source.path}:c", options=ALL),
        lambda: create(f"oci:{source.path}:t", options=ALL),
        lambda: create(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL),
    )
    for run in runs:
        with pytest.raises(error, match=message) as refusal:
            run()
        for name, value in fields.items():
            assert getattr(refusal.value, name) == value
        assert sink.entries == []
        assert not sink.path.with_name("sink.tar").exists()
        after = source.snapshot()
        assert {name: data for name, data in after.items() if name in before} == before
        assert all(name.startswith("blobs/sha256/") for name in set(after) - set(before))


# Files of the layout


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a":1}{"b":2}', b"[" * 100_000]
)
def test_layout_when_a_file_is_not_json_then_refused(source, sink, name, data):
    (source.path / name).write_bytes(data)
    check_refused(source, sink, FormatError, what="layout")


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_layout_when_a_file_is_missing_then_not_a_layout(source, sink, name):
    (source.path / name).unlink()
    with pytest.raises(FormatError, match=f"not an OCI layout: {name} is missing"):
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.snapshot() == {}


def test_layout_when_the_version_differs_then_refused(source, sink):
    (source.path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    check_refused(source, sink, FormatError, r"2\.0\.0", what="layout")


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../etc/passwd",
        "sha256:" + "../" * 20 + "a" * 4,
        "../sha256:" + "a" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "a" * 63 + "\n",
        "sha256:" + "a" * 63 + "\0",
        "sha256/" + "a" * 64,
        "",
        "a" * 64,
    ],
)
@pytest.mark.parametrize("place", ["index.json", "manifest", "config", "layer"])
def test_layout_when_a_digest_is_a_path_then_refused(source, sink, place, digest):
    good = source.image("t")
    bad = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 7}
    if place == "index.json":
        list_alone(source, bad)
    elif place == "manifest":
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [bad]}
        list_alone(source, put(source, compact(index), OCI_INDEX))
    elif place == "config":
        manifest_with(source, config={**good["config"], "digest": digest})
    else:
        manifest_with(source, layers=[{**good["layers"][0], "digest": digest}])
    check_refused(source, sink, (FormatError, UnsupportedError), "digest")


@pytest.mark.parametrize("digest", ["sha512:" + "a" * 128, "blake3:" + "a" * 64])
def test_layout_when_a_digest_is_not_sha256_then_unsupported(source, sink, digest):
    manifest_with(source, layers=[{"mediaType": OCI_LAYER_GZIP, "digest": digest, "size": 7}])
    check_refused(source, sink, UnsupportedError, "sha256")


# Manifests and indexes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"schemaVersion":2}',
        b'{"schemaVersion":1}',
        b"\0" * 99,
        b"[" * 9999,
    ],
)
@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX])
def test_manifest_when_not_a_manifest_then_refused(source, sink, data, media_type):
    list_alone(source, put(source, data, media_type))
    expected = (FormatError, UnsupportedError)
    if (data, media_type) == (b'{"schemaVersion":2}', OCI_INDEX):
        expected = NotFoundError  # an empty image index is valid, but has no image
    check_refused(source, sink, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": None},
        {"config": {}},
        {"config": {"mediaType": OCI_CONFIG, "digest": digest_of(b"x"), "size": -1}},
        {"config": {"mediaType": OCI_CONFIG, "digest": digest_of(b"x"), "size": 1 << 70}},
        {"config": {"mediaType": OCI_CONFIG, "digest": digest_of(b"x"), "size": 1.5}},
        {"layers": {}},
        {"layers": [None]},
        {"layers": ["x"]},
        {"layers": [{"mediaType": OCI_LAYER_GZIP, "size": 5}]},
        {"layers": [{"mediaType": 5, "digest": digest_of(b"x"), "size": 5}]},
        {"annotations": {"a": 1}},
        {"manifests": []},
        {"schemaVersion": 3},
    ],
)
def test_manifest_when_a_field_is_wrong_then_refused(source, sink, changes):
    manifest_with(source, **changes)
    check_refused(source, sink, FormatError, what="manifest")


def test_manifest_when_too_large_then_not_read(source, sink):
    entry = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"x"), "size": 1 << 62}
    list_alone(source, entry)
    check_refused(source, sink, FormatError, "at most", what="manifest")


@pytest.mark.parametrize("damage", ["short", "long", "other"])
def test_manifest_when_it_does_not_match_its_digest_then_refused(source, sink, damage):
    file = file_of(source, source.tags["t"]["digest"])
    data = file.read_bytes()
    file.write_bytes(
        {"short": data[:-1], "long": data + b" ", "other": data.replace(b":2,", b":3,", 1)}[damage]
    )
    check_refused(source, sink, VerificationError, source.tags["t"]["digest"])


def test_index_when_nested_too_deeply_then_refused(source, sink):
    entry = source.tags["t"]
    plain = {key: entry[key] for key in ("mediaType", "digest", "size")}
    for _ in range(6):
        # Two entries each, since an index with a single index is unwrapped.
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [plain, plain]}
        plain = put(source, compact(index), OCI_INDEX)
    list_alone(source, plain)
    with pytest.raises(FormatError) as refusal:
        create(f"oci:{source.path}:t", options=ALL)
    assert refusal.value.what == "manifest.depth"
    # convert does not search nested image indexes.
    with pytest.raises(NotFoundError, match="does not list any image"):
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)


def test_index_when_it_contains_itself_then_verification_error(source, sink):
    # A real loop would need a SHA-256 collision; a file can only pretend to be one.
    digest = "sha256:" + "5" * 64
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    entry = {"mediaType": OCI_INDEX, "digest": digest, "size": 0}
    for _ in range(2):  # the size is part of the document itself
        index["manifests"] = [entry, entry]
        entry["size"] = len(compact(index))
    file_of(source, digest).write_bytes(compact(index))
    list_alone(source, entry)
    check_refused(source, sink, VerificationError, digest)


def test_index_when_it_has_too_many_entries_then_refused_at_once(source, sink):
    entry = {"mediaType": "x/y", "digest": digest_of(b"x"), "size": 1}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] * 30_000}
    list_alone(source, put(source, compact(index), OCI_INDEX))
    check_refused(source, sink, FormatError)


# Configs and layers


@pytest.mark.parametrize("damage", ["missing", "short", "other"])
def test_config_when_missing_or_different_then_refused(source, sink, damage):
    digest = source.image("t")["config"]["digest"]
    file = file_of(source, digest)
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if damage == "short" else data.upper())
    check_refused(source, sink, (NotFoundError, VerificationError), digest)


@pytest.mark.parametrize("damage", ["missing", "short", "empty", "long", "other"])
def test_layer_when_missing_or_different_then_refused(source, sink, damage):
    digest = source.image("t")["layers"][0]["digest"]
    file = file_of(source, digest)
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        other = gzip.compress(bytes(2048), 0)[:-1]
        damaged = {"short": data[:-1], "empty": b"", "long": data + b"\0"}
        file.write_bytes(damaged.get(damage, other.ljust(len(data), b"\0")))
    check_refused(source, sink, (NotFoundError, VerificationError), digest)


def test_layer_when_its_size_is_wrong_then_refused(source, sink):
    layer = source.image("t")["layers"][0]
    for size in (0, 1, layer["size"] - 1, layer["size"] + 1, (1 << 63) - 1):
        manifest_with(source, layers=[{**layer, "size": size}])
        check_refused(source, sink, VerificationError, layer["digest"])


# Files and directories that cannot be used


def test_source_when_not_readable_then_permission_error(place):
    with OciLayout(place / "source", write=True) as store:
        image_of((goldens.layer(USTAR), OCI_LAYER_GZIP)).put(store, "t")
    source = LayoutFiles(place / "source")
    layer = file_of(source, source.image("t")["layers"][0]["digest"])
    out = place / "out"
    out.mkdir(0o777)
    out.chmod(0o777)
    for path in (layer, source.path / "index.json", source.path / "blobs"):
        mode = path.stat().st_mode & 0o777
        path.chmod(0)
        with unprivileged(), pytest.raises(PermissionError) as refusal:
            convert(f"oci:{source.path}:t", f"oci:{out}/sink:c", options=ALL)
        assert str(path) in str(refusal.value.filename)
        path.chmod(mode)
        assert LayoutFiles(out / "sink").entries == []
    with unprivileged():
        convert(f"oci:{source.path}:t", f"oci:{out}/sink:c", options=ALL)


def test_sink_when_not_writable_then_permission_error(place):
    with OciLayout(place / "source", write=True) as store:
        image_of((goldens.layer(USTAR), OCI_LAYER_GZIP)).put(store, "t")
    source = LayoutFiles(place / "source")
    closed = place / "closed"
    closed.mkdir(0o555)
    before = source.snapshot()
    for kind in ("oci", "oci-archive"):
        with unprivileged(), pytest.raises(PermissionError) as refusal:
            convert(f"oci:{source.path}:t", f"{kind}:{closed}/sink:c", options=ALL)
        assert str(closed) in str(refusal.value.filename)
    # The source, which another user owns.
    with unprivileged(), pytest.raises(PermissionError) as refusal:
        create(f"oci:{source.path}:t", options=ALL)
    assert str(source.path) in str(refusal.value.filename)
    assert source.snapshot() == before
    assert list(closed.iterdir()) == []


def test_sink_when_not_a_layout_then_unchanged(source, sink, tmp_path):
    (tmp_path / "sink").mkdir()
    (tmp_path / "sink" / "notes.txt").write_text("mine")
    with pytest.raises(FormatError, match=r"\(found notes\.txt\)$"):
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.snapshot() == {"notes.txt": b"mine"}
    file = tmp_path / "file"
    file.write_text("mine")
    for kind in ("oci", "oci-archive"):
        with pytest.raises((OSError, TocsinError)):
            convert(f"oci:{source.path}:t", f"{kind}:{file}:c", options=ALL)
        assert file.read_text() == "mine"


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
@pytest.mark.parametrize(
    "data", [b"", b"x", b"x" * 2000, bytes(10240), gzip.compress(bytes(10240), mtime=0)]
)
def test_archive_when_not_an_archive_then_refused(tmp_path, sink, kind, data):
    archive = tmp_path / "a.tar"
    archive.write_bytes(data)
    with pytest.raises((FormatError, UnsupportedError)):
        convert(f"{kind}:{archive}", f"oci:{sink.path}:c", options=ALL)
    assert (sink.snapshot(), archive.read_bytes()) == ({}, data)


def test_archive_when_truncated_then_refused(source, sink, tmp_path):
    archive = tmp_path / "a.tar"
    convert(f"oci:{source.path}:t", f"oci-archive:{archive}:c", options=ALL)
    data = archive.read_bytes()
    for size in (100, 512, 1000, len(data) // 2, len(data) - 3000):
        archive.write_bytes(data[:size])
        with pytest.raises(TocsinError):
            convert(f"oci-archive:{archive}:c", f"oci:{sink.path}:c", options=ALL)
        assert sink.entries == []


def test_layout_when_one_image_is_broken_then_the_others_convert(source, sink):
    with OciLayout(source.path, write=True) as store:
        bad = make_image({"bad": b"x"})
        bad.put(store, "bad")
    file_of(source, str(bad.descriptor.digest)).write_bytes(b"{")
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.whole(sink.tags["c"]) == sink.blobs
    with pytest.raises(VerificationError):
        convert(f"oci:{source.path}:bad", f"oci:{sink.path}:d", options=ALL)


def test_layout_when_it_is_removed_then_not_found(source, sink):
    shutil.rmtree(source.path)
    with pytest.raises(FileNotFoundError) as refusal:
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert refusal.value.filename == str(source.path)
    assert sink.snapshot() == {}
