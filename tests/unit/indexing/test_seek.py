"""Seek tables made by ``create`` and ``convert``: which layers are in them, reuse, and failures."""

import gzip
import json

import pytest
import zstandard

import tocsin
from support import tarmaker
from support.images import image_of, make_image, put_index
from support.tarmaker import entry
from tocsin import IndexingOptions, UnsupportedError, VerificationError, convert, create
from tocsin.errors import SeekTableError
from tocsin.images.seek_tables import bound_seek_table, referrers_with_seek_tables
from tocsin.indexing.layer_jobs import LayerJobs
from tocsin.layers import seek_pass
from tocsin.layers.indexer import LayerPass
from tocsin.model.digest import Digest
from tocsin.model.events import LayerStarted
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import DOCKER_LAYER_ZSTD, OCI_LAYER, OCI_LAYER_GZIP
from tocsin.model.seek_manifest import is_seek_entry
from tocsin.stores.base import MustStream
from tocsin.stores.layout import OciLayout

OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
ENCRYPTED = f"{OCI_LAYER_GZIP}+encrypted"
SEEK = IndexingOptions(min_layer_size=0, seek=True)
ONLY = IndexingOptions(seek_only=True)
BIG = b"".join(b"%d " % number for number in range(200_000))
TARS = [
    tarmaker.tar(entry("etc/a", b"a\n"), entry("etc/old", b"x")),
    tarmaker.tar(entry("usr/big", BIG)),
    tarmaker.tar(entry("etc/.wh.old", b""), entry("etc/b", b"b\n")),
]
GZIP, ZSTD = ([pack(tar) for tar in TARS] for pack in (gzip.compress, zstandard.compress))
FILES = {"etc/a": b"a\n", "etc/b": b"b\n", "usr/big": BIG}


class Counted(OciLayout):
    """A layout that records which blobs were read, and that takes blobs only as streams."""

    def __init__(self, path):
        super().__init__(path, write=True)
        self.reads = []

    def blob(self, descriptor, *, verify=True):
        self.reads.append(descriptor.digest)
        return super().blob(descriptor, verify=verify)

    def take_over(self, descriptor, origin):
        return MustStream()


@pytest.fixture
def place(tmp_path):
    return tmp_path / "layout"


def put(place, *layers, media_type=OCI_LAYER_GZIP, tag="t"):
    """Put an image of layers, each given as bytes, or as bytes and media type."""
    pairs = [layer if isinstance(layer, tuple) else (layer, media_type) for layer in layers]
    with OciLayout(place, write=True) as store:
        image_of(*pairs).put(store, tag)
    return f"oci:{place}:{tag}"


def files_of(reference, **options):
    """Return the files of an image, read with a seek table only."""
    with tocsin.open(reference, index="seek", **options) as image:
        assert {layer.index_origin for layer in image.layers} == {"seek"}
        return {path: image.cat(path) for path in FILES if image.exists(path)}


def existing_blobs(place):
    return {path.name for path in (place / "blobs" / "sha256").iterdir()}


# -- layers of every kind ----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["create", "convert"])
@pytest.mark.parametrize("only", [True, False])
@pytest.mark.parametrize(
    ("layers", "media_type"),
    [
        (GZIP, OCI_LAYER_GZIP),
        (TARS, OCI_LAYER),
        (ZSTD, OCI_LAYER_ZSTD),
        (ZSTD, DOCKER_LAYER_ZSTD),
        # Media types that lie: the bytes decide, as in containerd.
        (GZIP, OCI_LAYER_ZSTD),
        (ZSTD, OCI_LAYER_GZIP),
        (TARS, OCI_LAYER_GZIP),
    ],
    ids=["gzip", "tar", "zstd", "docker zstd", "zstd is gzip", "gzip is zstd", "gzip is tar"],
)
def test_image_when_of_any_compression_then_readable(command, only, layers, media_type, place):
    reference = put(place, *layers, media_type=media_type)
    options = ONLY if only else IndexingOptions(min_layer_size=1 << 30, seek=True)
    if command == "create":
        (result,) = create(reference, options=options).platforms
    else:
        (result,) = convert(reference, f"oci:{place}:soci", options=options).platforms
        reference = f"oci:{place}:soci"
    assert result.soci_index is None
    assert result.seek_problem is None
    assert all(layer.seek_blob is not None for layer in result.layers)
    assert files_of(reference) == FILES


def test_layers_when_small_or_zstd_then_in_the_table_but_without_ztoc(place):
    plain = (TARS[2], OCI_LAYER)
    reference = put(place, GZIP[1], (ZSTD[0], OCI_LAYER_ZSTD), plain)
    options = IndexingOptions(min_layer_size=len(GZIP[1]), seek=True)
    (result,) = convert(reference, f"oci:{place}:soci", options=options).platforms
    assert [layer.ztoc is None for layer in result.layers] == [False, True, True]
    assert "zstd" in result.layers[1].skipped or "less than" in result.layers[1].skipped
    assert all(layer.seek_blob is not None for layer in result.layers)
    assert files_of(f"oci:{place}:soci") == FILES


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("media_type", [OCI_LAYER_ZSTD, OCI_LAYER_GZIP])
def test_zstd_layer_when_indexed_then_read_once(streamed, media_type, tmp_path):
    source, sink = Counted(tmp_path / "a"), Counted(tmp_path / "b")
    (layer,) = image_of((ZSTD[1], media_type)).layer_descriptors
    source.put_blob(ZSTD[1])
    options = IndexingOptions(min_layer_size=0, seek=True)
    jobs = LayerJobs(source, sink, options=options, carry=streamed, progress=None)
    (fate,) = jobs.run([layer]).values()
    assert source.reads == [layer.digest]
    assert fate.seek.ztoc.paths == ["usr/big"]
    assert fate.result.ztoc is None
    assert "zstd" in fate.result.skipped


@pytest.mark.parametrize("pack", [gzip.compress, bytes, zstandard.compress])
def test_layer_when_damaged_then_verification_error(pack, place):
    layer = pack(TARS[0])
    put(place, layer, media_type=OCI_LAYER)
    blob = place / "blobs" / "sha256" / Digest.of(layer).hex
    blob.chmod(0o644)
    blob.write_bytes(pack(TARS[0].replace(b"a\n", b"b\n")).ljust(len(layer))[: len(layer)])
    with pytest.raises(VerificationError):
        convert(f"oci:{place}:t", f"oci:{place}:soci", options=SEEK)


GLOBAL = tarmaker.tar(tarmaker.global_header({"comment": "x"}), entry("etc/a", b"a\n"))


def test_layer_when_only_readers_accept_it_then_table_but_no_ztoc(place):
    """The reference rejects PAX global headers; containerd unpacks such layers."""
    reference = put(place, gzip.compress(GLOBAL), GZIP[1])
    (result,) = convert(reference, f"oci:{place}:soci", options=SEEK).platforms
    assert [layer.ztoc is None for layer in result.layers] == [True, False]
    assert files_of(f"oci:{place}:soci") == {"etc/a": b"a\n", "usr/big": BIG}


def test_layer_when_empty_then_in_the_table(place):
    reference = put(place, b"", GZIP[1])
    (result,) = convert(reference, f"oci:{place}:soci", options=SEEK).platforms
    assert result.seek_problem is None
    assert files_of(f"oci:{place}:soci") == {"usr/big": BIG}


# -- no table ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ((GZIP[0], ENCRYPTED), "encrypted"),
        ((GZIP[0], "application/vnd.example"), "not a layer"),
        ((gzip.compress(b"not a tar" * 100), OCI_LAYER_GZIP), ""),
    ],
)
def test_image_when_a_layer_cannot_be_read_then_no_table_but_ztocs(odd, reason, place):
    reference = put(place, odd, GZIP[1])
    (result,) = convert(reference, f"oci:{place}:soci", options=SEEK).platforms
    assert result.seek_table is None
    digest = str(Digest.of(odd[0]))
    assert result.seek_problem.startswith(f"layer {digest}: ")
    assert reason in result.seek_problem
    assert [layer.ztoc is None for layer in result.layers] == [True, False]
    with pytest.raises(UnsupportedError, match="nothing to index"):
        convert(reference, f"oci:{place}:only", options=ONLY)


def test_platforms_when_one_is_encrypted_then_the_other_has_a_table(place):
    with OciLayout(place, write=True) as store:
        images = {
            "linux/amd64": make_image({"etc/a": b"a\n"}),
            "linux/arm64": image_of((GZIP[0], ENCRYPTED), platform="linux/arm64"),
        }
        put_index(store, images, "t")
    result = convert(f"oci:{place}:t", f"oci:{place}:soci", options=ONLY)
    assert [p.seek_table is None for p in result.platforms] == [False, True]
    assert files_of(f"oci:{place}:soci", platform="linux/amd64") == {"etc/a": b"a\n"}


class Failing(LayerPass):
    """A pass that cannot make a seek blob, for whatever reason."""

    def __init__(self, *, seek_span_size=None, **options):
        super().__init__(seek_span_size=seek_span_size, **options)
        self._fails = seek_span_size is not None

    def finish(self):
        if self._fails:
            raise SeekTableError("seek table: failed", what="seek table")
        return super().finish()


def test_layer_when_only_its_seek_blob_fails_then_it_still_has_a_ztoc(place, monkeypatch):
    reference = put(place, *GZIP)
    expected = convert(
        reference, f"oci:{place}:plain", options=IndexingOptions(min_layer_size=0)
    ).platforms[0]
    monkeypatch.setattr(seek_pass, "LayerPass", Failing)
    options = IndexingOptions(min_layer_size=0, seek=True, rebuild=True)
    (result,) = convert(reference, f"oci:{place}:soci", options=options).platforms
    assert result.soci_index == expected.soci_index
    assert result.seek_table is None
    assert "seek table: failed" in result.seek_problem


def test_layer_when_its_seek_blob_and_its_ztoc_fail_then_skipped(place, monkeypatch):
    monkeypatch.setattr(seek_pass, "LayerPass", Failing)
    reference = put(place, gzip.compress(GLOBAL), GZIP[1])
    (result,) = convert(reference, f"oci:{place}:soci", options=SEEK).platforms
    assert [layer.skipped is None for layer in result.layers] == [False, True]
    assert result.seek_table is None


# -- what is written ---------------------------------------------------------------------------


def test_convert_when_only_a_seek_table_is_made_then_no_soci_blobs(place):
    reference = put(place, *GZIP)
    convert(reference, f"oci:{place}:soci", options=ONLY)
    for path in (place / "blobs" / "sha256").iterdir():
        assert b"com.amazon" not in path.read_bytes()
        assert b"amazon.soci" not in path.read_bytes()
    assert Digest.of(b"{}").hex not in existing_blobs(place)


def test_convert_when_a_dry_run_then_nothing_is_written(place):
    reference = put(place, *GZIP)
    before = existing_blobs(place)
    dry = convert(reference, f"oci:{place}:soci", options=SEEK, dry_run=True)
    assert existing_blobs(place) == before
    made = convert(reference, f"oci:{place}:soci", options=SEEK)
    assert dry.image == made.image
    assert dry.platforms[0].seek_table == made.platforms[0].seek_table


@pytest.mark.parametrize("command", [create, convert])
def test_soci_index_when_a_table_is_made_too_then_unchanged(command, place):
    reference = put(place, *GZIP)
    to = [] if command is create else [f"oci:{place}:soci"]
    (plain,) = command(
        reference, *to, options=IndexingOptions(min_layer_size=0), dry_run=True
    ).platforms
    (both,) = command(reference, *to, options=SEEK, dry_run=True).platforms
    assert plain.soci_index == both.soci_index
    assert plain.seek_table is None


# -- repeated runs -----------------------------------------------------------------------------


def started(command, *references, **options):
    """Run a command; return the result and the digests of the layers that were read."""
    events = []
    result = command(*references, progress=events.append, **options)
    return result, [e.layer.digest for e in events if isinstance(e, LayerStarted)]


@pytest.mark.parametrize("layers", [GZIP, ZSTD])
@pytest.mark.parametrize("options", [SEEK, ONLY, IndexingOptions(seek=True)])
def test_convert_when_done_again_then_unchanged(layers, options, place):
    reference = put(place, *layers, media_type=OCI_LAYER_GZIP if layers is GZIP else OCI_LAYER_ZSTD)
    first = convert(reference, f"oci:{place}:soci", options=options)
    again = convert(reference, f"oci:{place}:soci", options=options)
    assert (first.unchanged, again.unchanged) == (False, True)
    assert again.image == first.image


def test_convert_when_ztocs_and_seek_blobs_exist_then_no_layer_is_read(place):
    reference = put(place, *GZIP)
    first, read = started(convert, reference, f"oci:{place}:soci", options=SEEK)
    assert len(read) == 3
    again, read = started(convert, reference, f"oci:{place}:other", options=SEEK)
    assert read == []
    assert again.image == first.image
    assert [layer.reused for layer in again.platforms[0].layers] == [True] * 3


@pytest.mark.parametrize(
    "options",
    [
        IndexingOptions(min_layer_size=0, seek=True, seek_span_size=64 << 10),
        IndexingOptions(min_layer_size=0, seek=True, rebuild=True),
    ],
    ids=["span size", "rebuild"],
)
def test_convert_when_seek_blobs_cannot_be_reused_then_layers_are_read(options, place):
    reference = put(place, *GZIP)
    convert(reference, f"oci:{place}:soci", options=SEEK)
    _, read = started(convert, reference, f"oci:{place}:other", options=options)
    assert len(read) == 3
    assert files_of(f"oci:{place}:other") == FILES


def test_convert_when_images_share_a_layer_then_its_seek_blob_is_reused(place):
    convert(put(place, *GZIP[:2], tag="a"), f"oci:{place}:a-soci", options=SEEK)
    reference = put(place, *GZIP, tag="b")
    result, read = started(convert, reference, f"oci:{place}:b-soci", options=SEEK)
    assert read == [Digest.of(GZIP[2])]
    assert files_of(f"oci:{place}:b-soci") == FILES
    fresh = convert(
        reference,
        f"oci:{place}:fresh",
        options=IndexingOptions(min_layer_size=0, seek=True, rebuild=True),
    )
    assert fresh.image == result.image


def test_convert_when_a_reusable_seek_blob_is_damaged_then_made_again(place):
    reference = put(place, *GZIP)
    first = convert(reference, f"oci:{place}:soci", options=SEEK)
    blob = place / "blobs" / "sha256" / first.platforms[0].layers[1].seek_blob.digest.hex
    blob.chmod(0o644)
    blob.write_bytes(bytes(blob.stat().st_size))
    _, read = started(convert, reference, f"oci:{place}:other", options=SEEK)
    assert read == [Digest.of(GZIP[1])]


def test_convert_when_the_source_has_a_table_then_the_new_one_replaces_it(place):
    reference = put(place, *GZIP)
    convert(reference, f"oci:{place}:a", options=SEEK)
    options = IndexingOptions(min_layer_size=0, seek=True, seek_span_size=64 << 10)
    result = convert(f"oci:{place}:a", f"oci:{place}:b", options=options)
    with OciLayout(place) as store:
        index = ImageIndex.from_json(store.manifest(store.resolve("b")))
        image, *others = index.manifests
        tables = [entry for entry in others if is_seek_entry(entry)]
        assert [table.digest for table in tables] == [result.platforms[0].seek_table.digest]
        found = bound_seek_table(store, Manifest.from_json(store.manifest(image)))
        assert found.digest == tables[0].digest


def test_convert_when_the_source_has_a_table_then_it_is_carried_over(place, tmp_path):
    reference = put(place, *GZIP)
    convert(reference, f"oci:{place}:a", options=ONLY)
    elsewhere = f"oci:{tmp_path / 'other'}:b"
    convert(f"oci:{place}:a", elsewhere, options=IndexingOptions(min_layer_size=0))
    assert files_of(elsewhere) == FILES


# -- create ------------------------------------------------------------------------------------


def tables_of(place, tag="t"):
    with OciLayout(place) as store:
        image = store.resolve(tag)
        return [table.digest for table in referrers_with_seek_tables(store, image.digest)]


def test_create_when_done_twice_then_one_table_and_no_warning(place):
    reference = put(place, *GZIP)
    for _ in range(2):
        (result,) = create(reference, options=SEEK).platforms
        assert result.existing_indexes == ()
    assert tables_of(place) == [result.seek_table.digest]


def test_create_when_a_table_of_another_span_size_exists_then_listed(place):
    reference = put(place, *GZIP)
    (first,) = create(reference, options=ONLY).platforms
    other = IndexingOptions(seek_only=True, seek_span_size=64 << 10)
    (second,) = create(reference, options=other).platforms
    assert [index.digest for index in second.existing_indexes] == [first.seek_table.digest]
    assert len(tables_of(place)) == 2


@pytest.mark.parametrize(
    ("before", "now", "skipped"),
    [
        (IndexingOptions(min_layer_size=0), SEEK, False),
        (IndexingOptions(min_layer_size=0), ONLY, False),
        (ONLY, IndexingOptions(min_layer_size=0), False),
        (ONLY, SEEK, False),
        (ONLY, ONLY, True),
        (SEEK, SEEK, True),
        (SEEK, IndexingOptions(min_layer_size=0), True),
    ],
)
def test_create_when_asked_to_skip_then_skips_if_all_exist(before, now, skipped, place):
    reference = put(place, *GZIP)
    create(reference, options=before)
    (result,) = create(reference, options=now, existing_index="skip").platforms
    assert result.skipped == skipped


def test_create_when_copied_elsewhere_then_the_table_refers_to_the_copy(place, tmp_path):
    reference = put(place, *GZIP)
    (result,) = create(reference, f"oci:{tmp_path / 'copy'}:t", options=ONLY).platforms
    assert files_of(f"oci:{tmp_path / 'copy'}:t") == FILES
    manifest = tmp_path / "copy" / "blobs" / "sha256" / result.seek_table.digest.hex
    assert json.loads(manifest.read_bytes())["subject"]["digest"] == str(result.manifest.digest)
