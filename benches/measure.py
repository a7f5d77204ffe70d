"""Measuring child processes, and recording the figures."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_RECORD = Path(__file__).resolve().parent / "record"
_CPUS = sorted(os.sched_getaffinity(0))  # before anything is pinned


class CommandFailedError(Exception):
    """A measured command failed; the message is the last line that it wrote to stderr."""


@dataclass(frozen=True)
class Cost:
    """The resources that one process used, including children that it waited for.

    Attributes:
        user: CPU seconds in user mode.
        system: CPU seconds in kernel mode.
        wall: wall-clock seconds, including starting the process.
        peak: peak resident set size in bytes. Linux includes the launcher's pages until exec, so
            values below `floor()` cannot be distinguished.
    """

    user: float
    system: float
    wall: float
    peak: int

    @property
    def cpu(self) -> float:
        """CPU seconds, user and system."""
        return self.user + self.system


def run(command: Sequence[str]) -> Cost:
    """Run `command` without input, discard its output, and return its cost.

    The command runs on the CPUs that this process is pinned to (`pin`).

    Raises:
        CommandFailedError: the command could not be started, or its exit status is not 0.
    """
    with tempfile.TemporaryFile() as stderr:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
            )
        except OSError as error:
            raise CommandFailedError(str(error)) from error
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            stderr.seek(0)
            lines = stderr.read().decode("utf-8", "replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
            raise CommandFailedError(f"exit status {process.returncode}: {said}")
    return Cost(usage.ru_utime, usage.ru_stime, wall, usage.ru_maxrss * 1024)


def pin(count: int) -> None:
    """Pin this process and its children to `count` CPUs, the last ones available.

    The first CPU is avoided if possible, since it handles most interrupts.
    """
    if count > len(_CPUS):
        raise SystemExit(f"not enough CPUs (found {len(_CPUS)}, expected {count})")
    os.sched_setaffinity(0, _CPUS[-count:])


def floor() -> int:
    """Return the peak reported for an empty program, in bytes (see `Cost.peak`)."""
    return run(["true"]).peak


def machine() -> dict[str, str]:
    """Return the CPU, the kernel and the Python version."""
    fields = dict(re.findall(r"^([^\t\n]+)\t+: (.*)$", Path("/proc/cpuinfo").read_text(), re.M))
    return {
        "cpu": fields.get("model name", platform.machine()),
        "cpu family and model": f"{fields.get('cpu family', '?')}, {fields.get('model', '?')}",
        "cpus": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def record(name: str, figures: dict[str, Any], report: str, *, folder: Path | None = None) -> Path:
    """Write `name`.json and `name`.md to the record of this day and CPU, or to `folder`.

    Returns:
        The folder.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    cpu = re.sub(r"[^a-z0-9]+", "-", machine()["cpu"].lower()).strip("-")
    folder = folder or _RECORD / f"{today}-{cpu}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    (folder / f"{name}.md").write_text(report, "utf-8")
    return folder
