"""The logger ``tocsin`` logs no secrets and prints nothing by default."""

import logging
import subprocess
import sys
from dataclasses import replace

import pytest

import tocsin
from support import tarmaker
from support.images import make_image, referrer_to
from support.readable import put_image
from support.registry import Registry
from support.registry_client import noise, store_of
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_MANIFEST
from tocsin.model.soci_index import INDEX_DIGEST
from tocsin.stores.layout import OciLayout


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, "tocsin")
    return caplog


def said(log, level):
    return [r.getMessage() for r in log.records if r.name == "tocsin" and r.levelno == level]


def test_registry_when_used_then_requests_are_debug_without_secrets(log):
    with Registry() as registry:
        registry.auth = "token"
        options = {"username": "alice", "password": "secret"}
        with store_of(registry, write=True, **options) as store:
            make_image().put(store, "t")
            log.clear()
            registry.fault("HEAD", "/manifests/t", status=503)  # HEAD is optional, so not repeated
            registry.fault("GET", "/manifests/t", status=503)
            store.resolve("t")
    lines = said(log, logging.DEBUG)
    get = f"> GET {registry.url}/v2/team/app/manifests/t Authorization: Bearer"
    assert [line for line in lines if line == get] == [get] * 2
    assert "try 2 of 5 in 0.2 s" in lines
    assert any(line.startswith("< 503 ") for line in lines)
    assert not [line for line in lines if "secret" in line or "alice" in line]
    assert {record.levelno for record in log.records if record.name == "tocsin"} == {logging.DEBUG}


def test_layer_when_read_in_full_then_info_and_note(log, tmp_path):
    name = put_image(tmp_path, tarmaker.tar(tarmaker.entry("noise", noise(11 << 20))))
    with tocsin.open(name) as image:
        assert image.layers
        assert said(log, logging.INFO) == image.notes
    assert "has no ztoc: 11.0 MiB were read to make one" in image.notes[0]


def test_index_when_broken_then_warning_and_note(log, tmp_path):
    image = make_image()
    absent = Digest.of(b"absent")
    manifest = replace(Manifest.from_json(image.manifest), annotations={INDEX_DIGEST: str(absent)})
    with OciLayout(tmp_path, write=True) as store:
        image.put(store)
        store.put_manifest(manifest.to_json(), OCI_MANIFEST, tag="t")
    with tocsin.open(f"oci:{tmp_path}:t") as opened:
        assert opened.layers
        assert said(log, logging.WARNING) == opened.notes[:1]
    assert opened.notes[0].startswith(f"SOCI index {absent} is not used: ")


def test_layer_when_skipped_then_reason_is_info(log, tmp_path):
    image = make_image({"a": b"1" * 5000}, {"b": b"2"})
    with OciLayout(tmp_path, write=True) as store:
        image.put(store, "t")
    small = min(layer.size for layer in image.layer_descriptors)
    options = tocsin.IndexingOptions(min_layer_size=small + 1, jobs=1)
    result = tocsin.create(f"oci:{tmp_path}:t", options=options)
    (skipped,) = (layer for layer in result.platforms[0].layers if layer.skipped)
    assert said(log, logging.INFO) == [f"layer {skipped.layer.digest}: skipped: {skipped.skipped}"]


def test_log_when_logging_is_not_configured_then_nothing_is_printed(tmp_path):
    with OciLayout(tmp_path, write=True) as store:
        put = make_image().put(store, "t")
        store.put_manifest(referrer_to(put, "x/y"), OCI_MANIFEST)
    script = (
        "import sys, tocsin\n"
        "from tocsin.log import LOG\n"
        "with tocsin.open(sys.argv[1]) as image: image.layers\n"
        "LOG.warning('something is broken')\n"
    )
    command = [sys.executable, "-c", script, f"oci:{tmp_path}:t"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)  # noqa: S603
    assert (done.stdout, done.stderr) == (b"", b"")
