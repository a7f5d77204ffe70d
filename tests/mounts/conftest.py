"""Fixtures for tests with real mounts."""

import tempfile
from pathlib import Path

import pytest

import tocsin
from support import mounts
from tocsin.stores.layout import OciLayout


@pytest.fixture(scope="session")
def layout():
    """A layout with one image under three tags: with a seek table, with zTOCs, without index."""
    mounts.need_mounts()
    with tempfile.TemporaryDirectory(prefix="tocsin-tests-") as directory:
        path = Path(directory) / "layout"
        image = mounts.make_image(
            busybox=mounts.need_busybox(),
            config={
                "Env": ["PATH=/bin", "GREETING=hi"],
                "Cmd": ["sh", "-c", "echo $GREETING"],
                "WorkingDir": "/data",
            },
        )
        mounts.put(OciLayout(path, write=True), image, "plain")
        options = tocsin.IndexingOptions(min_layer_size=0, span_size=256 << 10)
        tocsin.convert(f"oci:{path}:plain", f"oci:{path}:v2", options=options)
        seek = tocsin.IndexingOptions(min_layer_size=0, seek_only=True, seek_span_size=64 << 10)
        tocsin.convert(f"oci:{path}:plain", f"oci:{path}:seek", options=seek)
        yield path


@pytest.fixture
def machine():
    """Directories for mounts; what is left mounted is removed."""
    mounts.need_mounts()
    with tempfile.TemporaryDirectory(prefix="tocsin-tests-") as directory:
        machine = mounts.Machine(Path(directory))
        yield machine
        machine.clean()
