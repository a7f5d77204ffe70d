"""Parts of a blob of a seek table: fetched when needed, several at once, and kept on disk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tocsin.errors import UnsupportedError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tocsin.layers.disk_cache import KeptParts
    from tocsin.layers.sources import RangeSource

MAX_REQUEST_SIZE = 1 << 20
"""Maximum size of one request for several parts in bytes, unless one part is larger."""
MAX_GAP = 32 << 10
"""Maximum number of unneeded bytes between two parts that are fetched with one request."""
MAX_PART_SIZE = 64 << 20
"""Maximum size of one part in bytes; real parts are smaller than 100 KiB."""


class Part(NamedTuple):
    """A part of a blob.

    Attributes:
        number: number of the part, chosen by the caller.
        start: offset of its first byte in the blob.
        end: offset after its last byte.
    """

    number: int
    start: int
    end: int


class AddPart(Protocol):
    """Verifies and adds the bytes of a part."""

    def __call__(self, number: int, data: bytes, /) -> None:
        """Add a part.

        Raises:
            VerificationError: the digest differs; nothing was parsed.
            SeekTableError: the digest matches, but the bytes are invalid.
        """
        ...


class BlobParts:
    """The parts of one blob of a seek table.

    Args:
        source: source of the blob's bytes.
        size: size of the blob.
        kept: parts of the blob in the disk cache, if there is one.

    Attributes:
        source: source of the blob's bytes, which are not verified.
        kept: parts of the blob in the disk cache, if there is one.
    """

    def __init__(self, source: RangeSource, size: int, kept: KeptParts | None = None) -> None:
        self.source = source
        self.kept = kept
        self._size = size

    def tasks(self, parts: Iterable[Part], add: AddPart) -> list[Callable[[], None]]:
        """Return tasks that fetch and add parts; neighbouring parts share a request.

        Parts on disk are added at once.

        Raises:
            VerificationError: a part is not within the blob, or as `add`.
            UnsupportedError: a part is larger than `MAX_PART_SIZE`.
            SeekTableError: as `add`.
        """
        parts = list(parts)
        for part in parts:
            self._check(part)
        missing = [part for part in parts if not self._add_kept(part, add)]
        return [partial(self._fetch, group, add) for group in grouped(missing)]

    def _check(self, part: Part) -> None:
        if part.end > self._size:
            raise VerificationError(
                f"{self.source.name}: ends before a part that the seek table lists (found "
                f"{self._size} bytes, expected at least {part.end})",
                expected=str(part.end),
                actual=str(self._size),
            )
        if part.end - part.start > MAX_PART_SIZE:
            raise UnsupportedError(
                f"{self.source.name}: part {part.number} is too large (found "
                f"{part.end - part.start} bytes, expected at most {MAX_PART_SIZE})"
            )

    def _add_kept(self, part: Part, add: AddPart) -> bool:
        size = part.end - part.start
        data = None if self.kept is None else self.kept.part(part.start, size)
        if self.kept is None or data is None:
            return False
        try:
            add(part.number, data)
        except VerificationError:
            self.kept.ignore(part.start)
            return False
        return True

    def _fetch(self, parts: list[Part], add: AddPart) -> None:
        start = parts[0].start
        whole = self.source.read(start, parts[-1].end)
        for part in parts:
            data = whole[part.start - start : part.end - start]
            try:
                add(part.number, data)
            except VerificationError:
                # Proxies do corrupt bytes. If a part fails twice, the table itself is wrong.
                data = self.source.read(part.start, part.end)
                self._add_again(part.number, data, add)
            if self.kept is not None:
                self.kept.keep(part.start, data)

    def _add_again(self, number: int, data: bytes, add: AddPart) -> None:
        try:
            add(number, data)
        except VerificationError as error:
            raise VerificationError(
                f"{self.source.name}: {error}", expected=error.expected, actual=error.actual
            ) from None


def grouped(parts: Iterable[Part], max_size: int = MAX_REQUEST_SIZE) -> Iterator[list[Part]]:
    """Yield the parts of each request: at most `max_size` bytes, or a single part."""
    group: list[Part] = []
    for part in sorted(parts, key=lambda part: part.start):
        if group and (part.start - group[-1].end > MAX_GAP or part.end - group[0].start > max_size):
            yield group
            group = []
        group.append(part)
    if group:
        yield group
