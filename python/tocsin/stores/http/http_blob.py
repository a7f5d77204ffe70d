"""Files on web servers that support ``Range``, without a registry or credentials.

Lost connections are resumed, as for blobs of a registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tocsin.errors import NotFoundError, RegistryError, UnsupportedError
from tocsin.stores.http.download import Download
from tocsin.stores.http.options import HttpOptions
from tocsin.stores.http.origin import Origin
from tocsin.stores.http.redaction import redact_url
from tocsin.stores.http.refusal import Refusal
from tocsin.stores.http.status import NOT_FOUND, OK, PARTIAL_CONTENT
from tocsin.stores.http.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tocsin.stores.http.answer import Answer
    from tocsin.stores.http.clock import Clock

_SIZE = re.compile(r"bytes\s+[0-9]+-[0-9]+/([0-9]{1,19})")


class HttpBlob:
    """A file on a web server that is read in ranges; may be used by several threads.

    Args:
        url: URL of the file; messages do not show its signature.
        options: certificates, timeouts and the debug hook; user name and password are not used.
    """

    def __init__(self, url: str, options: HttpOptions | None = None) -> None:
        options = options or HttpOptions()
        self.name = redact_url(url)
        self._url = url
        self._site = _Site(self.name, Transport(options, Origin.of(url)), options._clock)
        self._size: int | None = None

    @property
    def size(self) -> int:
        """Size in bytes, requested once.

        Raises:
            NotFoundError: the file does not exist.
            UnsupportedError: the server does not support ``Range``, so every read would transfer
                the whole file.
            RegistryError: the server refused the request or cannot be reached.
        """
        if self._size is None:
            answer = self._site.send(
                "GET",
                self._url,
                doing="get size",
                expect={OK, PARTIAL_CONTENT, NOT_FOUND},
                headers={"Range": "bytes=0-0"},
            )
            status, found = answer.status, _SIZE.fullmatch(answer.header("Content-Range").strip())
            answer.close()
            if status == NOT_FOUND:
                raise self._site.missing("the layer")
            if status == OK or found is None:
                raise UnsupportedError(f"{self.name}: the server does not support Range requests")
            self._size = int(found[1])
        return self._size

    def read(self, start: int, end: int) -> bytes:
        """Return exactly the bytes ``[start, end)``, unverified.

        Raises:
            RegistryError: the bytes cannot be downloaded.
            VerificationError: the size of the file has changed.
        """
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"{self.name}: range [{start}, {end}) is not within {self.size} bytes")
        return b"".join(
            Download(
                self._site,
                self._url,
                what="the layer",
                place=self.name,
                size=self.size,
                start=start,
                end=end,
            )
        )

    def reopened(self, options: HttpOptions | None = None) -> Self:
        """Return the same file with new connections, for a forked process."""
        return type(self)(self._url, options)

    def close(self) -> None:
        """Close connections."""
        self._site.transport.close()


@dataclass(frozen=True, slots=True)
class _Site:
    """A web server that is not a registry; see `download.Site`.

    Attributes:
        name: name in messages.
        transport: sends the requests.
        clock: the time source.
    """

    name: str
    transport: Transport
    clock: Clock

    def send(
        self,
        method: str,
        url: str,
        *,
        doing: str,
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return the response if its status is one of `expect`.

        Raises:
            RegistryError: any other status, or no response.
        """
        answer = self.transport.send(method, url, headers=headers, repeat=True)
        if answer.status in expect:
            return answer
        refusal: RegistryError = Refusal(answer).error(f"{self.name}: {doing}")
        raise refusal

    def missing(self, what: str) -> NotFoundError:
        """Return the error for a missing file."""
        return NotFoundError(f"{self.name}: {what} was not found")
