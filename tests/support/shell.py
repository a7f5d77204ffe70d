"""Long stories of commands, told as they run; ``TOCSIN_SLOW=1 pytest -s`` shows the long ones."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.cli_process import environment

PATIENCE = 900
SLOW = pytest.mark.skipif(not os.environ.get("TOCSIN_SLOW"), reason="TOCSIN_SLOW is not set")


@dataclass
class Shell:
    """Runs commands as a person would, and tells what was said."""

    home: Path

    def __call__(self, *command: object, stdin: str = "", tells: bool = True) -> str:
        """Run a command, which must end well, and return what it wrote to stdout."""
        name, *arguments = map(str, command)
        print(f"\n$ {shlex.join([Path(name).name, *arguments])}")  # noqa: T201 (for pytest -s)
        started = time.monotonic()
        done = subprocess.run(  # noqa: S603 (tools of the test machine)
            [name, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment(HOME=str(self.home), COLUMNS="100"),
            timeout=PATIENCE,
            check=False,
        )
        print(done.stdout if tells else "", done.stderr, sep="", end="")  # noqa: T201
        print(f"[exit {done.returncode}, {time.monotonic() - started:.1f} s]")  # noqa: T201
        assert done.returncode == 0, done.stderr
        return done.stdout
