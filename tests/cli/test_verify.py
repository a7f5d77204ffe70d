from __future__ import annotations

import json

import pytest

from support.cli_in_process import tocsin
from support.cli_inputs import BINARY
from support.images import make_image, put_index
from support.tampered import put_v1, with_number, with_window_byte
from tocsin.layers.indexer import build_ztoc
from tocsin.model.digest import Digest
from tocsin.stores.layout import OciLayout

DOCUMENT = {
    "image",
    "manifest",
    "ok",
    "quick",
    "seed",
    "seconds",
    "errors",
    "warnings",
    "findings",
    "platforms",
}
PLATFORM = {"platform", "manifest", "ok", "findings", "soci_indexes", "seek_tables"}
INDEX = {"digest", "media_type", "size", "version", "ok", "findings", "layers"}
LAYER = {
    "digest",
    "media_type",
    "size",
    "ztoc",
    "span_count",
    "checked_spans",
    "ok",
    "findings",
}
SEEK_TABLE = {
    "digest",
    "bound",
    "span_size",
    "entry_count",
    "checked_entries",
    "checked_frames",
    "pack_frames",
    "ok",
    "findings",
    "layers",
}
SEEK_LAYER = (LAYER - {"ztoc"}) | {"seek_blob"}
FINDING = {"kind", "severity", "message", "expected", "actual"}
SMALL = ("--min-layer-size", "1KiB", "--span-size", "1MiB")


@pytest.fixture
def honest(layout):
    """Correct indexes of both versions."""
    assert tocsin("convert", f"oci:{layout}:app", f"oci:{layout}:soci", *SMALL).returncode == 0
    assert tocsin("create", f"oci:{layout}:soci", *SMALL).returncode == 0
    return f"oci:{layout}:soci"


@pytest.fixture
def lying(tmp_path, image):
    """A zTOC with a wrong window and a wrong mode, but consistent digests."""
    ztoc = build_ztoc(image.layers[0], span_size=1 << 20).to_bytes()
    false = with_number(with_window_byte(ztoc, 1, 0), 0, "mode", 0o4755)
    with OciLayout(tmp_path / "lying", write=True) as store:
        put_v1(store, image, [false], span_size=1 << 20)
    return f"oci:{tmp_path / 'lying'}:app", str(Digest.of(false))


def test_verify_when_correct_then_a_table_and_code_0(honest, image):
    done = tocsin("verify", honest)
    out = done.stdout.decode().splitlines()
    large, small = (str(d.digest)[7:19] for d in image.layer_descriptors)
    assert (done.returncode, done.stderr) == (0, b"")
    assert out[0] == f"image   {honest}"
    assert out[3].startswith("linux/amd64 · manifest sha256:")
    assert out[4].startswith("index v2 sha256:")
    assert out[4].endswith(": ok")
    assert out[5].split() == ["LAYER", "SIZE", "ZTOC", "SPANS", "RESULT"]
    assert out[6].split()[:3] == [large, "3.0", "MiB"]
    assert out[6].split()[4:] == ["3", "ok"]
    assert out[7].startswith(small)
    assert out[7].endswith("no zTOC")
    assert out[8].startswith("index v1 sha256:")
    assert out[-1].startswith("1 zTOC of 2 indexes verified in ")
    assert out[-1].endswith(": no problems found")


def test_verify_quick_when_its_seed_is_given_then_it_is_repeated(honest):
    quick = json.loads(tocsin("verify", honest, "--quick", "--json").stdout)
    again = json.loads(tocsin("verify", honest, "--seed", str(quick["seed"]), "--json").stdout)
    assert quick["quick"] is again["quick"] is True
    assert {**quick, "seconds": 0} == {**again, "seconds": 0}
    out = tocsin("verify", honest, "--seed", "5").stdout.decode().splitlines()
    assert out[2] == "seed    5"
    assert "1 zTOC of 2 indexes sampled in " in out[-1]


@pytest.mark.parametrize("how", [(), ("--quick",)], ids=["full", "quick"])
def test_verify_when_a_ztoc_is_wrong_then_reported_where_and_code_1(lying, how):
    image, ztoc = lying
    done = tocsin("verify", image, *how)
    out = done.stdout.decode().splitlines()
    assert done.returncode == 1
    assert any(" WRONG: ztoc." in line for line in out)
    errors = [line for line in out if line.startswith("error: ")]
    assert {line.split(": ")[1] for line in errors} == {"ztoc.file", "ztoc.window"}
    assert all(f"ztoc {ztoc}: " in line for line in errors)
    assert any("usr/bin/app" in line for line in errors)
    assert any("window of span 1 " in line for line in errors)
    assert out[-1].endswith(": 2 errors")


def test_verify_quiet_prints_only_errors(honest, lying):
    good, bad = tocsin("verify", honest, "-q"), tocsin("verify", lying[0], "-q")
    assert (good.returncode, good.stdout, good.stderr) == (0, b"", b"")
    assert (bad.returncode, bad.stderr) == (1, b"")
    assert [line.partition(b": ")[0] for line in bad.stdout.splitlines()] == [b"error"] * 2


def test_verify_json_when_a_ztoc_is_wrong_then_keys_are_stable_and_code_1(lying):
    done = tocsin("verify", lying[0], "--json")
    document = json.loads(done.stdout)
    (platform,) = document["platforms"]
    (index,) = platform["soci_indexes"]
    large, small = index["layers"]
    assert done.returncode == 1
    assert document.keys() == DOCUMENT
    assert platform.keys() == PLATFORM
    assert index.keys() == INDEX
    assert large.keys() == small.keys() == LAYER
    assert all(finding.keys() == FINDING for finding in large["findings"])
    assert (document["ok"], document["errors"], document["warnings"]) == (False, 2, 0)
    assert (large["ok"], small["ok"], small["ztoc"]) == (False, True, None)
    assert (document["seed"], large["checked_spans"], large["span_count"]) == (None, 3, 3)


def test_verify_when_a_platform_is_given_then_only_that_one(tmp_path):
    images = {
        name: make_image({name: BINARY[: 1 << 17]}, platform=name)
        for name in ("linux/amd64", "linux/arm64")
    }
    with OciLayout(tmp_path, write=True) as store:
        put_index(store, images, tag="app")
    ref = f"oci:{tmp_path}:app"
    assert tocsin("create", ref, *SMALL, "-q").returncode == 0
    document = json.loads(tocsin("verify", ref, "-p", "linux/arm64", "--json").stdout)
    assert [platform["platform"] for platform in document["platforms"]] == ["linux/arm64"]
    assert tocsin("verify", ref, "-p", "linux/s390x").returncode == 3


def test_verify_when_there_is_a_seek_table_then_a_table_and_code_0(layout, image):
    ref = f"oci:{layout}:app"
    assert tocsin("create", ref, "--seek-only", "--seek-span-size", "1MiB").returncode == 0
    done = tocsin("verify", ref)
    out = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert out[4].startswith("seek table sha256:")
    assert out[4].endswith(": ok")
    assert out[5].split() == ["LAYER", "SIZE", "SEEK", "BLOB", "SPANS", "RESULT"]
    digests = [str(layer.digest)[7:19] for layer in image.layer_descriptors]
    assert [line.split()[0] for line in out[6:8]] == digests
    assert out[-1].startswith("1 seek table verified in ")
    assert out[-1].endswith(": no problems found")
    (platform,) = json.loads(tocsin("verify", ref, "--json").stdout)["platforms"]
    (table,) = platform["seek_tables"]
    assert table.keys() == SEEK_TABLE
    assert all(layer.keys() == SEEK_LAYER for layer in table["layers"])


def test_verify_when_there_is_no_index_then_hint_and_code_3(layout):
    done = tocsin("verify", f"oci:{layout}:app")
    first, hint = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (3, b"")
    assert first == f"error: oci:{layout}:app: has no SOCI index or seek table, nothing to verify"
    assert hint == "hint: Create an index with tocsin create or tocsin convert."


@pytest.mark.parametrize("threads", ["1", "2", "8"])
def test_verify_with_any_threads_gives_the_same_result(honest, threads):
    expected = json.loads(tocsin("verify", honest, "--json").stdout)
    done = tocsin("verify", honest, "--json", "--threads", threads)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}
