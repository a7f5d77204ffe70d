"""Programs of others: which Debian package brings each, how to run one, what it calls itself.

Nothing here knows layers or benchmarks. A missing program is always named together with the
package that has it, and only `install` changes the machine.
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

# Program → Debian package; a program that is not listed comes in a package of its own name.
_PACKAGES = {
    "apt-get": "apt",
    "apt-helper": "apt",
    "bgzip": "tabix",
    "dpkg-deb": "dpkg",
    "go": "golang-go",
    "igzip": "isal",
    "libdeflate-gunzip": "libdeflate-tools",
}
# Not on PATH by default: where Go's own archives install it, and apt's inner programs.
_ELSEWHERE = ("/usr/local/go/bin", "/usr/lib/apt", "/usr/sbin")


class ToolMissingError(Exception):
    """A program this needs is not on this machine; the message says what to install."""


def find(program: str) -> str | None:
    """Return the path of `program`, or None when it is not here."""
    folders = (os.environ.get("PATH", os.defpath), *_ELSEWHERE)
    return shutil.which(program, path=os.pathsep.join(folders))


def package(program: str) -> str:
    """Return the Debian package that brings `program`."""
    return _PACKAGES.get(program, program)


def require(programs: Iterable[str]) -> None:
    """Do nothing when all of `programs` are here.

    Raises:
        ToolMissingError: some are not; it names each one and its package.
    """
    missing = sorted(program for program in programs if find(program) is None)
    if missing:
        packages = " ".join(sorted({package(program) for program in missing}))
        raise ToolMissingError(
            f"not on this machine: {', '.join(missing)}; "
            f"`apt-get install {packages}`, or add --install"
        )


def install(programs: Iterable[str]) -> None:
    """Install the packages of those `programs` that are missing, with apt-get (needs root)."""
    packages = sorted({package(program) for program in programs if find(program) is None})
    if packages:
        print(f"installing {' '.join(packages)}", file=sys.stderr)
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def run(program: str, *arguments: str | Path, cwd: Path | None = None) -> None:
    """Run a program to its end, its output going to stderr.

    Raises:
        ToolMissingError: it is not here.
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(
        [_path(program), *arguments], cwd=cwd, check=True, stdin=subprocess.DEVNULL, stdout=2
    )


def output(program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Return what a program prints on stdout; fails as `run` does."""
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
    """Run a program as a filter, from the file `source` into the file `target`."""
    with source.open("rb") as stdin, target.open("wb") as stdout:
        subprocess.run([_path(program), *arguments], check=True, stdin=stdin, stdout=stdout)


@contextmanager
def reading_output(program: str, *arguments: str | Path) -> Iterator[BufferedReader]:
    """Yield what a program prints on stdout, as it comes; fail as `run` does, when it has ended."""
    command = [_path(program), *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield cast("BufferedReader", process.stdout)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)


def version(program: str, *arguments: str) -> str:
    """Return the first line that says anything when `program` is asked for its version."""
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
