"""Runs and echoes sequences of commands; ``TOCSIN_SLOW=1 pytest -s`` includes the slow ones."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.cli_in_process import tocsin
from support.cli_process import TOCSIN, environment

PATIENCE = 900
SLOW_ENABLED = bool(os.environ.get("TOCSIN_SLOW"))
"""Whether ``tocsin`` runs as a process, for realistic times, instead of in the test process."""
SLOW = pytest.mark.skipif(not SLOW_ENABLED, reason="TOCSIN_SLOW is not set")


@dataclass
class Shell:
    """Runs commands as a user would, and echoes their output."""

    home: Path

    def __call__(self, *command: object, stdin: str = "", echo: bool = True) -> str:
        """Run a command, which must succeed, and return its stdout."""
        name, *arguments = map(str, command)
        print(f"\n$ {shlex.join([Path(name).name, *arguments])}")  # noqa: T201 (for pytest -s)
        started = time.monotonic()
        home, data = str(self.home), stdin.encode()
        done = (
            tocsin(*arguments, stdin=data, HOME=home, COLUMNS="100")
            if name == TOCSIN and not SLOW_ENABLED
            else subprocess.run(  # noqa: S603 (tools of the test machine)
                [name, *arguments],
                input=data,
                capture_output=True,
                env=environment(HOME=home, COLUMNS="100"),
                timeout=PATIENCE,
                check=False,
            )
        )
        out, messages = done.stdout.decode(), done.stderr.decode()
        print(out if echo else "", messages, sep="", end="")  # noqa: T201
        print(f"[exit {done.returncode}, {time.monotonic() - started:.1f} s]")  # noqa: T201
        assert done.returncode == 0, messages
        return out
