"""containerd with separate directories, and its client ``ctr``; Debian's, or built from source."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from support.registry_real import program
from support.tools import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ctr = Callable[..., subprocess.CompletedProcess[str]]

_PATIENCE = 30
_ONE_AT_A_TIME = FileLock(Path(tempfile.gettempdir()) / "tocsin-tests-containerd.lock")
"""containerd's shims identify running containers by name on the whole machine."""


CONFIG = """version = 2
"""
"""A configuration with which containerd answers the kubelet too."""
WITHOUT_CRI = f"""{CONFIG}disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""


def placed(config: str, directory: Path) -> str:
    """Return a configuration with directories and sockets of its own."""
    version = re.search(r"^version = [0-9]$", config, re.M)
    assert version is not None, config
    rest = config.replace(version[0], "", 1)
    socket = directory / "c.sock"
    return f"""{version[0]}
root = "{directory}/root"
state = "{directory}/state"
{rest}
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
"""


def _found(name: str, programs: Path | None) -> str:
    return program(name) if programs is None else str(programs / name)


@contextmanager
def containerd(
    directory: Path, *, more: str = "", programs: Path | None = None, config: str = WITHOUT_CRI
) -> Iterator[Ctr]:
    """Run containerd and yield a function that runs ``ctr`` with given arguments.

    Args:
        directory: directory for all files; its path must be short, since it contains sockets.
        more: further sections of its configuration.
        programs: directory of ``containerd`` and ``ctr``; those of the machine without it.
        config: the configuration, to which the directories are added.
    """
    search = f"{programs or ''}{os.pathsep}{os.environ['PATH']}"
    daemon, ctr = (_found(name, programs) for name in ("containerd", "ctr"))
    runc = program("runc")
    if os.geteuid():
        missing("containerd needs root")
    socket = directory / "c.sock"
    file = directory / "config.toml"
    file.write_text(placed(f"{config}{more}", directory))
    path = f"{search}{os.pathsep}{os.path.dirname(runc)}"  # noqa: PTH120 (text)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 (a tool of the test machine)
            [ctr, "-a", str(socket), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    with (
        _ONE_AT_A_TIME,
        subprocess.Popen(  # noqa: S603 (a tool of the test machine)
            [daemon, "-c", str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": path},
        ) as process,
    ):
        assert process.stderr is not None
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "containerd successfully booted" in line:
                    break
            else:
                raise AssertionError("".join(said))
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield run
        finally:
            process.terminate()
            process.wait(_PATIENCE)
    drain.join(_PATIENCE)
