"""The command line. Each command has one short file; nothing imports this room.

A command only connects: click parses, the library does the work, `Output` writes. Results go to
stdout, messages to stderr. Nothing heavy (numpy, rich, requests) is imported until a command needs
it, so that ``tocsin --help`` starts fast.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `exit_codes`.

    Args:
        arguments: arguments after the program's name; those of the process if ``None``.
    """
    # Objects that imports create stay alive, and repeated garbage collections over them take 5 % of
    # the import time. Commands create few cycles until there are far more objects than this.
    gc.set_threshold(100_000)
    from tocsin.cli.running import run  # noqa: PLC0415 (a signal during imports is handled inside)

    return run(arguments)
