"""Programs of other projects; where one is missing, tests that need it are skipped by its name."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def tool(name: str, *always: str) -> Callable[..., str]:
    """Return a function that runs a program, its failure a failed test, and gives its output.

    Args:
        name: of the program.
        always: arguments that come first every time.
    """
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")

    def run(*args: object) -> str:
        done = subprocess.run(  # noqa: S603 (a tool of the test machine)
            [path, *always, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
