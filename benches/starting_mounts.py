"""``tocsin mount`` in `starting`: mounts in directories of their own, and containers on them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import isolation
from containerd import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT = 600
PROGRAMS = ("runc",)
# The console script that pip installs: what users start.
COMMAND = shlex.quote(os.fspath(Path(sys.executable).with_name("tocsin")))


class Mount:
    """A place for one mount at a time: its cache, its overlay, and containers on it."""

    def __init__(
        self, place: Path, before: Sequence[str], command: str, env: Sequence[str]
    ) -> None:
        """Make the directories.

        Args:
            place: an empty directory.
            before: command prefix that runs a program at the client's end of the link.
            command: the tocsin command.
            env: environment variables for containers.
        """
        self.cache = place / "cache"
        self.directory = place / "mount"
        self._bundle = place / "bundle"
        self._root = self._bundle / "rootfs"
        self._state = place / "runc"
        self._upper, self._work = place / "upper", place / "work"
        self._before = [*before, *shlex.split(command)]
        runtime = place / "runtime"
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": os.fspath(runtime)}
        for folder in (self.directory, self._root, self._upper, self._work, runtime):
            folder.mkdir(parents=True, exist_ok=True)
        runtime.chmod(0o700)
        _run(["runc", "spec", "-b", os.fspath(self._bundle)])
        self._spec = json.loads((self._bundle / "config.json").read_text("utf-8"))
        self._spec["root"]["readonly"] = False
        self._spec["process"] |= {"terminal": False, "env": list(env)}
        self._containers = 0

    def tocsin(self, *arguments: str) -> str:
        """Run a tocsin command at the client's end, and return its output."""
        command = [*self._before, *arguments]
        return _run(command, self.environment, name=f"tocsin {arguments[0]}")

    def mount(self, reference: str, *options: str) -> None:
        """Mount an image; return when the mount is ready."""
        cache = ("--cache-dir", os.fspath(self.cache), "--plain-http")
        self.tocsin("mount", reference, os.fspath(self.directory), *cache, *options)

    def status(self) -> dict[str, Any]:
        """Return what ``tocsin status`` reports about the mount."""
        found = json.loads(self.tocsin("status", os.fspath(self.directory), "--json"))
        assert isinstance(found, dict)
        return found

    def unmount(self) -> None:
        """Unmount the overlay and the image."""
        self.remove_overlay()
        self.tocsin("umount", os.fspath(self.directory))

    def add_overlay(self) -> Path:
        """Mount overlayfs on the image, as container runtimes do, and return it."""
        options = f"lowerdir={self.directory},upperdir={self._upper},workdir={self._work}"
        _run(["mount", "-t", "overlay", "overlay", "-o", options, os.fspath(self._root)])
        return self._root

    def remove_overlay(self) -> None:
        """Unmount the overlay if there is one."""
        isolation.unmount_below(self._bundle)

    def run(self, command: Sequence[str]) -> str:
        """Run a command in a container on the overlay, and return its output."""
        self._containers += 1
        self._spec["process"]["args"] = list(command)
        (self._bundle / "config.json").write_text(json.dumps(self._spec), "utf-8")
        name = f"measured-{os.getpid()}-{self._containers}"
        runc = ["runc", "--root", os.fspath(self._state)]
        return _run([*runc, "run", "-b", os.fspath(self._bundle), name])


def _run(
    command: Sequence[str], environment: dict[str, str] | None = None, *, name: str | None = None
) -> str:
    """Run a command, and return its output; `name` is what errors call it.

    What it writes goes to a file: daemons that it starts may keep a pipe open.

    Raises:
        CommandError: it failed, or took too long.
    """
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        try:
            done = subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                env=environment, timeout=_TIMEOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{name or command[0]}: took more than {_TIMEOUT} s") from error
        stdout.seek(0)
        stderr.seek(0)
        if done.returncode != 0:
            said = stderr.read().decode("utf-8", "replace").strip().splitlines()
            raise CommandError(f"{name or command[0]}: {' '.join(said[:2])}")
        return stdout.read().decode("utf-8", "replace")
