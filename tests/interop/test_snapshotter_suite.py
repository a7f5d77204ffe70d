"""containerd's own test suite for snapshotters, of the version that Debian has."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from support.cli_process import TOCSIN
from support.mounts import need_mounts
from support.registry_real import program
from support.tools import missing

pytestmark = [pytest.mark.slow, pytest.mark.interop]
SUITE = Path(__file__).parents[1] / "support" / "gosnapshots"
SOURCES = Path("/usr/share/gocode")
PASSED = {
    *("Basic", "StatActive", "StatComitted", "TransitivityTest", "PreareViewFailingtest", "Update"),
    *("Remove", "Walk", "LayerFileupdate", "RemoveDirectoryInLowerLayer", "Chown"),
    *("DirectoryPermissionOnCommit", "RemoveIntermediateSnapshot", "DeletedFilesInChildSnapshot"),
    *("MoveFileFromLowerLayer", "ViewReadonly", "StatInWalk", "CloseTwice", "RootPermission"),
    "128LayersMount",
}
"""All tests of the suite, in its spelling, but Rename, which the suite skips for overlayfs."""


def test_suite_when_run_then_snapshotter_passes(tmp_path):
    need_mounts()
    if not (SOURCES / "src/github.com/containerd/containerd/snapshots/testsuite").exists():
        missing("golang-github-containerd-containerd-dev is not installed")
    suite = tmp_path / "suite"
    go = {**os.environ, "GO111MODULE": "off", "GOPATH": str(SOURCES), "GOFLAGS": ""}
    subprocess.run(  # noqa: S603 (built from this repository)
        [program("go"), "test", "-c", "-o", suite, "."], cwd=SUITE, env=go, check=True
    )
    directory = tmp_path / "t"
    directory.mkdir()
    command = f'exec {shlex.quote(TOCSIN)} snapshotter --root "$1" --address "$2"'
    done = subprocess.run(  # noqa: S603 (built from this repository)
        [suite, "-test.root", "-test.v", "-test.parallel", "4"],
        cwd=directory,
        env={**os.environ, "SNAPSHOTTER": command, "TMPDIR": "/tmp"},  # noqa: S108 (sockets: short)
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    passed = set(re.findall(r"--- PASS: TestSuite/(\S+)", done.stdout))
    assert passed == PASSED, done.stdout[-5000:]
    assert done.returncode == 0
