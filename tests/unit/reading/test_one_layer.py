"""`tocsin.open_layer`: one layer from a file or a web server."""

from __future__ import annotations

import gzip
import os

import pytest

import tocsin
from support import tarmaker
from support.forked import exit_code, forked
from support.readable import SPAN, text
from support.registry import Registry
from support.registry_client import FakeTime
from support.tarmaker import entry
from tocsin.errors import (
    NotFoundError,
    RegistryError,
    UnsupportedError,
    VerificationError,
    ZtocError,
)

BIG = text(500_000, seed=9)
LAYER = gzip.compress(tarmaker.tar(entry("a", b"first"), entry("d/big", BIG)), mtime=0)
ZTOC = tocsin.build_ztoc(LAYER, span_size=SPAN).to_bytes()


@pytest.fixture
def server():
    with Registry() as running:
        running.storage["layer"] = LAYER
        yield running


def over_http(server, name="layer", **options):
    return tocsin.open_layer(
        f"{server.url}/storage/{name}?signature=secret",
        ZTOC,
        http=tocsin.RegistryOptions(_clock=FakeTime().clock),
        **options,
    )


def test_open_layer_when_given_a_file_then_its_files_are_read(tmp_path):
    (tmp_path / "layer").write_bytes(LAYER)
    (tmp_path / "ztoc").write_bytes(ZTOC)
    with tocsin.open_layer(tmp_path / "layer", tmp_path / "ztoc") as layer:
        assert layer.listdir() == ["a", "d"]
        assert layer.cat("d/big") == BIG
        with layer.open("d/big") as file:
            file.seek(-5, os.SEEK_END)
            assert file.read() == BIG[-5:]
        layer.extract("d", tmp_path / "out")
    assert (tmp_path / "out" / "big").read_bytes() == BIG


def test_open_layer_when_given_a_url_then_only_ranges_are_fetched(server):
    with over_http(server) as layer:
        assert layer.cat("a") == b"first"
        asked = server.asked("GET", "/storage/layer")
        assert [request.status for request in asked] == [206, 206]
        assert sum(request.sent for request in asked) < len(LAYER) // 2
        assert layer.cat("d/big") == BIG


def test_open_layer_when_connections_break_then_resumed(server):
    with over_http(server) as layer:
        server.fault("GET", "/storage/layer", reset_after=1000, times=3)
        assert layer.cat("d/big") == BIG


def test_open_layer_when_bytes_are_corrupt_then_error_without_secrets(server):
    with over_http(server) as layer:
        server.storage["layer"] = LAYER[:5000] + b"\0" * (len(LAYER) - 5000)
        with pytest.raises(VerificationError, match=r"span \d+") as failed:
            layer.cat("d/big")
        assert "/storage/layer" in str(failed.value)
        assert "secret" not in str(failed.value)


def test_open_layer_when_forked_then_both_processes_read(server):
    with over_http(server, cache_size=1) as layer:
        assert layer.cat("a") == b"first"
        child = forked(lambda: layer.cat("d/big") == BIG)
        assert layer.cat("d/big") == BIG
        assert exit_code(child) == 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 404}, NotFoundError),
        ({"status": 403}, RegistryError),
        ({"ignore_range": True}, UnsupportedError),
    ],
)
def test_open_layer_when_the_server_refuses_then_typed_error(server, fault, error):
    server.fault("GET", "/storage/layer", times=9, **fault)
    with pytest.raises(error):
        over_http(server)


def test_open_layer_when_the_ztoc_does_not_match_then_error(tmp_path):
    (tmp_path / "layer").write_bytes(LAYER + b"x")
    with pytest.raises(VerificationError, match="size differs from the ztoc"):
        tocsin.open_layer(tmp_path / "layer", ZTOC)
    with pytest.raises(ZtocError):
        tocsin.open_layer(tmp_path / "layer", b"not a ztoc")
    with pytest.raises(FileNotFoundError):
        tocsin.open_layer(tmp_path / "none", ZTOC)
