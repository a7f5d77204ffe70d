"""From broken connections to errors that say what happened, without secrets.

Exceptions of requests and urllib3 spell out signed URLs, so they are described, never chained.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import TYPE_CHECKING

import requests
import urllib3

from tocsin.errors import RegistryError
from tocsin.stores.http.redaction import clean, redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed later."""

BROKEN = (
    OSError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    # What these libraries let through when a server writes nonsense, such as a chunk of -5 bytes.
    ValueError,
    OverflowError,
)
"""Whatever a request or the reading of its answer may raise because of the far side."""

_MAX_CAUSES = 20


def network_error(error: BaseException, url: str) -> RegistryError:
    """Return the error of a request that got no, or only half an answer."""
    shown = redact_url(url)
    text, temporary = _describe(error)
    return RegistryError(f"{shown}: {text}", url=shown, temporary=temporary)


def never_sent(error: BaseException) -> bool:
    """Return whether the server cannot have seen the request, so that it may be sent again."""
    return any(
        isinstance(cause, requests.ConnectTimeout | urllib3.exceptions.NewConnectionError)
        for cause in _causes(error)
    )


def _describe(error: BaseException) -> tuple[str, bool]:  # noqa: PLR0911, PLR0912 (one a cause)
    causes = list(_causes(error))
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return (
                    f"the certificate is not trusted ({clean(cause.verify_message)}); name its "
                    "authority with --ca-cert",
                    False,
                )
            case ssl.SSLError() if "WRONG_VERSION_NUMBER" in str(cause.reason):
                return "does not speak TLS; plain http must be asked for", False
            case ssl.SSLError() if str(cause.reason).startswith(("TLSV1_ALERT", "TLSV13_ALERT")):
                return f"TLS was refused ({clean(str(cause.reason))})", False
            case socket.gaierror() | urllib3.exceptions.NameResolutionError():
                return "the host name cannot be resolved", True
            case TimeoutError() | requests.Timeout() | urllib3.exceptions.TimeoutError():
                return "timed out", True
            case requests.exceptions.ProxyError() | urllib3.exceptions.ProxyError():
                return "the proxy cannot be used", True
            case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
                return "is no URL that can be asked", False
            case urllib3.exceptions.IncompleteRead():
                return "the connection ended before the answer did", True
            case OSError() if cause.errno and cause.strerror:
                return clean(cause.strerror).lower(), True
            case http.client.RemoteDisconnected():
                return "the connection broke", True
            case http.client.HTTPException() | OverflowError():
                return "the answer is not HTTP", True
            case _:
                continue
    if any(type(cause) is ValueError for cause in causes):
        return "the answer is not HTTP", True
    return "the connection broke", True


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what lies beneath `error`, deepest last, then itself: the deep ones tell most."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue and len(found) < _MAX_CAUSES:
        cause = queue.pop(0)
        if not isinstance(cause, BaseException) or cause in found:
            continue
        found.append(cause)
        queue += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
    yield from reversed(found)
