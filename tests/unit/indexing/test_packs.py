"""Making packs: their bytes are those of the layers, and what is left out is said."""

import gzip
import hashlib
import io
import random
import tarfile

import pytest
import zstandard

import tocsin
from support.images import image_of, make_image, put_index
from support.packs import read_pack
from tocsin import IndexingOptions, convert, create
from tocsin.images.seek_tables import listed_seek_tables, referring_seek_tables
from tocsin.model.access_log import AccessedFile, AccessLog
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.model.platform import Platform
from tocsin.stores.layout import OciLayout

CHANCE = random.Random(4)  # noqa: S311 (content of files)
BIG = CHANCE.randbytes(700_000)
FILES = ({"etc/motd": b"hello", "usr/big": BIG}, {"etc/hosts": b"::1", "etc/motd": b"new"})
LOG = AccessLog(
    (
        AccessedFile(0.0, "usr/big", ((300_000, 400_000), (0, 4096))),
        AccessedFile(0.1, "etc/motd", ((0, 5),)),
        AccessedFile(0.2, "etc/hosts", ()),
    )
)
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


def options(log=LOG, **others):
    return IndexingOptions(**{"seek_only": True, "seek_span_size": 64 << 10, **others}, pack=log)


@pytest.fixture
def layout(tmp_path):
    path = tmp_path / "layout"
    with OciLayout(path, write=True) as store:
        make_image(*FILES).put(store, "app")
    return path


def referring(layout, tag="app"):
    """Return the pack of the seek table that refers to an image, as another reader reads it."""
    with OciLayout(layout) as store:
        (table,) = referring_seek_tables(store, store.resolve(tag))
        return blobs_of(store, table)


def blobs_of(store, table):
    manifest = table.manifest
    index, frames = (b"".join(store.blob(blob)) for blob in (manifest.pack_index, manifest.pack))
    assert manifest.pack_index.data == index
    return read_pack(index, frames)


def tars(layout, tag="app"):
    image = tocsin.info(f"oci:{layout}:{tag}")
    with OciLayout(layout) as store:
        return [
            gzip.decompress(b"".join(store.blob(one.layer))) for one in image.platforms[0].layers
        ]


def place_of(tar, name):
    """Return the offsets of a file's headers, of its data and of its end, by tarfile."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        member = found.getmember(name)
        return member.offset, member.offset_data, member.offset_data + member.size


def test_pack_when_made_then_the_bytes_are_those_of_the_layers(layout):
    create(f"oci:{layout}:app", options=options())
    pack, layers = referring(layout), tars(layout)
    assert [size for _, size in pack.layers] == [len(tar) for tar in layers]
    for parts, content in pack.frames:
        expected = b"".join(layers[part.layer][part.start : part.end] for part in parts)
        assert content == expected


def test_pack_when_made_then_headers_and_ranges_in_order_of_first_use(layout):
    create(f"oci:{layout}:app", options=options())
    lower, upper = tars(layout)
    headers, data, _ = place_of(lower, "usr/big")
    motd_headers, motd_data, _ = place_of(upper, "etc/motd")
    window = 256 << 10
    parts = [part for frame, _ in referring(layout).frames for part in frame]
    assert parts[0] == (0, headers, data)
    assert parts[1] == (0, data + window, data + 2 * window)
    # The next window is in two frames.
    assert parts[2][:2] == (0, data)
    assert parts[3] == (0, parts[2].end, data + window)
    # The file of the upper layer, whose headers are just before its data.
    assert parts[4:] == [(1, motd_headers, motd_data + 512)]


def test_pack_when_made_again_then_the_same_bytes(layout, tmp_path):
    digests = set()
    for number, threads in enumerate((1, 2)):
        result = convert(
            f"oci:{layout}:app",
            f"oci:{tmp_path / str(number)}:app",
            options=options(threads=threads),
        )
        digests.add(result.image.digest)
    assert len(digests) == 1


def test_pack_when_bound_then_the_image_names_it(layout, tmp_path):
    converted = tmp_path / "converted"
    result = convert(f"oci:{layout}:app", f"oci:{converted}:app", options=options())
    with OciLayout(converted) as store:
        (table,) = listed_seek_tables(store, store.resolve("app"))
        pack = blobs_of(store, table)
    assert len(pack.frames) == 2
    (platform,) = result.platforms
    sizes = [blob.size for blob in (table.manifest.pack_index, table.manifest.pack)]
    assert platform.pack_size == table.pack_size == sum(sizes)
    assert platform.seek_size == table.size > table.pack_size
    plain = convert(f"oci:{layout}:app", f"oci:{converted}:plain", options=options(log=None))
    assert plain.image.digest != result.image.digest
    assert plain.platforms[0].pack_size == 0


def test_pack_when_seek_blobs_exist_then_layers_are_not_read_in_full(tmp_path):
    files = {f"f{number}": CHANCE.randbytes(200_000) for number in range(20)}
    path = tmp_path / "layout"
    with OciLayout(path, write=True) as store:
        make_image(files).put(store, "app")
    seek = {"seek_only": False, "seek": True, "min_layer_size": 0}
    create(f"oci:{path}:app", options=options(log=None, **seek))
    log = AccessLog((AccessedFile(0.0, "f3", ((0, 10),)),))
    result = create(f"oci:{path}:app", options=options(log, **seek))
    (platform,) = result.platforms
    assert [layer.reused for layer in platform.layers] == [True]
    assert platform.pack_size > 0
    assert result.traffic.read < 1 << 20


def test_pack_when_copied_then_verified_at_the_destination(layout, tmp_path):
    create(f"oci:{layout}:app", options=options())
    copied = tmp_path / "copy"
    tocsin.copy(f"oci:{layout}:app", f"oci:{copied}:app")
    assert referring(copied) == referring(layout)
    assert tocsin.verify(f"oci:{copied}:app").ok


def test_pack_when_files_are_missing_then_noted(layout):
    log = AccessLog((*LOG.files, AccessedFile(0.3, "no/such", ((0, 1), (5, 9)))))
    result = create(f"oci:{layout}:app", options=options(log))
    assert result.platforms[0].pack_notes == ("pack: 2 of 5 reads are of files not in the image",)


def test_pack_when_nothing_can_be_packed_then_a_table_without_one(layout):
    log = AccessLog((AccessedFile(0.3, "no/such", ((0, 1),)),))
    (platform,) = create(f"oci:{layout}:app", options=options(log)).platforms
    assert platform.pack_notes[-1] == "no pack: no file in the list can be packed"
    assert (platform.pack_size, platform.seek_table is None) == (0, False)
    assert platform.to_dict()["pack_notes"] == list(platform.pack_notes)


def test_pack_when_the_list_is_of_another_platform_then_noted(tmp_path):
    path = tmp_path / "layout"
    with OciLayout(path, write=True) as store:
        images = {name: make_image(*FILES) for name in ("linux/amd64", "linux/arm64")}
        put_index(store, images, "app")
    log = AccessLog(LOG.files, platform=Platform("linux", "arm64"))
    first, second = create(f"oci:{path}:app", options=options(log)).platforms
    assert first.pack_notes == ("no pack: the list was recorded on linux/arm64",)
    assert (first.pack_size, second.pack_notes) == (0, ())
    assert second.pack_size > 0


def test_pack_when_a_layer_is_zstd_then_left_out(tmp_path):
    plain = make_image(*FILES)
    tar = gzip.decompress(plain.layers[0])
    layers = [(zstandard.ZstdCompressor().compress(tar), ZSTD), (plain.layers[1], OCI_LAYER_GZIP)]
    path = tmp_path / "layout"
    with OciLayout(path, write=True) as store:
        image_of(*layers).put(store, "app")
    (platform,) = create(f"oci:{path}:app", options=options()).platforms
    assert platform.pack_notes == (
        "pack: 2 of 3 reads are of zstd layers, which mounts read in full",
    )
    ((parts, _),) = referring(path).frames
    assert {part.layer for part in parts} == {1}
    found = tocsin.verify(f"oci:{path}:app").platforms[0].seek_tables[0]
    assert not [one for one in found.findings if one.kind.startswith("pack")]
    assert (found.pack_frames, found.checked_frames) == (1, 1)


def test_options_when_a_pack_is_given_without_seek_then_value_error():
    with pytest.raises(ValueError, match="pack: requires seek"):
        IndexingOptions(pack=LOG)


def test_pack_when_a_layer_is_damaged_then_not_made(layout):
    seek = {"seek_only": False, "seek": True, "min_layer_size": 0}
    create(f"oci:{layout}:app", options=options(log=None, **seek))
    image = tocsin.info(f"oci:{layout}:app")
    digest = image.platforms[0].layers[0].layer.digest
    path = layout / "blobs" / "sha256" / digest.hex
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert hashlib.sha256(data).hexdigest() != digest.hex
    with pytest.raises(tocsin.VerificationError):
        create(f"oci:{layout}:app", options=options(**seek))
