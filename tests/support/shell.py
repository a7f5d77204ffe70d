"""Long stories of commands, told as they run; ``TOCSIN_SLOW=1 pytest -s`` shows the long ones."""

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
TELLS_ALL = bool(os.environ.get("TOCSIN_SLOW"))
"""Then ``tocsin`` too is a program, whose time counts; otherwise it is run in this process."""
SLOW = pytest.mark.skipif(not TELLS_ALL, reason="TOCSIN_SLOW is not set")


@dataclass
class Shell:
    """Runs commands as a person would, and tells what was said."""

    home: Path

    def __call__(self, *command: object, stdin: str = "", tells: bool = True) -> str:
        """Run a command, which must end well, and return what it wrote to stdout."""
        name, *arguments = map(str, command)
        print(f"\n$ {shlex.join([Path(name).name, *arguments])}")  # noqa: T201 (for pytest -s)
        started = time.monotonic()
        home, data = str(self.home), stdin.encode()
        done = (
            tocsin(*arguments, stdin=data, HOME=home, COLUMNS="100")
            if name == TOCSIN and not TELLS_ALL
            else subprocess.run(  # noqa: S603 (tools of the test machine)
                [name, *arguments],
                input=data,
                capture_output=True,
                env=environment(HOME=home, COLUMNS="100"),
                timeout=PATIENCE,
                check=False,
            )
        )
        out, words = done.stdout.decode(), done.stderr.decode()
        print(out if tells else "", words, sep="", end="")  # noqa: T201
        print(f"[exit {done.returncode}, {time.monotonic() - started:.1f} s]")  # noqa: T201
        assert done.returncode == 0, words
        return out
