"""containerd with separate directories, and its client ``ctr``; Debian's, or built from source."""

from __future__ import annotations

import itertools
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
    from collections.abc import Iterator

_PATIENCE = 30
_ONE_AT_A_TIME = FileLock(Path(tempfile.gettempdir()) / "tocsin-tests-containerd.lock")
"""containerd's shims identify running containers by name on the whole machine."""


CONFIG = """version = 2
"""
"""A configuration with which containerd answers the kubelet too."""
WITHOUT_CRI = f"""{CONFIG}disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""


class Containerd:
    """A running containerd; calling it runs ``ctr`` with the given arguments.

    Attributes:
        socket: path of its socket, for ``CONTAINERD_ADDRESS``.
        process: the daemon.
    """

    def __init__(self, ctr: str, socket: Path, process: subprocess.Popen[str]) -> None:
        self._ctr = ctr
        self.socket = socket
        self.process = process
        self._numbers = itertools.count()

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 (a tool of the test machine)
            [self._ctr, "-a", str(self.socket), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def checked(self, *arguments: str | Path) -> str:
        """Run ``ctr`` and return what it prints; fail if it fails."""
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # What a container writes reaches this process through files: ``ctr`` sometimes ends before it
    # has passed on all that a short program wrote (containerd 1.6.20, about one run in 400).

    def run(
        self,
        reference: str,
        *command: str,
        name: str = "c",
        options: tuple[str, ...] = (),
        namespace: str = "default",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a container of an image that has a busybox, until its end.

        Args:
            reference: the image.
            command: the program and its arguments.
            name: name of the container.
            options: further options of ``ctr run``.
            namespace: namespace of the image.
        """
        options = ("--rm", *options, *self._output_mount(name))
        before = ("-n", namespace, "run", *options, reference, name)
        return self._with_output(name, before, command)

    def start(
        self, reference: str, *command: str, name: str = "c", options: tuple[str, ...]
    ) -> None:
        """Start a program in a container, without waiting for its end."""
        self.checked("run", "-d", *options, *self._output_mount(name), reference, name, *command)

    def exec(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another program in a container that `start` started."""
        before = ("task", "exec", "--exec-id", f"e{next(self._numbers)}", name)
        return self._with_output(name, before, command)

    def _with_output(
        self, name: str, before: tuple[str, ...], command: tuple[str, ...]
    ) -> subprocess.CompletedProcess[str]:
        number = next(self._numbers)
        script = f'exec "$@" >/dev/output/{number}.out 2>/dev/output/{number}.err'
        done = self(*before, "/bin/busybox", "sh", "-c", script, "sh", *command)
        written = []
        for end in ("out", "err"):
            path = self._output(name) / f"{number}.{end}"
            written.append(path.read_text() if path.exists() else "")
        done.stdout, done.stderr = done.stdout + written[0], done.stderr + written[1]
        return done

    def _output(self, name: str) -> Path:
        return self.socket.parent / f"output-{name}"

    def _output_mount(self, name: str) -> tuple[str, str]:
        self._output(name).mkdir(exist_ok=True)
        place = f"src={self._output(name)},dst=/dev/output"
        return ("--mount", f"type=bind,{place},options=rbind:rw")

    def collect_garbage(self) -> None:
        """Delete everything that nothing refers to, and wait for the end of that."""
        self.checked("leases", "create", "--id", "garbage")
        self.checked("leases", "delete", "--sync", "garbage")

    def contents(self, namespace: str = "default") -> set[str]:
        """Return the digests of all blobs of a namespace."""
        return set(self.checked("-n", namespace, "content", "ls", "-q").split())

    def leases(self, namespace: str = "default") -> list[str]:
        """Return the identifiers of all leases of a namespace."""
        return self.checked("-n", namespace, "leases", "ls", "-q").split()


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
) -> Iterator[Containerd]:
    """Run containerd; calling what this yields runs ``ctr`` with given arguments.

    Args:
        directory: directory for all files; its path must be short, since it contains sockets. A
            later containerd with the same directory has the images of an earlier one.
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
            yield Containerd(ctr, socket, process)
        finally:
            process.terminate()
            process.wait(_PATIENCE)
    drain.join(_PATIENCE)
