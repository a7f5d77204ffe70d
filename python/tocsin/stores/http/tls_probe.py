"""Detection of TLS, without verifying the server and without an HTTP request.

A reference does not state whether a registry on loopback uses https or http. This sends the
beginning of a TLS handshake and checks the first byte of the response: plain http servers respond
with text or not at all.

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
"""Timeout for connecting and for the first byte, in seconds; after it, http is assumed."""

_TLS_RECORDS = (b"\x15", b"\x16")
"""First byte of an alert record and of a handshake record."""


def speaks_tls(origin: Origin, timeout: float = PROBE_TIMEOUT) -> bool:
    """Return whether the server at `origin` uses TLS; ``False`` if it cannot be reached."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # no data is exchanged over this connection
    context.verify_mode = ssl.CERT_NONE
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    try:
        with socket.create_connection((origin.host, origin.port), timeout) as connection:
            connection.sendall(hello.read())
            return connection.recv(1) in _TLS_RECORDS
    except (OSError, UnicodeError):  # UnicodeError: a host name that is invalid in IDNA
        return False
