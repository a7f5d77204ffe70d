"""containerd's image store as source and destination, with Debian's containerd and its ``ctr``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import tocsin
from support.cli_process import TOCSIN, environment
from support.containerd import containerd
from support.machine_image import GREETING, put_machine_image
from support.registry_real import docker_registry, go_registry, program
from support.shell import Shell
from tocsin.errors import ContainerdError, NotFoundError, VerificationError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import parse_manifest
from tocsin.model.reference import parse_reference
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.containerd import open_containerd
from tocsin.stores.layout import OciLayout
from tocsin.stores.opening import open_sink, open_source

pytestmark = pytest.mark.interop

OWN = f"linux/{'arm64' if os.uname().machine == 'aarch64' else 'amd64'}"
OTHER = "linux/riscv64"
NAME = "r.example/team/app:1"
HERE = f"containerd:{NAME}"


@pytest.fixture
def daemon(place, monkeypatch):
    with running(place, monkeypatch) as daemon:
        yield daemon


@contextmanager
def running(place, monkeypatch):
    directory = place / "c"
    directory.mkdir(exist_ok=True)
    with containerd(directory) as daemon:
        monkeypatch.setenv("CONTAINERD_ADDRESS", str(daemon.socket))
        monkeypatch.delenv("CONTAINERD_NAMESPACE", raising=False)
        yield daemon


@pytest.fixture
def shell(place):
    (place / "home").mkdir()
    return Shell(place / "home")


@pytest.fixture
def layout(place):
    put_machine_image(place / "layout", size=2 << 20, layer_count=2)
    return f"oci:{place / 'layout'}:app"


def store(reference=HERE, *, write=False):
    return open_containerd(parse_reference(reference), write=write)


def indexes_of(reference):
    return {
        str(index.descriptor.digest)
        for platform in tocsin.indexes(reference)
        for index in platform.indexes
    }


# The pipeline of the reference: pull, create, push.


@pytest.mark.parametrize("registry", [docker_registry, go_registry])
def test_image_when_pulled_by_ctr_then_create_and_copy_push_it_with_its_indexes(
    registry, place, daemon, layout, shell
):
    skopeo = (program("skopeo"), "--insecure-policy", "copy", "--all", "--dest-tls-verify=false")
    (place / "r").mkdir()
    (place / "r2").mkdir()
    with registry(place / "r") as host, go_registry(place / "r2") as other:
        app = f"{host}/team/app:1"
        shell(*skopeo, layout, f"docker://{app}")
        daemon.checked("image", "pull", "--plain-http", "--all-platforms", app)
        shell(TOCSIN, "create", f"containerd:{app}", "--min-layer-size", "0")
        shell(TOCSIN, "copy", f"containerd:{app}", f"{other}/away/app:1")
        shell(TOCSIN, "create", layout, "--min-layer-size", "0")
        listed = [
            json.loads(shell(TOCSIN, "index", "ls", one, "--json", echo=False))["indexes"]
            for one in (layout, f"containerd:{app}", f"{other}/away/app:1")
        ]
        digests = [sorted(index["digest"] for index in one) for one in listed]
        assert len(digests[0]) == 2
        assert digests[0] == digests[1] == digests[2]
        shell(TOCSIN, "verify", f"{other}/away/app:1")
