"""One answer of a server: status, headers, and a body that is read only as far as wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import urllib3

from tocsin.errors import FormatError, RegistryError
from tocsin.stores.http.failures import network_error

if TYPE_CHECKING:
    from types import TracebackType

    import requests

_DRAIN_SIZE = 64 << 10
"""Bytes read from an unwanted body to keep its connection; beyond that a new one is cheaper."""


class Answer:
    """What came back; close it, or read it to its end, to give the connection back.

    Attributes:
        status: of HTTP.
        url: that answered, after redirects; it may be signed, so it is not for messages.
    """

    def __init__(self, response: requests.Response, url: str) -> None:
        self._response = response
        self._taken = 0
        self.status = response.status_code
        self.url = url

    def header(self, name: str) -> str:
        """Return a header, several of one name joined by commas; empty when missing."""
        return self._response.headers.get(name) or ""

    @property
    def media_type(self) -> str:
        """``Content-Type`` without its parameters."""
        return self.header("Content-Type").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int | None:
        """``Content-Length``; ``None`` when it is missing or no number."""
        text = self.header("Content-Length").strip()
        return int(text[:20]) if text.isascii() and text.isdigit() else None

    def read_some(self, size: int) -> bytes:
        """Return what has arrived of the body, waiting for the first byte; empty at its end.

        Content codings stay as they are: a layer's digest is that of the bytes stored.

        Args:
            size: the most bytes to return.

        Raises:
            RegistryError: the connection broke or timed out; `temporary` is true.
        """
        try:
            piece: bytes = self._response.raw.read1(size, decode_content=False) or b""
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise network_error(error, self.url) from None
        self._taken += len(piece)
        return piece

    def read(self, limit: int, *, what: str = "answer") -> bytes:
        """Return the whole body, decoded if the server encoded it, and close.

        Raises:
            FormatError: it is longer than `limit` bytes; `what` names it.
            RegistryError: the connection broke; `temporary` is true.
        """
        too_long = FormatError(f"{what}: is longer than the {limit} bytes allowed", what=what)
        if (self.content_length or 0) > limit and not self.header("Content-Encoding"):
            self.close()
            raise too_long
        with self:
            try:
                data: bytes = self._response.raw.read(limit + 1, decode_content=True)
                if len(data) <= limit:
                    self._response.raw.read(1)  # notices the end, which frees the connection
            except (OSError, urllib3.exceptions.HTTPError) as error:
                raise network_error(error, self.url) from None
        if len(data) > limit:
            raise too_long
        return data

    def discard(self) -> None:
        """Close, keeping the connection when little is left of the body."""
        has_body = self._response.request.method != "HEAD"
        rest = (self.content_length or 0) - self._taken if has_body else 0
        left = _DRAIN_SIZE
        if rest <= left:
            try:
                while left > 0 and (piece := self.read_some(left)):
                    left -= len(piece)
            except RegistryError:
                pass
        self.close()

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
