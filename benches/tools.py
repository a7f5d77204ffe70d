"""External programs: their Debian packages, how to run them, and their versions.

This module is independent of layers and benchmarks. Errors about missing programs name the package
to install, and only `install` changes the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader
    from pathlib import Path

# Program → Debian package, if the names differ.
_PACKAGES = {
    "apt-get": "apt",
    "apt-helper": "apt",
    "bgzip": "tabix",
    "ctr": "containerd",
    "ctr-remote": "stargz-snapshotter",
    "dpkg-deb": "dpkg",
    "go": "golang-go",
    "igzip": "isal",
    "ip": "iproute2",
    "libdeflate-gunzip": "libdeflate-tools",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
# Not on PATH by default: the Go installation directory and apt's internal programs.
_ELSEWHERE = ("/usr/local/go/bin", "/usr/lib/apt", "/usr/sbin")


class ToolMissingError(Exception):
    """A required program is not installed; the message says what to install."""


def find(program: str) -> str | None:
    """Return the path of `program`, or None if it is not installed."""
    folders = (os.environ.get("PATH", os.defpath), *_ELSEWHERE)
    return shutil.which(program, path=os.pathsep.join(folders))


def package(program: str) -> str:
    """Return the Debian package that contains `program`."""
    return _PACKAGES.get(program, program)


def require(programs: Iterable[str]) -> None:
    """Check that all `programs` are installed.

    Raises:
        ToolMissingError: some are missing; the message names them and their packages.
    """
    missing = sorted(program for program in programs if find(program) is None)
    if missing:
        packages = " ".join(sorted({package(program) for program in missing}))
        raise ToolMissingError(
            f"not installed: {', '.join(missing)}; "
            f"run `apt-get install {packages}` or add --install"
        )


def install(programs: Iterable[str]) -> None:
    """Install the packages of those `programs` that are missing, with apt-get (needs root)."""
    packages = sorted({package(program) for program in programs if find(program) is None})
    if packages:
        print(f"installing {' '.join(packages)}", file=sys.stderr)
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def run(program: str, *arguments: str | Path, cwd: Path | None = None) -> None:
    """Run a program, with its output redirected to stderr.

    Raises:
        ToolMissingError: the program is not installed.
        subprocess.CalledProcessError: the program failed.
    """
    subprocess.run(
        [_path(program), *arguments], cwd=cwd, check=True, stdin=subprocess.DEVNULL, stdout=2
    )


def output(program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Return the stdout of a program. Raises the same errors as `run`."""
    done = subprocess.run(
        [_path(program), *arguments],
        cwd=cwd,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def filter_file(source: Path, target: Path, program: str, *arguments: str | Path) -> None:
    """Run a program as a filter from the file `source` to the file `target`."""
    with source.open("rb") as stdin, target.open("wb") as stdout:
        subprocess.run([_path(program), *arguments], check=True, stdin=stdin, stdout=stdout)


@contextmanager
def reading_output(program: str, *arguments: str | Path) -> Iterator[BufferedReader]:
    """Yield the stdout of a running program. Raises the same errors as `run` once it has ended."""
    command = [_path(program), *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield cast("BufferedReader", process.stdout)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)


def version(program: str, *arguments: str) -> str:
    """Return the first non-empty line of a program's version output."""
    path = find(program)
    if path is None:
        return "missing"
    done = subprocess.run(
        [path, *(arguments or ("--version",))],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "unknown")


def _path(program: str) -> str:
    require([program])
    return str(find(program))
