"""Makes an access log from the reads of a mounted image, in bounded memory.

Source: docs/access-log.md#what-is-recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.model.access_log import MAX_FILES, AccessedFile, AccessLog, files_that_fit
from tocsin.model.accessed_ranges import AccessedRanges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.digest import Digest
    from tocsin.model.platform import Platform


class AccessRecorder:
    """Collects what is opened and read.

    Once a limit of the format is reached, files that were not used before are no longer recorded.

    Attributes:
        is_full: whether files are missing in the log because of a limit.
    """

    def __init__(self) -> None:
        self.is_full = False
        self._files: dict[str, _RecordedFile] = {}

    def add(self, accesses: Iterable[tuple[float, str, int, int]]) -> None:
        """Add accesses in the order in which they happened.

        Args:
            accesses: each is the seconds since the mount, a path, and the start and end of what
                was read; both are equal if the file was only opened.
        """
        for time, name, start, end in accesses:
            path = name.lstrip("/")
            file = self._files.get(path)
            if file is None:
                if len(self._files) == MAX_FILES:
                    self.is_full = True
                    continue
                file = self._files[path] = _RecordedFile(time)
            if start < end:
                file.ranges.add(start, end)

    def log(
        self, *, image: Digest | None = None, platform: Platform | None = None, tool: str = ""
    ) -> AccessLog:
        """Return the log of all accesses so far."""
        used = (
            AccessedFile(file.time, path, file.ranges.in_order())
            for path, file in self._files.items()
        )
        files = files_that_fit(used)
        self.is_full = self.is_full or len(files) < len(self._files)
        return AccessLog(files, image, platform, tool)


class _RecordedFile:
    """The time of first use and the ranges of one file."""

    __slots__ = ("ranges", "time")

    def __init__(self, time: float) -> None:
        self.time = round(time, 6)
        self.ranges = AccessedRanges()
