"""`tocsin.verify` compares packs with the layers."""

import random

import pytest

import tocsin
from support.images import make_image
from support.packs import change_pack, put_pack
from tocsin import IndexingOptions, create, verify
from tocsin.images.seek_tables import referring_seek_tables
from tocsin.model.access_log import AccessedFile, AccessLog
from tocsin.stores.layout import OciLayout

CHANCE = random.Random(3)  # noqa: S311 (content of files)
DATA = CHANCE.randbytes(300_000)
LOG = AccessLog(
    (
        AccessedFile(0.0, "usr/data", ((0, 4096), (200_000, 260_000))),
        AccessedFile(0.1, "etc/motd", ((0, 5),)),
        AccessedFile(0.2, "etc/missing", ((0, 5),)),
        AccessedFile(0.3, "etc/hosts", ((0, 3),)),
    )
)
OPTIONS = IndexingOptions(seek_only=True, seek_span_size=64 << 10, pack=LOG)
HOW = pytest.mark.parametrize("how", [{}, {"seed": 7}], ids=["full", "quick"])


@pytest.fixture
def layout(tmp_path):
    image = make_image({"etc/motd": b"hello", "usr/data": DATA}, {"etc/hosts": b"::1"})
    path = tmp_path / "layout"
    with OciLayout(path, write=True) as store:
        image.put(store, "app")
    create(f"oci:{path}:app", options=OPTIONS)
    return path


def check(layout, how):
    return verify(f"oci:{layout}:app", **how)


def kinds(result):
    return [finding.kind for finding in result.all_findings]


@HOW
def test_verify_when_the_pack_is_right_then_all_frames_are_checked(layout, how):
    found = check(layout, how)
    assert kinds(found) == []
    (table,) = found.platforms[0].seek_tables
    assert (table.pack_frames, table.checked_frames) == (1, 1)
    document = table.to_dict()
    assert (document["pack_frames"], document["checked_frames"]) == (1, 1)


@HOW
@pytest.mark.parametrize("at", [0, 4608, -1])
def test_verify_when_a_byte_differs_then_error_names_it(layout, how, at):
    def change(_frame, content):
        damaged = bytearray(content)
        damaged[at] ^= 1
        return bytes(damaged)

    with OciLayout(layout, write=True) as store:
        change_pack(store, "app", change)
    (finding,) = check(layout, how).all_findings
    assert finding.kind == "pack.content"
    assert int(finding.expected, 16) ^ int(finding.actual, 16) == 1
    assert "pack frame 0: byte" in finding.message


@HOW
def test_verify_when_made_for_another_image_then_error(layout, how):
    with OciLayout(layout, write=True) as store:
        change_pack(store, "app", lambda _, content: content, layers=[(bytes(32), 1 << 20)] * 2)
    assert kinds(check(layout, how)) == ["pack.image"]


@HOW
def test_verify_when_the_index_is_damaged_then_error(layout, how):
    with OciLayout(layout, write=True) as store:
        put_pack(store, "app", b"TOCSINP1", b"frames")
    assert kinds(check(layout, how)) == ["pack.index"]


@HOW
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda data: None, "pack.missing"),
        (lambda data: data[:-1], "pack.missing"),
        (lambda data: bytes(len(data)), "pack.frame"),
    ],
)
def test_verify_when_the_frames_are_damaged_then_error(layout, how, change, kind):
    with OciLayout(layout) as store:
        (table,) = referring_seek_tables(store, store.resolve("app"))
    path = layout / "blobs" / "sha256" / table.manifest.pack.digest.hex
    data = change(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    assert kinds(check(layout, how)) == [kind]


@HOW
def test_verify_when_the_pack_has_another_size_then_error(layout, how):
    with OciLayout(layout, write=True) as store:
        (table,) = referring_seek_tables(store, store.resolve("app"))
        put_pack(store, "app", table.manifest.pack_index.data, b"frames")
    assert kinds(check(layout, how)) == ["pack.size"]


@HOW
def test_verify_when_a_layer_is_missing_then_pack_is_not_blamed(layout, how):
    image = tocsin.info(f"oci:{layout}:app")
    digest = image.platforms[0].layers[0].layer.digest
    (layout / "blobs" / "sha256" / digest.hex).unlink()
    found = kinds(check(layout, how))
    assert "layer.missing" in found
    assert not [kind for kind in found if kind.startswith("pack.content")]
