"""The report of ``create`` and ``convert`` on seek tables: its totals are the blobs on disk."""

import gzip
import re

import pytest

from support import tarmaker
from support.cli_in_process import tocsin
from support.images import image_of, put_index
from support.tarmaker import entry
from tocsin.cli import words
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.stores.layout import OciLayout

BIG = b"".join(b"%d " % number for number in range(400_000))
LAYERS = [gzip.compress(tarmaker.tar(entry(name, BIG), entry(f"{name}.x"))) for name in "abc"]


@pytest.fixture
def place(tmp_path):
    """An image for two platforms, which share a layer."""
    with OciLayout(tmp_path / "layout", write=True) as store:
        images = {
            platform: image_of(*((layer, OCI_LAYER_GZIP) for layer in layers), platform=platform)
            for platform, layers in (("linux/amd64", LAYERS[:2]), ("linux/arm64", LAYERS[1:]))
        }
        put_index(store, images, "t")
    return tmp_path / "layout"


def blobs(place):
    return {path.name: path.stat().st_size for path in (place / "blobs" / "sha256").iterdir()}


def report(place, *options):
    """Create seek tables; return the report and the sizes of the new blobs but the manifests."""
    before = blobs(place)
    done = tocsin("create", f"oci:{place}:t", *options)
    assert done.returncode == 0, done.stderr
    new = [
        size
        for name, size in blobs(place).items()
        if name not in before and not (place / "blobs/sha256" / name).read_bytes().startswith(b"{")
    ]
    return done.stdout.decode() + done.stderr.decode(), new


def test_report_when_only_seek_tables_then_shared_blobs_count_once(place):
    text, new = report(place, "--seek-only")
    total, layers = sum(new), sum(map(len, LAYERS))
    expected = f"2 seek tables for 3 layers, {words.size(total)} for {words.size(layers)} "
    assert expected in text
    assert re.search(r"\(seek tables [0-9.]+ KiB, indexes and manifests [0-9.]+ KiB\)", text)
    assert "zTOC" not in text


def test_report_when_both_are_made_then_both_have_a_total(place):
    text, _ = report(place, "--seek", "--min-layer-size", "0")
    line = next(line for line in text.splitlines() if line.startswith("3 zTOCs for 3 layers, "))
    layers = words.size(sum(map(len, LAYERS)))
    assert re.search(rf"\), 2 seek tables, [0-9.]+ KiB for {layers} \([0-9.]+ %\), in ", line)
    assert re.search(r"\(zTOCs and seek tables [0-9.]+ [KM]iB, ", text)


def test_report_when_no_seek_table_is_made_then_not_mentioned(place):
    text, _ = report(place, "--min-layer-size", "0")
    assert "seek table" not in text
    assert "(zTOCs " in text
