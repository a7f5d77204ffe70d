"""containerd of the test machine, with separate directories, and its client ``ctr``."""

from __future__ import annotations

import os
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


@contextmanager
def containerd(directory: Path, *, more: str = "", cri: bool = False) -> Iterator[Ctr]:
    """Run containerd and yield a function that runs ``ctr`` with given arguments.

    Args:
        directory: directory for all files; its path must be short, since it contains sockets.
        more: further sections of its configuration.
        cri: whether it serves the kubelet's requests.
    """
    daemon, ctr, runc = (program(name) for name in ("containerd", "ctr", "runc"))
    if os.geteuid():
        missing("containerd needs root")
    socket = directory / "c.sock"
    config = directory / "config.toml"
    config.write_text(
        f"""version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = [{"" if cri else '"io.containerd.grpc.v1.cri"'}]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
{more}"""
    )
    path = f"{os.environ['PATH']}{os.pathsep}{os.path.dirname(runc)}"  # noqa: PTH120 (text)

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
            [daemon, "-c", str(config)],
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
