"""Programs of other projects that Debian does not have, built once from their Go modules.

Building takes some minutes the first time, so only tests with the mark `slow` use them.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from support.registry_real import program
from support.tools import missing

_BUILD = Path(__file__).parents[2] / ".build" / "tests" / "go"
_TIMEOUT = 1800
_NOT_SERVED = ("dial tcp", "proxyconnect", "403 Forbidden", "404 Not Found")
"""What Go prints if a module cannot be downloaded here."""


@dataclass(frozen=True)
class GoTools:
    """Programs of one Go module.

    Attributes:
        packages: directory of their packages, as Go names it.
        version: version of the module.
        names: their names.
    """

    packages: str
    version: str
    names: tuple[str, ...]

    def directory(self) -> Path:
        """Return the directory with the programs, or skip the test if they cannot be built."""
        directory = _BUILD / f"{self.names[0]}-{self.version}"
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{directory}.lock"):
            if not all((directory / name).exists() for name in self.names):
                self._build(directory)
        return directory

    def _build(self, directory: Path) -> None:
        done = subprocess.run(  # noqa: S603 (a tool of the test machine)
            [
                *(program("go"), "install", "-buildvcs=false"),
                *(f"{self.packages}/{name}@{self.version}" for name in self.names),
            ],
            env={**os.environ, "GOBIN": str(directory)},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if done.returncode:
            if any(text in done.stderr for text in _NOT_SERVED):
                missing(f"{self.packages}@{self.version} cannot be downloaded")
            raise AssertionError(done.stderr)


CONTAINERD = GoTools(
    "github.com/containerd/containerd/v2/cmd",
    "v2.2.9",
    ("containerd", "ctr", "containerd-shim-runc-v2"),
)
"""containerd 2; Debian 12 has 1.6."""
CRICTL = GoTools("sigs.k8s.io/cri-tools/cmd", "v1.34.0", ("crictl",))
"""The client of CRI, which Kubernetes uses."""
ACTIONLINT = GoTools("github.com/rhysd/actionlint/cmd", "v1.7.12", ("actionlint",))
"""Checks workflows and actions of GitHub."""
