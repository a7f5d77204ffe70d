"""Sending signals to a running ``tocsin`` in the middle of its work."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.cli_process import TIMEOUT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, or fail the test."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the command did not start working"
        time.sleep(0.01)


def stopped(process: subprocess.Popen[bytes], number: int) -> tuple[int, str]:
    """Send a signal; return the exit code of the process and its stderr."""
    process.send_signal(number)
    _, words = process.communicate(timeout=TIMEOUT)
    return process.returncode, words.decode()


def at_work(process: subprocess.Popen[bytes], seconds: float = 0.5) -> None:
    """Wait until a process has used enough CPU time to be in the middle of a layer."""

    def used() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    until = used() + seconds
    wait_for(lambda: process.poll() is not None or used() > until)
    assert process.poll() is None
