r"""Access logs: the files of an image that a program opened and read, in order, with times.

A log is JSON Lines: a header, then one line per file in the order of first use. A log is a hint for
prefetching. It may have been recorded on another image, and anyone may have written it, so its size
is limited and no path in it is trusted.

Source: docs/access-log.md#format.
"""

from __future__ import annotations

import errno
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from tocsin.errors import FormatError, TocsinError, UnsupportedError
from tocsin.model.accessed_ranges import MAX_FILE_RANGES, AccessedRanges
from tocsin.model.digest import Digest
from tocsin.model.document import Document, text_of
from tocsin.model.entry_path import StrPath, path_text
from tocsin.model.fields import Fields
from tocsin.model.go_json import decode_object, kind_of
from tocsin.model.platform import Platform
from tocsin.quoting import quoted, shown
from tocsin.regular_file import read_regular
from tocsin.staged_file import StagedFile, placed, remove_abandoned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

FORMAT = "tocsin-access-log"
VERSION = 1

MAX_SIZE = 64 << 20
"""Maximum size of a log in bytes; a log of 200,000 files has about 20 MiB."""
MAX_FILES = 500_000
"""Maximum files in a log, which together take about 100 MiB of memory."""
MAX_RANGES = 1_000_000
"""Maximum ranges in a log, which together take about 100 MiB of memory."""
MAX_PATH_SIZE = 4096
"""Maximum size of a path in bytes, as in Linux."""

_WHAT = "access log"
_Value = TypeVar("_Value")
_MAX_OFFSET = (1 << 63) - 1
_MAX_HEADER_SIZE = 64 << 10
"""Maximum size in bytes of a header that tocsin writes."""
_MAX_LINE_SIZE = 128 << 10
"""Maximum size of a line in bytes: a path and all ranges of one file, with escapes, fit twice."""


@dataclass(frozen=True, slots=True)
class AccessedFile:
    """A file that was opened or read.

    Attributes:
        time: seconds from the mount to the first use of the file.
        path: path in the image, without a leading slash; bytes that are not UTF-8 are lone
            surrogates.
        ranges: what was read, as half-open ranges of bytes in the order of their first use;
            empty if the file was only opened.
    """

    time: float
    path: str
    ranges: tuple[tuple[int, int], ...] = ()

    def to_dict(self) -> Document:
        """Return the document of the file, which is its line in a log."""
        return {
            "time": round(self.time, 6),
            "path": self.path,
            "ranges": [list(each) for each in self.ranges],
        }


@dataclass(frozen=True, slots=True)
class AccessLog:
    """The files of an image that a program opened and read, in order, with times.

    ``tocsin mount --record`` writes such a log, and ``--access-log`` prefetches what it lists.

    Attributes:
        files: the files in the order of their first use.
        image: digest of the image's manifest; ``None`` if unknown.
        platform: platform of the image; ``None`` if unknown.
        tool: name and version of the program that recorded the log.
    """

    files: tuple[AccessedFile, ...] = ()
    image: Digest | None = None
    platform: Platform | None = None
    tool: str = ""

    @property
    def reads(self) -> tuple[tuple[str, int, int], ...]:
        """The ranges of all files in order, each as path, start and end."""
        return tuple((file.path, *each) for file in self.files for each in file.ranges)

    def within(self, size_of: Callable[[str], int | None]) -> AccessLog:
        """Return the part of the log that exists in an image, which may be another one.

        Args:
            size_of: returns the size of the regular file at a path; ``None`` if the path does not
                exist or has another type.

        Returns:
            A log without the other files, and with ranges cut at the end of each file.
        """
        found = []
        for file in self.files:
            size = size_of(file.path)
            if size is not None:
                cut = ((start, min(end, size)) for start, end in file.ranges if start < size)
                found.append(AccessedFile(file.time, file.path, tuple(cut)))
        return AccessLog(tuple(found), self.image, self.platform, self.tool)

    @classmethod
    def merged(cls, logs: Iterable[AccessLog]) -> Self:
        """Return one log of several runs, in the order of first use over all of them.

        The time of a file is the earliest in any log, and files are sorted by it. Within one log,
        the order decides: a file is at least as late as those before it. Ranges are joined as if
        the runs had happened one after the other. Logs that were merged before change nothing.

        The limits of the format hold: after the last file that fits, nothing is added. Image and
        platform are kept if all logs agree on them.

        Source: docs/access-log.md#merging-logs.
        """
        found: dict[str, _MergedFile] = {}
        images, platforms, tool = set(), set(), ""
        for log in logs:
            images.add(log.image)
            platforms.add(log.platform)
            tool = log.tool or tool
            time = 0.0
            for file in log.files:
                time = max(time, file.time)
                merged = found.setdefault(file.path, _MergedFile(time))
                merged.time = min(merged.time, time)
                for start, end in file.ranges:
                    merged.ranges.add(start, end)
        # Sorting is stable, so that files of the same time stay in the order of the logs.
        in_order = sorted(found.items(), key=lambda item: item[1].time)
        return cls(
            files_that_fit(
                AccessedFile(file.time, path, file.ranges.in_order()) for path, file in in_order
            ),
            images.pop() if len(images) == 1 else None,
            platforms.pop() if len(platforms) == 1 else None,
            tool,
        )

    @classmethod
    def read(cls, path: StrPath) -> Self:
        """Read a log from a file.

        Raises:
            FormatError: it is not an access log, or too large; `what` is ``access log``.
            UnsupportedError: its version is unknown.
            OSError: the file cannot be read, or it is not a regular file.
        """
        name = path_text(path)
        data = read_regular(name, max_size=MAX_SIZE)
        try:
            return cls.from_bytes(data)
        except TocsinError as error:
            error.add_note(shown(name))
            raise

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse a log.

        Raises:
            FormatError: `data` is not an access log, or too large; `what` is ``access log``.
            UnsupportedError: the version is unknown, or the image's digest is not SHA-256.
        """
        if len(data) > MAX_SIZE:
            raise _error(f"too large (found {len(data)} bytes, expected at most {MAX_SIZE})")
        lines = io.BytesIO(data)  # not a list of lines: 64 MiB of line breaks would fill gigabytes
        fields = _header(lines.readline(_MAX_LINE_SIZE + 1))
        image = _optional(fields, "image", Digest.parse)
        platform = _optional(fields, "platform", Platform.parse)
        return cls(_files(lines), image, platform, fields.text("tool"))

    @property
    def size(self) -> int:
        """Number of bytes in all ranges of all files."""
        return sum(end - start for _, start, end in self.reads)

    def to_bytes(self) -> bytes:
        """Return the log as bytes, all of them ASCII."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "image": text_of(self.image),
            "platform": text_of(self.platform),
            "tool": self.tool,
        }
        lines = [header, *(file.to_dict() for file in self.files)]
        return b"".join(_encode(line) for line in lines)

    def write(self, path: StrPath) -> None:
        """Write the log to a file, which appears whole or not at all.

        Raises:
            OSError: the file cannot be written; an existing one is unchanged.
        """
        # Replaces the target of a symbolic link, not the link.
        target = Path(path_text(path)).resolve()
        if target.exists() and not target.is_file():
            raise placed(OSError(errno.EINVAL, "not a regular file"), target)
        remove_abandoned(target.parent)
        with StagedFile(target.parent) as staged:
            staged.write(self.to_bytes())
            staged.publish(target)


class _MergedFile:
    """The earliest time and all ranges of one file."""

    __slots__ = ("ranges", "time")

    def __init__(self, time: float) -> None:
        self.time = time
        self.ranges = AccessedRanges()


def files_that_fit(files: Iterable[AccessedFile]) -> tuple[AccessedFile, ...]:
    """Return the first files, as many as the limits of the format allow."""
    found: list[AccessedFile] = []
    size, range_count = _MAX_HEADER_SIZE, 0
    for file in files:
        size += len(_encode(file.to_dict()))
        range_count += len(file.ranges)
        if len(found) == MAX_FILES or size > MAX_SIZE or range_count > MAX_RANGES:
            break
        found.append(file)
    return tuple(found)


def _encode(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _header(line: bytes) -> Fields:
    fields = Fields(decode_object(line, what=_WHAT, max_size=_MAX_LINE_SIZE), what=_WHAT)
    if fields.text("format") != FORMAT:
        raise fields.error(
            "format", f"found {quoted(fields.text('format'), limit=40)}, expected {FORMAT}"
        )
    version = fields.integer("version")
    if version != VERSION:
        raise UnsupportedError(
            f"access log: version is {version}, expected {VERSION}",
            hint="Record the log again with this version of tocsin.",
        )
    return fields


def _optional(fields: Fields, name: str, parse: Callable[[str], _Value]) -> _Value | None:
    text = fields.text(name)
    try:
        return parse(text) if text else None
    except FormatError as error:
        raise fields.error(name, error.message) from None


def _files(lines: BinaryIO) -> tuple[AccessedFile, ...]:
    found: list[AccessedFile] = []
    range_count = 0
    for number, line in enumerate(iter(lambda: lines.readline(_MAX_LINE_SIZE + 1), b""), start=2):
        if len(line) > _MAX_LINE_SIZE:
            raise _error(f"longer than {_MAX_LINE_SIZE} bytes", number)
        if len(found) == MAX_FILES:
            raise _error(f"more than {MAX_FILES} files")
        file = _file(line, number)
        range_count += len(file.ranges)
        if range_count > MAX_RANGES:
            raise _error(f"more than {MAX_RANGES} ranges", number)
        found.append(file)
    return tuple(found)


def _file(line: bytes, number: int) -> AccessedFile:
    # Not `decode_object`, which is ten times slower: mounting waits for the log. The decoder of
    # Python limits the depth itself.
    try:
        value = json.loads(line.decode(), parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        raise _error("invalid JSON", number) from None
    if type(value) is not dict:
        raise _error(f"found a JSON {kind_of(value)}, expected an object", number)
    return AccessedFile(_time(value, number), _path(value, number), _ranges(value, number))


def _time(value: dict[str, Any], number: int) -> float:
    time = value.get("time", 0)
    if type(time) not in (int, float) or not 0 <= time <= _MAX_OFFSET:
        raise _error("time: expected a number of seconds", number)
    return float(time)


def _path(value: dict[str, Any], number: int) -> str:
    path = value.get("path")
    if type(path) is not str or not path:
        raise _error("path: expected a string that is not empty", number)
    try:
        # Two ways to escape the same bytes become one.
        data = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _error("path: found a surrogate that does not represent a byte", number) from None
    if len(data) > MAX_PATH_SIZE:
        raise _error(
            f"path: too long (found {len(data)} bytes, expected at most {MAX_PATH_SIZE})", number
        )
    return data.decode("utf-8", "surrogateescape")


def _ranges(value: dict[str, Any], number: int) -> tuple[tuple[int, int], ...]:
    ranges = value.get("ranges", [])
    if type(ranges) is not list:
        raise _error(f"ranges: found {kind_of(ranges)}, expected array", number)
    if len(ranges) > MAX_FILE_RANGES:
        raise _error(
            f"ranges: found {len(ranges)} elements, expected at most {MAX_FILE_RANGES}", number
        )
    return tuple(_range(each, number) for each in ranges)


def _range(value: Any, number: int) -> tuple[int, int]:  # noqa: ANN401 (JSON)
    match value:
        case [start, end] if type(start) is int and type(end) is int:
            if 0 <= start < end <= _MAX_OFFSET:
                return start, end
    raise _error("ranges: expected pairs of integers, each a start and a larger end", number)


def _error(problem: str, line: int | None = None) -> FormatError:
    at = None if line is None else f"line {line}"
    return FormatError(f"{_WHAT}: {f'{at}: ' if at else ''}{problem}", what=_WHAT, offset=at)


def _reject_constant(_name: str) -> NoReturn:
    raise ValueError
