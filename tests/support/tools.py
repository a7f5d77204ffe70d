"""Programs of other projects; tests that need a missing program are skipped.

CI sets ``TOCSIN_REQUIRE_TOOLS``, which makes such tests fail instead, so that no skipped test
goes unnoticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def missing(what: str) -> NoReturn:
    """Skip the current test, or fail it if all tools are required."""
    if os.environ.get("TOCSIN_REQUIRE_TOOLS"):
        pytest.fail(f"{what}, and TOCSIN_REQUIRE_TOOLS is set", pytrace=False)
    pytest.skip(what)


def tool(name: str, *always: str) -> Callable[..., str]:
    """Return a function that runs a program and returns its output, or fails the test.

    Args:
        name: name of the program.
        always: arguments that precede all others.
    """
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")

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
