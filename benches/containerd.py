"""containerd with overlayfs, with the stargz snapshotter, and with tocsin's. Needs root.

Each run has a containerd of its own with empty directories, so it starts from nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAMS = ("containerd", "ctr", "ctr-remote", "runc")
_HERE = Path(__file__).resolve().parent
_SOURCES = Path("/usr/share/gocode")  # where Debian installs the sources of Go packages
_PACKAGE = "golang-github-containerd-stargz-snapshotter-dev"
_START = 30.0  # seconds until a daemon must answer
_RECORDING = 10  # seconds for which `ctr-remote image optimize` watches the program


@dataclass(frozen=True)
class Containerd:
    """A running containerd.

    Attributes:
        before: command prefix that runs a program at the client's end of the link.
        socket: its socket.
        snapshotter: what images are unpacked to or mounted with.
    """

    before: list[str]
    socket: Path
    snapshotter: str

    def pull(self, reference: str) -> None:
        """Pull an image; with a lazy snapshotter, only what it needs to mount it."""
        if self.snapshotter == "overlayfs":
            self.command("ctr", "image", "pull", "--plain-http", reference)
        else:
            name = ("--snapshotter", self.snapshotter)
            self.command("ctr-remote", "image", "rpull", "--plain-http", *name, reference)

    def run(self, reference: str, command: Sequence[str], *, name: str = "measured") -> str:
        """Run a command in a container of an image, and return its output."""
        snapshotter = ("--snapshotter", self.snapshotter)
        return self.command("ctr", "run", "--rm", *snapshotter, reference, name, *command)

    def command(self, program: str, *arguments: str) -> str:
        """Run ``ctr`` or ``ctr-remote``, and return its output."""
        words = [*self.before, program, "-a", os.fspath(self.socket), *arguments]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise CommandError(f"{program} {arguments[0]} {arguments[1]}: {said[-1:]}")
        return done.stdout


class CommandError(Exception):
    """A program that is measured failed; the message has the end of what it wrote."""


@contextmanager
def running(
    directory: Path,
    before: list[str],
    *,
    stargz: Path | None = None,
    tocsin: Sequence[str] | None = None,
) -> Iterator[Containerd]:
    """Run containerd with empty directories below `directory`, which exists and is empty.

    Args:
        directory: the directory.
        before: command prefix that runs a program at the client's end of the link.
        stargz: the stargz snapshotter (`build_stargz`), to use it instead of overlayfs.
        tocsin: command of ``tocsin snapshotter`` with its options, to use that instead.
    """
    socket = directory / "containerd.sock"
    config = [
        "version = 2",
        f"root = {json.dumps(os.fspath(directory / 'root'))}",
        f"state = {json.dumps(os.fspath(directory / 'state'))}",
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
        "[grpc]",
        f"address = {json.dumps(os.fspath(socket))}",
    ]
    with ExitStack() as stack:
        if stargz:
            other = directory / "stargz.sock"
            config += [
                "[proxy_plugins.stargz]",
                'type = "snapshot"',
                f"address = {json.dumps(os.fspath(other))}",
            ]
            daemon = [*before, os.fspath(stargz), os.fspath(directory / "stargz"), os.fspath(other)]
            stack.enter_context(_daemon(daemon, directory / "stargz.log"))
            _wait(other.exists, "the stargz snapshotter")
        if tocsin:
            other = directory / "tocsin.sock"
            config += [
                "[proxy_plugins.tocsin]",
                'type = "snapshot"',
                f"address = {json.dumps(os.fspath(other))}",
            ]
            daemon = [*before, *tocsin, f"--root={directory / 'tocsin'}", f"--address={other}"]
            stack.enter_context(_daemon(daemon, directory / "tocsin.log"))
            _wait(other.exists, "tocsin snapshotter")
        path = directory / "config.toml"
        path.write_text("\n".join([*config, ""]), "utf-8")
        daemon = [*before, "containerd", "-c", os.fspath(path)]
        stack.enter_context(_daemon(daemon, directory / "containerd.log"))
        snapshotter = "stargz" if stargz else "tocsin" if tocsin else "overlayfs"
        found = Containerd(before, socket, snapshotter)
        _wait(lambda: _answers(found), "containerd")
        yield found


def build_stargz(target: Path) -> Path:
    """Build the stargz snapshotter from Debian's sources."""
    if not (_SOURCES / "src/github.com/containerd/stargz-snapshotter").exists():
        raise tools.ToolMissingError(f"not installed: run `apt-get install {_PACKAGE}`")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": os.fspath(_SOURCES), "GOFLAGS": ""}
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [tools.find("go") or "go", "build", "-o", os.fspath(target), "."]
        subprocess.run(command, check=True, cwd=_HERE / "stargz", env=environment)
    return target


def optimize(
    containerd: Containerd, source: str, target: str, command: Sequence[str], *, env: Sequence[str]
) -> None:
    """Convert a pulled image to eStargz, ordered by what `command` reads first, and push it.

    Args:
        containerd: a containerd with overlayfs.
        source: the image, in the registry.
        target: name of the new image, in the same registry.
        command: what is run and watched.
        env: environment variables for it.
    """
    containerd.command("ctr", "image", "pull", "--plain-http", source)
    containerd.command(
        "ctr-remote", "image", "optimize", "--oci", f"--period={_RECORDING}",
        f"--entrypoint={json.dumps([command[0]])}", f"--args={json.dumps(list(command[1:]))}",
        *(f"--env={variable}" for variable in env), source, target,
    )  # fmt: skip
    containerd.command("ctr", "image", "push", "--plain-http", target)


@contextmanager
def _daemon(command: list[str], log: Path) -> Iterator[None]:
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield
        except CommandError:
            print(f"{log.name} ends with:", *_last_lines(log), sep="\n", file=sys.stderr)
            raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _last_lines(log: Path, count: int = 20) -> list[str]:
    return log.read_text("utf-8", "replace").splitlines()[-count:]


def _answers(containerd: Containerd) -> bool:
    try:
        containerd.command("ctr", "snapshot", "--snapshotter", containerd.snapshotter, "ls")
    except CommandError:
        return False
    return True


def _wait(ready: object, what: str) -> None:
    assert callable(ready)
    deadline = time.monotonic() + _START
    while not ready():
        if time.monotonic() > deadline:
            raise CommandError(f"{what} did not start within {_START:.0f} s")
        time.sleep(0.05)
