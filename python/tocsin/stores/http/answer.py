"""One answer of a server: status, headers, and a body that is read only as far as wanted."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError, RegistryError
from tocsin.quoting import shown as quoted_name
from tocsin.stores.http.deadline import WatchedResponse
from tocsin.stores.http.failures import BROKEN, network_error
from tocsin.stores.http.redaction import redact_url

if TYPE_CHECKING:
    from types import TracebackType

    import requests

_DECODED = frozenset({"gzip", "x-gzip", "deflate"})
_OTHER_CODING = re.compile(r"\b(?:gzip|deflate|br|zstd|dc[bz]|compress)\b")
"""Codings that nobody asked for, alone or one after the other."""

_DRAIN_SIZE = 64 << 10
"""Bytes read from an unwanted body to keep its connection; beyond that a new one is cheaper."""


class Answer:
    """What came back; close it, or read it to its end, to give the connection back.

    Attributes:
        status: of HTTP.
        url: that answered, after redirects; it may be signed, so it is not for messages.

    Args:
        response: of requests, its body unread.
        url: as above.
        timeout: seconds that a wait for the body may last.
    """

    def __init__(
        self, response: requests.Response, url: str, *, timeout: float | None = None
    ) -> None:
        self._response = response
        self._timeout = timeout
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

    @property
    def is_encoded(self) -> bool:
        """Whether its content has a coding, so that `content_length` is not the content's size."""
        return self._coding in _DECODED or bool(_OTHER_CODING.search(self._coding))

    @property
    def _coding(self) -> str:
        return self.header("Content-Encoding").strip().lower()

    def read_some(self, size: int) -> bytes:
        """Return what has arrived of the body, waiting for the first byte; empty at its end.

        Content codings stay as they are: a layer's digest is that of the bytes stored.

        Args:
            size: the most bytes to return.

        Raises:
            RegistryError: the connection broke or timed out; `temporary` is true.
        """
        try:
            self._start_waiting()
            piece: bytes = self._response.raw.read1(size, decode_content=False) or b""
        except BROKEN as error:
            raise network_error(error, self.url) from None
        self._taken += len(piece)
        return piece

    def read(self, limit: int, *, what: str = "answer") -> bytes:
        """Return the whole body, decoded if the server encoded it, and close.

        Raises:
            FormatError: it is longer than `limit` bytes; `what` names it.
            RegistryError: the connection broke or the body took too long; `temporary` is true. Or
                the body has a content coding that is not known.
        """
        too_long = FormatError(f"{what}: is longer than the {limit} bytes allowed", what=what)
        if (self.content_length or 0) > limit:
            self.close()
            raise too_long
        with self:
            try:
                self._start_waiting()
                data: bytes = self._response.raw.read(limit + 1, decode_content=False)
                if len(data) <= limit:
                    self._response.raw.read(1)  # notices the end, which frees the connection
            except BROKEN as error:
                raise network_error(error, self.url) from None
        if len(data) <= limit:
            data = self._decoded(data, limit)
        if len(data) > limit:
            raise too_long
        return data

    def _decoded(self, data: bytes, limit: int) -> bytes:
        """Undo the content coding, to one byte more than `limit` at most.

        Not left to the library: how much it makes of a few bytes depends on its version.
        """
        coding = self._coding
        if coding not in _DECODED:
            if not _OTHER_CODING.search(coding):
                return data  # "utf-8" for example: some servers write what is no coding
            shown = redact_url(self.url)
            raise RegistryError(
                f"{shown}: content coding {quoted_name(coding[:40])} is not supported", url=shown
            )
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # a gzip or a zlib header
        try:
            decoded = decoder.decompress(data, limit + 1)
        except zlib.error:
            decoded = None
        if decoded is None or (len(decoded) <= limit and not decoder.eof):
            shown = redact_url(self.url)
            raise RegistryError(f"{shown}: the body is not {coding} as it says", url=shown)
        return decoded

    def _start_waiting(self) -> None:
        original = getattr(self._response.raw, "_original_response", None)
        if isinstance(original, WatchedResponse):
            original.deadline.start(self._timeout)

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
