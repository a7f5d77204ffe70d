"""What ``tocsin snapshotter --print-config`` prints, loaded by real containerds."""

import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

import pytest

from support.containerd import containerd, placed
from support.go_tools import CONTAINERD
from support.registry_real import program
from tocsin.mounting.containerd_version import installed_version
from tocsin.mounting.snapshotter.config import SnapshotterConfig
from tocsin.mounting.snapshotter.configs import config_text

pytestmark = pytest.mark.interop
KINDS = ["containerd", "nerdctl", "k8s"]


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="tocsin-tests-") as directory:
        yield Path(directory)


def built():
    """Return the directory of a containerd 2."""
    return CONTAINERD.directory()


CONTAINERDS = [
    pytest.param(lambda: None, id="installed"),
    pytest.param(built, id="built", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("programs", CONTAINERDS)
def test_config_when_containerd_dumps_it_then_each_setting_is_known(place, programs, kind):
    directory = programs()
    daemon = Path(program("containerd") if directory is None else directory / "containerd")
    config = config_text(kind, version=installed_version(daemon))
    file = place / "config.toml"
    file.write_text(placed(config, place))
    done = subprocess.run(  # noqa: S603 (a tool of the test machine)
        [daemon, "-c", file, "config", "dump"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert_within(tomllib.loads(config), tomllib.loads(done.stdout))


def assert_within(part, whole, *names):
    """Check that a document has each value of another one."""
    if isinstance(part, dict):
        for name, value in part.items():
            assert name in whole, names
            assert_within(value, whole[name], *names, name)
    elif isinstance(part, list):
        for value, other in zip(part, whole, strict=True):
            assert_within(value, other, *names)
    else:
        assert part == whole, names


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("programs", CONTAINERDS)
def test_config_when_containerd_starts_then_the_plugin_is_registered(place, programs, kind):
    directory = programs()
    daemon = Path(program("containerd") if directory is None else directory / "containerd")
    settings = SnapshotterConfig(root=place / "tocsin", address=place / "t.sock")
    config = config_text(kind, version=installed_version(daemon), settings=settings)
    with containerd(place, programs=directory, config=config) as ctr:
        listed = ctr("plugins", "ls").stdout
    name = "soci" if kind == "nerdctl" else "tocsin"
    assert re.search(rf"^io\.containerd\.snapshotter\.v1 +{name} .*\bok *$", listed, re.M), listed
    cri = re.findall(
        r"^io\.containerd\.(?:grpc|cri)\.v1 +(?:cri|images) .*\b(\w+) *$", listed, re.M
    )
    assert "ok" in cri, listed
