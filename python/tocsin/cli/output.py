"""Writes the output of commands: results to stdout, warnings and notes to stderr.

Notes are written only if stderr is a terminal. In a pipe, each line of stderr is a problem.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tocsin.cli import streams
from tocsin.cli.words import printable
from tocsin.log import LOG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: heading of the column.
        justify: alignment; numbers are aligned to the right.
        wraps: whether the text is wrapped, not truncated, if the terminal is narrow.
    """

    title: str
    justify: Literal["left", "right"] = "left"
    wraps: bool = False


class Output:
    """Output of a command.

    Attributes:
        json: whether the result is one JSON document.
        quiet: whether notes and warnings are hidden; errors never are.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._written: set[str] = set()

    def line(self, text: str = "") -> None:
        """Write a line of the result."""
        streams.write_text(f"{text}\n")

    def heading(self, text: str) -> None:
        """Write a line of the result as a heading."""
        self.line(streams.styled(printable(text), "1", sys.stdout))

    def document(self, value: Any) -> None:  # noqa: ANN401 (any JSON)
        """Write the result as JSON; only ASCII, to preserve names that are not UTF-8."""
        self.line(json.dumps(value, indent=2))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Write a table, at most as wide as the terminal (in a pipe: ``COLUMNS``, else 80)."""
        from rich.console import Console  # noqa: PLC0415 (not needed for --json and --help)
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(
                Text(column.title),
                justify=column.justify,
                no_wrap=not column.wraps,
                overflow="fold" if column.wraps else "ellipsis",
            )
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        console = Console(
            file=io.StringIO(),
            force_terminal=streams.has_style(sys.stdout),
            color_system="standard" if streams.has_style(sys.stdout) else None,
            legacy_windows=False,
        )
        with console.capture() as capture:
            console.print(table)
        for line in streams.lines(capture.get()):
            self.line(line)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Write names and values, one pair per line."""
        width = max(map(len, facts))
        for name, value in facts.items():
            shown = streams.styled(printable(name).ljust(width), "1", sys.stdout)
            self.line(f"{shown}  {printable(value)}".rstrip())

    def note(self, text: str) -> None:
        """Write a note to stderr, if that is a terminal, unless `quiet`."""
        if not self.quiet and streams.is_watched(sys.stderr):
            self._written.add(text)
            streams.write_message(printable(text))

    def warn(self, text: str) -> None:
        """Write a warning to stderr, each text once, unless `quiet`."""
        if not self.quiet and text not in self._written:
            prefix = streams.styled("warning:", "1;33", sys.stderr)
            streams.write_message(f"{prefix} {printable(text)}")
        self._written.add(text)

    @contextmanager
    def log_shown_at_once(self, level: int) -> Iterator[None]:
        """Print logged messages when they are logged, for programs that run until they are stopped.

        Args:
            level: least severity, as in `logging`.
        """
        before, others = LOG.level, LOG.handlers[:]
        LOG.setLevel(level)
        LOG.handlers[:] = [_Stderr(level)]  # the collected warnings would grow without limit
        try:
            yield
        finally:
            LOG.setLevel(before)
            LOG.handlers[:] = others

    @contextmanager
    def log_shown(self) -> Iterator[None]:
        """Collect logged warnings and print them at the end, where no bar overwrites them."""
        collected = _Warnings()
        LOG.addHandler(collected)
        try:
            yield
        finally:
            LOG.removeHandler(collected)
            for text in collected.texts:
                self.warn(text)


class _Stderr(logging.Handler):
    """Prints what is logged, one line for each message."""

    def emit(self, record: logging.LogRecord) -> None:
        streams.write_message(f"{record.levelname.lower()}: {printable(record.getMessage())}")


class _Warnings(logging.Handler):
    """Collects the warnings that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
