"""Downloads of blobs that resume after a lost connection.

The rest is requested with ``Range``, starting at the first missing byte. The request goes to the
registry again, since the signed URL that it redirected to may have expired. If a server ignores
``Range``, the bytes that have already arrived are skipped. Source: RFC 9110, 14; OCI
distribution-spec 1.1, "Pulling blobs".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from tocsin.errors import RegistryError
from tocsin.quoting import quoted
from tocsin.stores.http.redaction import redact_url
from tocsin.stores.http.status import NOT_FOUND, OK, PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE
from tocsin.stores.verification import size_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tocsin.errors import NotFoundError
    from tocsin.stores.http.answer import Answer
    from tocsin.stores.http.clock import Clock

MAX_FAILURES = 5
"""Maximum consecutive failures without `PROGRESS` in between."""

PROGRESS = 1 << 20
"""Bytes after which a connection counts as successful."""

SHORT_RANGE = 4 << 10
"""Minimum bytes of a range that a server has shortened; fewer bytes count as a failure."""

SLOW_WINDOW = 60.0
"""Seconds of waiting after which the speed is checked."""
SLOW_SIZE = 64 << 10
"""Minimum bytes per `SLOW_WINDOW`; below it, the download is resumed on a new connection."""

_READ_SIZE = 512 << 10
_CONTENT_RANGE = re.compile(r"bytes\s+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_UNSATISFIED = re.compile(r"bytes\s+\*/([0-9]{1,19})")


class Site(Protocol):
    """A server that blobs are downloaded from, such as an `Endpoint`."""

    @property
    def clock(self) -> Clock:
        """The time source."""

    def send(
        self,
        method: str,
        url: str,
        *,
        doing: str,
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return the response if its status is one of `expect`."""

    def missing(self, what: str) -> NotFoundError:
        """Return the error for a missing object."""


class Download:
    """Bytes ``[start, end)`` of one blob; only their number is verified.

    Args:
        endpoint: server of the blob, such as a repository.
        url: URL of the blob.
        what: name of the blob within the server, such as ``blob sha256:…``.
        place: name of the blob in messages, with the server.
        size: size of the whole blob.
        start: offset of the first byte.
        end: offset after the last byte, at most `size`.
    """

    def __init__(
        self, endpoint: Site, url: str, *, what: str, place: str, size: int, start: int, end: int
    ) -> None:
        self._endpoint = endpoint
        self._url = url
        self._place = place
        self._size = size
        self._what = what
        self._at = start
        self._end = end
        self._served = end
        self._ranges = True

    def __iter__(self) -> Iterator[bytes]:
        """Yield pieces of one to two times `_READ_SIZE` bytes; the last one may be smaller.

        Raises:
            NotFoundError: the blob does not exist.
            VerificationError: the blob has a different size.
            RegistryError: the connection failed too many times, or a response is invalid.
        """
        # A large chunk is yielded as is: joining would copy it and allocate new pages.
        held: list[bytes] = []
        held_size = failures = 0
        while self._at < self._end:
            before = self._at
            try:
                with self._open() as answer:
                    for chunk in self._chunks(answer):
                        self._at += len(chunk)
                        held.append(chunk)
                        held_size += len(chunk)
                        if held_size >= _READ_SIZE:
                            yield held[0] if len(held) == 1 else b"".join(held)
                            held, held_size = [], 0
                    answer.discard()
                problem = "the connection was closed before the end of the blob"
            except _BrokenError as broken:
                problem = broken.problem
            if self._at >= self._end:
                break
            if self._at == self._served and self._at - before >= SHORT_RANGE:
                continue  # the server limits the size of ranges
            failures = 1 if self._at - before >= PROGRESS else failures + 1
            if failures > MAX_FAILURES:
                raise RegistryError(
                    f"{self._place}: download failed at byte {self._at} of {self._size} after "
                    f"{MAX_FAILURES} retries: {problem}",
                    url=redact_url(self._url),
                    temporary=True,
                )
            clock = self._endpoint.clock
            clock.sleep(clock.backoff(failures))
        if held:
            yield b"".join(held)

    def _open(self) -> Answer:
        """Return a response from which the next byte can be read."""
        whole = not self._ranges or (self._at == 0 and self._end == self._size)
        try:
            answer = self._endpoint.send(
                "GET",
                self._url,
                doing=f"get {self._what}",
                expect={OK, PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE, NOT_FOUND},
                headers={} if whole else {"Range": f"bytes={self._at}-{self._end - 1}"},
            )
        except RegistryError as error:
            if whole or error.status is None or error.temporary:
                raise
            # Support for ranges is optional; without it, the blob is read from its beginning.
            self._ranges = False
            return self._open()
        try:
            self._check(answer)
        except BaseException:
            answer.close()
            raise
        return answer

    def _check(self, answer: Answer) -> None:
        self._served = self._end
        if answer.status == NOT_FOUND:
            raise self._endpoint.missing(self._what)
        if answer.status == RANGE_NOT_SATISFIABLE:
            raise self._too_short(answer)
        if answer.status == PARTIAL_CONTENT:
            self._check_range(answer)
        else:
            self._check_whole(answer)

    def _chunks(self, answer: Answer) -> Iterator[bytes]:
        """Yield the bytes that arrive, from the next byte to the end of the range or the body."""
        skip = self._at if answer.status == OK else 0
        left = skip + self._end - self._at
        now = self._endpoint.clock.monotonic
        waited = 0.0
        arrived = 0
        while left:
            asked_at = now()
            try:
                chunk = answer.read_some(min(left, _READ_SIZE))
            except RegistryError as error:
                raise _BrokenError(error.message) from None
            if not chunk:
                return
            waited += now() - asked_at
            arrived += len(chunk)
            left -= len(chunk)
            if skip:
                dropped = min(skip, len(chunk))
                skip -= dropped
                chunk = chunk[dropped:]
            if chunk:
                yield chunk
            if waited >= SLOW_WINDOW:
                if arrived < SLOW_SIZE:
                    raise _BrokenError(f"too slow: received only {arrived} bytes in {waited:.0f} s")
                waited, arrived = 0.0, 0

    def _check_whole(self, answer: Answer) -> None:
        length = answer.content_length
        if length is not None and length != self._size and not answer.header("Content-Encoding"):
            raise size_error(self._place, expected=self._size, actual=str(length))

    def _check_range(self, answer: Answer) -> None:
        text = answer.header("Content-Range")
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if match is None:
            raise self._invalid(answer, f"status 206 with Content-Range {quoted(text, limit=60)}")
        first, last = int(match[1]), int(match[2])
        if match[3] != "*" and int(match[3]) != self._size:
            raise size_error(self._place, expected=self._size, actual=match[3])
        if first != self._at or not first <= last < self._size:
            raise self._invalid(
                answer, f"found bytes {first} to {last}, expected bytes from {self._at}"
            )
        self._served = min(last + 1, self._end)
        if answer.content_length not in (None, last + 1 - first):
            raise self._invalid(
                answer, f"Content-Length is {answer.content_length} for bytes {first} to {last}"
            )

    def _too_short(self, answer: Answer) -> Exception:
        # The body is not read: docker-registry sends the blob's size as its length, then stalls.
        match = _UNSATISFIED.fullmatch(answer.header("Content-Range").strip())
        actual = match[1] if match else f"fewer than {self._at + 1}"
        if match and int(match[1]) > self._at:
            return self._invalid(answer, f"status 416 for the range from byte {self._at}")
        return size_error(self._place, expected=self._size, actual=actual)

    def _invalid(self, answer: Answer, problem: str) -> RegistryError:
        answer.close()
        return RegistryError(f"{self._place}: invalid response: {problem}", status=answer.status)


class _BrokenError(Exception):
    """The response ended early; the rest can be requested."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
