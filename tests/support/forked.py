"""Running a check in a forked child."""

import os
import traceback
from collections.abc import Callable


def forked(check: Callable[[], bool]) -> int:
    """Fork, and return the number of a child that ends with exit code 0 if `check` returns true.

    The child ends even if the check fails; otherwise it would go on as a second test runner.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = 0 if check() else 9
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    """Wait for a child, and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
