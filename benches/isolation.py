"""Running a benchmark in namespaces of its own, so that it leaves no mount and no process behind.

Container runtimes detach their processes and mount file systems. In a process namespace of its own
all of them end with the benchmark, however it ends; in a mount namespace its mounts do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSIDE = "TOCSIN_BENCH_ISOLATED"
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# The first process of the namespace waits for the orphans of all others, which no Python does.
# Names of network namespaces are files in a directory, so that is private too.
_FIRST = (
    "sh",
    "-c",
    'mkdir -p /run/netns && mount -t tmpfs netns /run/netns && "$@"; exit $?',
    "sh",
)


def enter() -> None:
    """Run this program again in namespaces of its own, unless it is in them (needs root)."""
    if os.environ.get(_INSIDE):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return
    os.environ[_INSIDE] = "1"
    os.execvp(_UNSHARE[0], [*_UNSHARE, *_FIRST, sys.executable, *sys.argv])  # noqa: S606 (no shell is wanted)


def unmount_below(directory: Path) -> None:
    """Unmount everything below `directory`, the deepest first, even what is in use."""
    prefix = f"{directory.resolve()}/"
    lines = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    for line in reversed(lines):
        place = line.split(" ")[1].encode().decode("unicode_escape")
        if place.startswith(prefix):
            subprocess.run(["umount", "-l", place], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """Make an empty directory; unmount what is below it and remove it in the end."""
    unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        unmount_below(directory)
        shutil.rmtree(directory, ignore_errors=True)


def process_with(text: str) -> int:
    """Return the ID of the process with `text` as a word of its command line; 0 if none has it."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended
        if os.fsencode(text) in words and int(place.parent.name) != os.getpid():
            return int(place.parent.name)
    return 0
