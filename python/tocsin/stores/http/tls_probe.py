"""Whether a server speaks TLS, found without verifying it and without an HTTP request.

On loopback nobody says whether a registry speaks https or http. The first byte that answers the
beginning of a TLS handshake decides: servers of plain http answer it with text or not at all.

Source: RFC 8446, 5.1.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.stores.http.origin import Origin

PROBE_TIMEOUT = 3.0
"""Seconds for the connection, then for the first byte; a server that stays silent speaks http."""

_TLS_RECORDS = (b"\x15", b"\x16")
"""First byte of a record: alert and handshake."""


def speaks_tls(origin: Origin, timeout: float = PROBE_TIMEOUT) -> bool:
    """Return whether the server at `origin` answers in TLS; ``False`` if it is not reached."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing is sent or believed over this connection
    context.verify_mode = ssl.CERT_NONE
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    try:
        with socket.create_connection((origin.host, origin.port), timeout) as connection:
            connection.sendall(hello.read())
            return connection.recv(1) in _TLS_RECORDS
    except (OSError, UnicodeError):  # UnicodeError: a host name that IDNA refuses
        return False
