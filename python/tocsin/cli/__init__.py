"""The command line. One short file a command; nothing imports this room.

A command is a sentence: click parses, the library works, `Output` writes. Results go to stdout,
words to stderr. Nothing heavy (numpy, rich, requests) is imported until a command needs it, so that
``tocsin --help`` is there at once.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `exit_codes`.

    Args:
        arguments: after the program's name; those of the process if ``None``.
    """
    # What imports make stays: looking for garbage in it again and again is a twentieth of their
    # time. A command makes no cycles worth looking for before there are far more objects than that.
    gc.set_threshold(100_000)
    from tocsin.cli.running import run  # noqa: PLC0415 (a signal during imports is handled inside)

    return run(arguments)
