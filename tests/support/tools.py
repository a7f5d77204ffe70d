"""Programs of other projects; where one is missing, tests that need it are skipped by its name.

CI sets ``TOCSIN_REQUIRE_TOOLS``: there such a test fails, so that nothing goes untested unseen.
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
    """Skip the test that asks, or fail it where everything must be there."""
    if os.environ.get("TOCSIN_REQUIRE_TOOLS"):
        pytest.fail(f"{what}, and TOCSIN_REQUIRE_TOOLS is set", pytrace=False)
    pytest.skip(what)


def tool(name: str, *always: str) -> Callable[..., str]:
    """Return a function that runs a program, its failure a failed test, and gives its output.

    Args:
        name: of the program.
        always: arguments that come first every time.
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
