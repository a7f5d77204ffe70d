"""Shows progress: bars on a terminal, lines on a dumb terminal, nothing in a pipe."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, Self

from tocsin.cli import streams, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.progress import Progress as Bars
    from rich.progress import Task, TaskID
    from rich.text import Text

    from tocsin.cli.output import Output
    from tocsin.model.events import Event, LayerFinished, Progress

_NAME_LEN = len("sha256:") + words.SHORT_LEN
_FIGURES_LEN = 18 + 1 + 12 + 1 + 7
_OTHER_COLUMNS = _NAME_LEN + 1 + 1 + _FIGURES_LEN + 4
_BAR_MIN, _BAR_MAX = 8, 40


class Display(AbstractContextManager["Display"], Protocol):
    """Shows progress while layers are read; calls from several threads never overlap."""

    def plan(self, layer_count: int, byte_count: int) -> None:
        """Set the number of layers to read, and their total size."""

    def start(self, name: str, byte_count: int | None) -> None:
        """Show that reading a layer starts; ``None`` if its size is unknown."""

    def move(self, name: str, done: int) -> None:
        """Show that the first `done` bytes of a layer have been read."""

    def finish(self, name: str, line: str) -> None:
        """Show that a layer is finished, with a line about its result."""


def display_for(output: Output) -> Display:
    """Return the display that suits stderr."""
    if output.quiet or not streams.is_watched(sys.stderr):
        return _Silence()
    # The lines that --debug prints would overwrite the bars.
    drawn = streams.is_terminal(sys.stderr) and not os.environ.get("TOCSIN_DEBUG")
    return _Bars() if drawn else _Lines()


def ztoc_line(size: int, span_count: int, seconds: float | None) -> str:
    """Return ``zTOC 1.2 MiB, 34 spans, 1.2 s``; `seconds` is ``None`` for a reused zTOC."""
    return f"zTOC {words.size(size)}, {words.count(span_count, 'span')}, {_time(seconds)}"


def seek_blob_line(size: int, seconds: float | None) -> str:
    """Return ``seek blob 94.3 KiB, 1.2 s``; `seconds` is ``None`` for a reused blob."""
    return f"seek blob {words.size(size)}, {_time(seconds)}"


def _time(seconds: float | None) -> str:
    return "reused" if seconds is None else words.duration(seconds)


def shown_on(
    display: Display, *, name: str = "", line: Callable[[LayerFinished], str] | None = None
) -> Progress:
    """Return a progress callback that shows events on a display.

    Args:
        display: need not be entered yet.
        name: name of the bar if the operation has a single total.
        line: returns the line to show for a finished layer.
    """
    from tocsin.model.events import (  # noqa: PLC0415 (--help needs none of these)
        Advanced,
        LayerAdvanced,
        LayerFinished,
        LayerStarted,
        Planned,
    )

    def show(event: Event) -> None:
        match event:
            case Planned(layers):
                display.plan(len(layers), sum(layer.size for layer in layers))
            case LayerStarted(layer):
                display.start(words.short_digest(layer.digest), layer.size)
            case LayerAdvanced(layer, done):
                display.move(words.short_digest(layer.digest), done)
            case LayerFinished(layer):
                text = "" if line is None else line(event)
                display.finish(words.short_digest(layer.digest), text)
            case Advanced(done, total):
                if not started:
                    started.append(name)
                    display.start(name, total)
                display.move(name, done)

    started: list[str] = []
    return show


class _Silence:
    """Shows nothing."""

    def plan(self, layer_count: int, byte_count: int) -> None:
        pass

    def start(self, name: str, byte_count: int | None) -> None:
        pass

    def move(self, name: str, done: int) -> None:
        pass

    def finish(self, name: str, line: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        pass


class _Lines(_Silence):
    """Shows a line for each finished layer."""

    def finish(self, name: str, line: str) -> None:
        if line:
            streams.write_message(words.printable(line))


class _Bars(_Silence):
    """Shows a bar for the total and one for each layer being read, and clears them at the end."""

    def __init__(self) -> None:
        self._bars = _new_bars()
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._finished_count = 0
        self._layer_count = 0
        self._total: TaskID | None = None

    def plan(self, layer_count: int, byte_count: int) -> None:
        self._layer_count = layer_count
        if layer_count > 1:
            self._total = self._bars.add_task(self._total_name(), total=byte_count)

    def start(self, name: str, byte_count: int | None) -> None:
        self._tasks[name] = self._bars.add_task(name, total=byte_count)

    def move(self, name: str, done: int) -> None:
        self._bars.update(self._tasks[name], completed=done)
        self._done[name] = done
        if self._total is not None:
            self._bars.update(self._total, completed=sum(self._done.values()))

    def finish(self, name: str, line: str) -> None:
        task = self._tasks.pop(name, None)
        if task is None:  # skipped without being read
            return
        self._bars.remove_task(task)
        self._finished_count += 1
        if self._total is not None:
            self._bars.update(self._total, description=self._total_name())

    def _total_name(self) -> str:
        return f"{self._finished_count} of {words.count(self._layer_count, 'layer')}"

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self._bars.stop()


def _new_bars() -> Bars:
    from rich.console import Console  # noqa: PLC0415 (only on a terminal)
    from rich.progress import Progress, ProgressColumn, TextColumn  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(
        file=sys.stderr,
        force_terminal=True,
        no_color=not streams.has_style(sys.stderr),
        highlight=False,
        legacy_windows=False,
    )

    class Bar(ProgressColumn):
        """A bar that leaves some columns free: else the ``^C`` that a terminal echoes wraps."""

        max_refresh = None

        def render(self, task: Task) -> ProgressBar:
            return ProgressBar(
                total=task.total,
                completed=task.completed,
                width=max(_BAR_MIN, min(_BAR_MAX, console.width - _OTHER_COLUMNS)),
                pulse=task.total is None,
                animation_time=task.get_time(),
            )

    class Figures(ProgressColumn):
        """Bytes done and in total, rate, remaining time."""

        def render(self, task: Task) -> Text:
            return Text(_figures(task), no_wrap=True)

    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(width=_NAME_LEN)),
        Bar(),
        Figures(table_column=Column(min_width=_FIGURES_LEN, no_wrap=True)),
        console=console,
        transient=True,
    )


def _figures(task: Task) -> str:
    done = int(task.completed)
    of = words.size(done) if task.total is None else _done_of(done, int(task.total))
    speed = task.finished_speed or task.speed
    rate = f"{words.size(int(speed))}/s" if speed else ""
    return f"{of:>18} {rate:>12} {_left(task):>7}"


def _done_of(done: int, total: int) -> str:
    """Return ``50.2/81.2 MiB``, with both numbers in the unit of the total."""
    total_text = words.size(total)
    value, unit = total_text.split()
    if unit == "B":
        return f"{done}/{total_text}"
    return f"{done / total * float(value):.1f}/{total_text}"


def _left(task: Task) -> str:
    if task.total is None or task.time_remaining is None:
        return ""
    minutes, seconds = divmod(round(task.time_remaining), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
