"""The configuration that ``tocsin snapshotter --print-config`` prints."""

import subprocess
import tomllib
from pathlib import Path

import pytest

from support.cli_in_process import tocsin
from support.registry_real import program
from tocsin.mounting.containerd_version import installed_version, parsed_version
from tocsin.mounting.snapshotter.config import SnapshotterConfig
from tocsin.mounting.snapshotter.configs import config_text

SOCKET = "/run/tocsin-snapshotter/tocsin.sock"
ROOT = "/var/lib/tocsin-snapshotter"
ANNOTATIONS = {"enable_remote_snapshot_annotations": "true"}


def parsed(kind, version, **changes):
    return tomllib.loads(config_text(kind, version=version, settings=SnapshotterConfig(**changes)))


@pytest.mark.parametrize(
    ("version", "exports", "unpacks"),
    [
        ((1, 6), None, False),
        ((1, 7), {"root": ROOT}, False),
        ((2, 0), {"root": ROOT, **ANNOTATIONS}, True),
        ((2, 1), {"root": ROOT, **ANNOTATIONS}, True),
        ((2, 9), {"root": ROOT, **ANNOTATIONS}, True),
    ],
)
def test_containerd_when_version_then_what_it_needs(version, exports, unpacks):
    config = parsed("containerd", version)
    assert config["version"] == (3 if version >= (2, 0) else 2)
    plugin = {"type": "snapshot", "address": SOCKET}
    if exports is not None:
        plugin["exports"] = exports
    assert config["proxy_plugins"] == {"tocsin": plugin}
    assert ("plugins" in config) == unpacks
    if unpacks:
        transfer = config["plugins"]["io.containerd.transfer.v1.local"]
        assert transfer["unpack_config"] == [
            {"platform": "linux", "snapshotter": "overlayfs"},
            {"platform": "linux", "snapshotter": "tocsin"},
        ]


def test_nerdctl_when_printed_then_named_soci():
    config = parsed("nerdctl", (2, 2))
    assert list(config["proxy_plugins"]) == ["soci"]
    transfer = config["plugins"]["io.containerd.transfer.v1.local"]
    assert transfer["unpack_config"][1]["snapshotter"] == "soci"


@pytest.mark.parametrize("version", [(1, 6), (1, 7), (2, 0), (2, 2)])
def test_k8s_when_printed_then_cri_passes_annotations(version):
    plugins = parsed("k8s", version)["plugins"]
    cri = (
        plugins["io.containerd.cri.v1.images"]
        if version >= (2, 0)
        else plugins["io.containerd.grpc.v1.cri"]["containerd"]
    )
    assert cri == {"snapshotter": "tocsin", "disable_snapshot_annotations": False}
    assert list(plugins) == [
        "io.containerd.cri.v1.images" if version >= (2, 0) else "io.containerd.grpc.v1.cri"
    ]


def test_containerd_when_paths_are_odd_then_quoted():
    config = parsed("containerd", (2, 2), root=Path('/a "b\\c'), address=Path("/ü\n/s"))
    plugin = config["proxy_plugins"]["tocsin"]
    assert (plugin["exports"]["root"], plugin["address"]) == ('/a "b\\c', "/ü\n/s")


def test_systemd_when_printed_then_mounts_survive_a_restart():
    lines = config_text("systemd", program="/usr/bin/tocsin").splitlines()
    for line in (
        *("Type=notify", "KillMode=process", "Restart=always", "Before=containerd.service"),
        "ExecStart=/usr/bin/tocsin snapshotter",
    ):
        assert line in lines


def test_systemd_when_paths_are_odd_then_the_command_is_quoted():
    settings = SnapshotterConfig(root=Path("/a b"), address=Path('/100%/"$x'))
    text = config_text("systemd", settings=settings, program="/usr/bin/tocsin")
    assert (
        'ExecStart=/usr/bin/tocsin snapshotter --root "/a b" --address "/100%%/\\"$$x"'
        in text.splitlines()
    )


@pytest.mark.interop
def test_systemd_when_verified_then_no_complaints(tmp_path):
    verifier = program("systemd-analyze")
    unit = tmp_path / "tocsin-snapshotter.service"
    unit.write_text(config_text("systemd", program=program("true")))
    done = subprocess.run(  # noqa: S603 (a tool of the test machine)
        [verifier, "verify", unit], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2", (2, 0)),
        ("1.7", (1, 7)),
        ("v1.7.13-rc.1", (1, 7)),
        ("1.6.20~ds1", (1, 6)),
        ("2.2.9+unknown", (2, 2)),
        ("", None),
        ("two", None),
        ("2.x", (2, 0)),
        ("2" * 5, None),
        ("²", None),
    ],
)
def test_version_when_parsed_then_major_and_minor(text, version):
    assert parsed_version(text) == version


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6)),
        ("containerd github.com/containerd/containerd/v2 2.2.9+unknown ", (2, 2)),
        ("containerd github.com/containerd/containerd v1.7.27 05044ec0a9a7", (1, 7)),
        ("nonsense", None),
        ("", None),
    ],
)
def test_version_when_a_program_prints_it_then_parsed(tmp_path, printed, version):
    containerd = tmp_path / "containerd"
    containerd.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{printed}"\n')
    containerd.chmod(0o755)
    assert installed_version(containerd) == version


def test_version_when_the_program_is_missing_then_unknown(tmp_path):
    assert installed_version(tmp_path / "containerd") is None


def test_command_when_version_is_given_then_its_configuration():
    done = tocsin("snapshotter", "--print-config=k8s", "--containerd-version=1.7", "--root=/r")
    assert (done.returncode, done.stderr) == (0, b"")
    settings = SnapshotterConfig(root=Path("/r"))
    assert done.stdout.decode() == config_text("k8s", version=(1, 7), settings=settings)


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("x", "not a version of containerd (found 'x')"),
        ("1.5.9", "too old (found '1.5.9', expected at least 1.6)"),
    ],
)
def test_command_when_version_is_wrong_then_usage_error(version, error):
    done = tocsin("snapshotter", "--print-config=k8s", f"--containerd-version={version}")
    assert (done.returncode, error in done.stderr.decode()) == (2, True)


def test_page_when_it_shows_settings_then_the_snapshotter_reads_them(tmp_path):
    page = (Path(__file__).parents[4] / "docs" / "snapshotter.md").read_text()
    (text,) = (each.partition("```")[0] for each in page.split("```toml\n")[1:])
    file = tmp_path / "snapshotter.toml"
    file.write_text(text)
    assert SnapshotterConfig.read(file) == SnapshotterConfig(
        root=Path("/data/tocsin"),
        cache_size=50 << 30,
        trust="bound",
        metrics="127.0.0.1:9464",
    )
