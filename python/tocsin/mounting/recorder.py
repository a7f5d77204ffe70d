"""Collects what programs opened and read on a mount, for `AccessLog`."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from tocsin.model.access_log import (
    MAX_FILE_RANGES,
    MAX_FILES,
    MAX_RANGES,
    AccessedFile,
    AccessLog,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.digest import Digest
    from tocsin.model.platform import Platform


class Recorder:
    """Collects opened files and read ranges, in the order of their first use.

    What is beyond the limits of an access log is left out, and `is_full` is set.

    Args:
        image: digest of the image's manifest.
        platform: platform of the image.
    """

    def __init__(self, image: Digest, platform: Platform | None) -> None:
        self._image = image
        self._platform = platform
        self._files: dict[str, tuple[float, list[tuple[int, int]]]] = {}
        self._range_count = 0
        self.is_full = False

    def add(self, entries: Iterable[tuple[float, str, int, int]]) -> None:
        """Add entries of ``_core.Mount.drain_log``: time, path, start and end.

        An entry whose end is its start says that the file was opened.
        """
        for time, path, start, end in entries:
            name = path.lstrip("/")
            found = self._files.get(name)
            if found is None:
                if len(self._files) == MAX_FILES:
                    self.is_full = True
                    continue
                found = self._files[name] = (time, [])
            if start < end:
                self._add_range(found[1], start, end)

    def _add_range(self, ranges: list[tuple[int, int]], start: int, end: int) -> None:
        if ranges and (ranges[-1][0] <= start <= ranges[-1][1]):
            # Most files are read from front to back.
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], end))
        elif any(first <= start and end <= last for first, last in ranges[-MAX_FILE_RANGES:]):
            pass
        elif len(ranges) == MAX_FILE_RANGES:
            # Reads too much rather than too little.
            ranges[-1] = (min(ranges[-1][0], start), max(ranges[-1][1], end))
        elif self._range_count == MAX_RANGES:
            self.is_full = True
        else:
            ranges.append((start, end))
            self._range_count += 1

    def log(self) -> AccessLog:
        """Return the access log."""
        files = tuple(
            AccessedFile(time, path, tuple(ranges)) for path, (time, ranges) in self._files.items()
        )
        return AccessLog(files, self._image, self._platform, f"tocsin {version('tocsin')}")
