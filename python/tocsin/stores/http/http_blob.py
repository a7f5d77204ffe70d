"""Bytes behind any URL that answers to ``Range``: no registry, no credentials.

Connections that break are taken up where they broke, as with a registry's blobs.
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
    """A file on a web server, read by ranges; may be used by several threads.

    Args:
        url: of it; one that is signed stays out of messages.
        options: certificates, time-outs, the debug hook; user and password are not used.
    """

    def __init__(self, url: str, options: HttpOptions | None = None) -> None:
        options = options or HttpOptions()
        self.name = redact_url(url)
        self._url = url
        self._site = _Site(self.name, Transport(options, Origin.of(url)), options._clock)
        self._size: int | None = None

    @property
    def size(self) -> int:
        """Its size in bytes, asked for once.

        Raises:
            NotFoundError: it is not there.
            UnsupportedError: the server does not answer to ``Range``, so that all of it would have
                to be read each time.
            RegistryError: the server refuses, or cannot be reached.
        """
        if self._size is None:
            answer = self._site.send(
                "GET",
                self._url,
                doing="ask for its size",
                expect={OK, PARTIAL_CONTENT, NOT_FOUND},
                headers={"Range": "bytes=0-0"},
            )
            status, found = answer.status, _SIZE.fullmatch(answer.header("Content-Range").strip())
            answer.close()
            if status == NOT_FOUND:
                raise self._site.missing("the layer")
            if status == OK or found is None:
                raise UnsupportedError(f"{self.name}: the server does not answer to Range")
            self._size = int(found[1])
        return self._size

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, exactly so many, unverified.

        Raises:
            RegistryError: they cannot be had.
            VerificationError: the file has another size now.
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
        """Return the same file with connections of its own, for a forked process."""
        return type(self)(self._url, options)

    def close(self) -> None:
        """Close connections."""
        self._site.transport.close()


@dataclass(frozen=True, slots=True)
class _Site:
    """What a download asks of an endpoint, without anything of registries.

    Attributes:
        name: how messages call it.
        transport: sends.
        clock: time.
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
        """Send a request and return its answer when the status is one of `expect`.

        Raises:
            RegistryError: another status, or no answer.
        """
        answer = self.transport.send(method, url, headers=headers, repeat=True)
        if answer.status in expect:
            return answer
        refusal: RegistryError = Refusal(answer).error(f"{self.name}: {doing}")
        raise refusal

    def missing(self, what: str) -> NotFoundError:
        """Return the error of something that is not there."""
        return NotFoundError(f"{self.name}: {what} is not there")
