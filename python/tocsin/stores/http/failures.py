"""From broken connections to errors that say what happened, without secrets.

Exceptions of requests and urllib3 spell out signed URLs, so they are described, never chained.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
import urllib3

from tocsin.errors import RegistryError
from tocsin.quoting import quoted, shown
from tocsin.stores.http.redaction import redact_url

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
_MAX_REASON_LEN = 200
"""Characters of what the system says of a failure."""


def network_error(error: BaseException, url: str) -> RegistryError:
    """Return the error of a request that got no, or only half an answer."""
    where = redact_url(url)
    failure = _describe(error)
    return RegistryError(
        f"{where}: {failure.text}", url=where, temporary=failure.temporary, hint=failure.hint
    )


def never_sent(error: BaseException) -> bool:
    """Return whether the server cannot have seen the request, so that it may be sent again."""
    return any(
        isinstance(cause, requests.ConnectTimeout | urllib3.exceptions.NewConnectionError)
        for cause in _causes(error)
    )


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    temporary: bool = True
    hint: str | None = None


def _describe(error: BaseException) -> _Failure:  # noqa: PLR0911, PLR0912 (one a cause)
    causes = list(_causes(error))
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return _Failure(
                    f"the certificate is not trusted ({quoted(cause.verify_message)})",
                    temporary=False,
                    hint="Name the file of its authority with --ca-cert (ca_cert=).",
                )
            case ssl.SSLError() if "WRONG_VERSION_NUMBER" in _tls_reason(cause):
                return _Failure(
                    "does not speak TLS",
                    temporary=False,
                    hint="Pass --plain-http (plain_http=True) if it speaks plain http.",
                )
            case ssl.SSLError() if _tls_reason(cause).startswith(("TLSV1_ALERT", "TLSV13_ALERT")):
                return _Failure(f"TLS was refused ({shown(_tls_reason(cause))})", temporary=False)
            case socket.gaierror() | urllib3.exceptions.NameResolutionError():
                return _Failure("the host name cannot be resolved")
            case TimeoutError() | requests.Timeout() | urllib3.exceptions.TimeoutError():
                return _Failure("timed out")
            case requests.exceptions.ProxyError() | urllib3.exceptions.ProxyError():
                return _Failure("the proxy cannot be used")
            case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
                return _Failure("is no URL that can be asked", temporary=False)
            case urllib3.exceptions.IncompleteRead():
                return _Failure("the connection ended before the answer did")
            case OSError() if cause.errno and cause.strerror:
                return _Failure(cause.strerror[:_MAX_REASON_LEN].lower())
            case http.client.RemoteDisconnected():
                return _Failure("the connection broke")
            case http.client.HTTPException() | OverflowError():
                return _Failure("the answer is not HTTP")
            case _:
                continue
    if any(type(cause) is ValueError for cause in causes):
        return _Failure("the answer is not HTTP")
    return _Failure("the connection broke")


def _tls_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's word for a failure; only errors that OpenSSL itself made have one."""
    return str(getattr(error, "reason", ""))


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
