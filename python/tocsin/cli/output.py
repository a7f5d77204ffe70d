"""What a command writes: results to stdout, problems and remarks to stderr.

In a pipe there are no remarks: what is on stderr is a problem, a line each.
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
        title: its heading.
        justify: numbers stand to the right.
        wraps: the text may take several lines when the terminal is narrow.
    """

    title: str
    justify: Literal["left", "right"] = "left"
    wraps: bool = False


class Output:
    """Where a command writes.

    Attributes:
        json: whether the result is to be one JSON document.
        quiet: whether remarks and warnings are left out; errors are written all the same.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._said: set[str] = set()

    def line(self, text: str = "") -> None:
        """Write a line of the result."""
        streams.write_text(f"{text}\n")

    def heading(self, text: str) -> None:
        """Write a line of the result that stands above others."""
        self.line(streams.styled(printable(text), "1", sys.stdout))

    def document(self, value: Any) -> None:  # noqa: ANN401 (any JSON)
        """Write the result as JSON; ASCII only, so that names that are no UTF-8 survive."""
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
        """Write what is known of one thing, a line a fact."""
        width = max(map(len, facts))
        for name, value in facts.items():
            shown = streams.styled(printable(name).ljust(width), "1", sys.stdout)
            self.line(f"{shown}  {printable(value)}".rstrip())

    def note(self, text: str) -> None:
        """Write a remark for a person: only to a terminal, and unless asked to be quiet."""
        if not self.quiet and streams.is_watched(sys.stderr):
            self._said.add(text)
            streams.say(printable(text))

    def warn(self, text: str) -> None:
        """Write a problem on one line, unless asked to be quiet, or it was said already."""
        if not self.quiet and text not in self._said:
            streams.say(f"{streams.styled('warning:', '1;33', sys.stderr)} {printable(text)}")
        self._said.add(text)

    @contextmanager
    def log_shown(self) -> Iterator[None]:
        """Show the warnings that are logged meanwhile, at the end, where no bar is drawn over."""
        kept = _Warnings()
        LOG.addHandler(kept)
        try:
            yield
        finally:
            LOG.removeHandler(kept)
            for text in kept.texts:
                self.warn(text)


class _Warnings(logging.Handler):
    """Keeps the warnings that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
