"""Deadlines for responses, which a server cannot extend by sending single bytes.

The timeout of a socket is per call, so a server that sends one byte per second never exceeds it:
in headers, in interim responses (100 Continue), in chunk extensions and in trailers. Therefore the
file object of a response checks a deadline before every call.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    import socket

_GRANULARITY = 1.0
"""Seconds that a wait may exceed its deadline; saves two system calls per read."""


class Deadline:
    """The end of a wait.

    Args:
        sock: the socket that is read.
        seconds: seconds from now; ``None`` for no deadline.
    """

    def __init__(self, sock: socket.socket, seconds: float | None) -> None:
        self._sock = sock
        self._end: float | None = None
        self.start(seconds)

    def start(self, seconds: float | None) -> None:
        """Start a new wait."""
        self._end = None if seconds is None else time.monotonic() + seconds

    def before_read(self) -> None:
        """Set the timeout for the next call of the socket.

        Raises:
            TimeoutError: the deadline has passed.
        """
        if self._end is None:
            return
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        usual = self._sock.gettimeout()
        if usual is None or usual > left + _GRANULARITY:
            self._sock.settimeout(left)


class _Watched(io.RawIOBase):
    """The raw file of a response, which can only be read until its deadline."""

    def __init__(self, raw: io.RawIOBase, deadline: Deadline) -> None:
        super().__init__()
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 (any writable buffer)
        self._deadline.before_read()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class WatchedResponse(http.client.HTTPResponse):
    """A response whose status, headers, body and trailers have a deadline.

    Attributes:
        deadline: starts with the request, for the headers; restarted for each part of the body.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (as http.client)
        super().__init__(sock, *args, **kwargs)
        self.deadline = Deadline(sock, sock.gettimeout())
        self.fp: Any = io.BufferedReader(_Watched(self.fp.detach(), self.deadline))


class _Connection(HTTPConnection):
    response_class = WatchedResponse


class _TlsConnection(HTTPSConnection):
    response_class = WatchedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _Pool, "https": _TlsPool}
"""For ``urllib3.PoolManager.pool_classes_by_scheme``."""
