"""Mounts an image only to run one program of it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.mounting import container, process

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tocsin.model.events import Progress
    from tocsin.model.run_config import RunConfig
    from tocsin.mounting.child_signals import TimeLimit
    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.reports import Ready, Report


def run(
    options: MountOptions,
    config_of: Callable[[dict[str, Any]], RunConfig],
    report: Report,
    *,
    started: Callable[[Ready], None],
    progress: Progress | None = None,
    log: Path | None = None,
    read_only: bool = False,
    time_limit: TimeLimit | None = None,
) -> int:
    """Mount an image, run a program in it, unmount it, and return the program's exit code.

    This process must have only one thread.

    Args:
        options: options of the mount.
        config_of: returns what to run for the image's config.
        report: receives notes.
        started: called when the mount is ready, before the program is started.
        progress: receives events while layers are read.
        log: file to which the mount's process appends its messages.
        read_only: whether the program cannot change files.
        time_limit: when the program is stopped; ``None`` for never.

    Raises:
        TocsinError, OSError: the image cannot be mounted, or nothing can be run in it.
    """
    base = Path(tempfile.mkdtemp(prefix="tocsin-run-"))
    image, scratch = base / "image", base / "scratch"
    lifeline = os.pipe()
    ready = None
    try:
        for directory in (image, scratch):
            directory.mkdir()
        ready = process.fork(
            options,
            str(image),
            report,
            progress=progress,
            log=log,
            lifeline=lifeline,
            temporary=(image, scratch, base),
            with_config=True,
        )
        started(ready)
        place = container.Place(str(image), str(scratch))
        config = config_of(ready.config or {})
        return container.run(
            place,
            config,
            report,
            lifeline=lifeline[1],
            read_only=read_only,
            time_limit=time_limit,
        )
    finally:
        # Its end lets the mount's process end, even if this process is killed.
        for end in lifeline:
            os.close(end)
        if ready is not None:
            with suppress(ChildProcessError):
                os.waitpid(ready.pid, 0)
        for directory in (image, scratch, base):
            with suppress(OSError):
                directory.rmdir()
