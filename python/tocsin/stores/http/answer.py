"""HTTP responses: status, headers and a body that is read on demand."""

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
"""Matches an unsupported content coding, alone or in a list of codings."""

_DRAIN_SIZE = 64 << 10
"""Maximum bytes of an unused body to read; for more, a new connection is cheaper."""


class Answer:
    """A response; close it or read it to its end to release the connection.

    Attributes:
        status: HTTP status.
        url: final URL, after redirects. It may be signed, so it must not appear in messages.

    Args:
        response: response from the ``requests`` library, with its body unread.
        url: final URL.
        timeout: maximum seconds to wait for the body.
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
        """Return a header; repeated headers are joined with commas, a missing one is empty."""
        return self._response.headers.get(name) or ""

    @property
    def media_type(self) -> str:
        """``Content-Type`` without its parameters."""
        return self.header("Content-Type").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int | None:
        """``Content-Length``; ``None`` if it is missing or not a number."""
        text = self.header("Content-Length").strip()
        return int(text[:20]) if text.isascii() and text.isdigit() else None

    @property
    def is_encoded(self) -> bool:
        """Whether the body has a content coding, so that `content_length` is not its real size."""
        return self._coding in _DECODED or bool(_OTHER_CODING.search(self._coding))

    @property
    def _coding(self) -> str:
        return self.header("Content-Encoding").strip().lower()

    def read_some(self, size: int) -> bytes:
        """Return the next bytes of the body, waiting for the first of them; empty at the end.

        Content codings are not decoded: the digest of a layer is that of the stored bytes.

        Args:
            size: maximum number of bytes.

        Raises:
            RegistryError: the connection was lost or timed out; `temporary` is true.
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
            FormatError: the body is longer than `limit` bytes; `what` is its name.
            RegistryError: the connection was lost or the body took too long, with `temporary` true;
                or the content coding is not supported.
        """
        too_long = FormatError(f"{what}: too large (expected at most {limit} bytes)", what=what)
        if (self.content_length or 0) > limit:
            self.close()
            raise too_long
        with self:
            try:
                self._start_waiting()
                data: bytes = self._response.raw.read(limit + 1, decode_content=False)
                if len(data) <= limit:
                    self._response.raw.read(1)  # reads the end, which releases the connection
            except BROKEN as error:
                raise network_error(error, self.url) from None
        if len(data) <= limit:
            data = self._decoded(data, limit)
        if len(data) > limit:
            raise too_long
        return data

    def _decoded(self, data: bytes, limit: int) -> bytes:
        """Decode the content coding, to at most one byte more than `limit`.

        urllib3 is not used for this, since how much it decodes at once depends on its version.
        """
        coding = self._coding
        if coding not in _DECODED:
            if not _OTHER_CODING.search(coding):
                return data  # some servers send other values, such as "utf-8"
            shown = redact_url(self.url)
            raise RegistryError(
                f"{shown}: unsupported content coding {quoted_name(coding[:40])}", url=shown
            )
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # a gzip or a zlib header
        try:
            decoded = decoder.decompress(data, limit + 1)
        except zlib.error:
            decoded = None
        if decoded is None or (len(decoded) <= limit and not decoder.eof):
            shown = redact_url(self.url)
            raise RegistryError(
                f"{shown}: invalid body: Content-Encoding is {coding}, but the body cannot be"
                " decoded",
                url=shown,
            )
        return decoded

    def _start_waiting(self) -> None:
        original = getattr(self._response.raw, "_original_response", None)
        if isinstance(original, WatchedResponse):
            original.deadline.start(self._timeout)

    def discard(self) -> None:
        """Close the response, but keep the connection if little of the body is left."""
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
        """Release the connection if the body was read to its end, otherwise close it."""
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
