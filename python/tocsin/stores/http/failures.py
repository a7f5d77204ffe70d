"""Conversion of network failures to errors that contain no secrets.

Exceptions of requests and urllib3 contain signed URLs, so they are never chained or quoted.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import urllib3

from tocsin.errors import RegistryError
from tocsin.quoting import quoted, shown
from tocsin.stores.http.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
"""Status codes after which the same request may succeed later."""

BROKEN = (
    OSError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    # The libraries raise these for invalid responses, such as a chunk of -5 bytes.
    ValueError,
    OverflowError,
)
"""Exceptions that sending a request or reading its response raises if the other side fails."""

_NOT_TLS = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "UNKNOWN_PROTOCOL",
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
    }
)
"""OpenSSL's reasons for a response in plain text, which depend on its version."""

_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_ALERT|TLSV1_UNRECOGNIZED_NAME")
_CERTIFICATE_ALERT = re.compile(r"CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED")
"""Alerts with which servers reject a client whose certificate is missing or wrong."""

_WRONG_HOST_CODES = frozenset({62, 64})
"""OpenSSL's codes for a certificate of another host name or address."""
_VALIDITY_CODES = frozenset({9, 10})
"""OpenSSL's codes for a certificate that is not yet valid, or no longer."""

_PLAIN_HTTP = "Pass --plain-http (plain_http=True) if the registry uses plain HTTP."
MAYBE_TLS = "Omit --plain-http (plain_http=True) if the registry uses TLS."
_CLIENT_CERT = "Pass a client certificate with --client-cert (client_cert=), or put one in certs.d."
_PROXY_VARIABLES = "Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or add the registry to NO_PROXY."
_PROXY_LOGIN = (
    "Add user name and password to the URL of the proxy (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY),"
    " or add the registry to NO_PROXY."
)
_PROXY_AUTH_REQUIRED = 407
_TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})\b.*", re.DOTALL)
_PROXY_ERRORS = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)

_MAX_CAUSES = 20
_MAX_REASON_LEN = 200
"""Maximum characters of the system's error message."""


def network_error(error: BaseException, url: str, proxy: str | None = None) -> RegistryError:
    """Return the error for a request whose response is missing or incomplete.

    Args:
        error: the exception that was raised.
        url: URL of the request.
        proxy: URL of the proxy, if one was used.
    """
    where = redact_url(url)
    causes = list(_causes(error))
    failure = None if proxy is None else _describe_proxy(causes, proxy)
    if failure is None:
        failure = _describe(causes, is_tls=urlsplit(url).scheme == "https")
    return RegistryError(
        f"{where}: {failure.text}", url=where, temporary=failure.temporary, hint=failure.hint
    )


def never_sent(error: BaseException) -> bool:
    """Return whether the server cannot have received the request, so it can be sent again."""
    return any(
        isinstance(cause, requests.ConnectTimeout | urllib3.exceptions.NewConnectionError)
        for cause in _causes(error)
    )


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    temporary: bool = True
    hint: str | None = None


def _describe(causes: list[BaseException], *, is_tls: bool) -> _Failure:  # noqa: PLR0911, PLR0912 (one branch per cause)
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return _Failure(
                    f"the certificate is not trusted ({quoted(cause.verify_message)})",
                    temporary=False,
                    hint=_certificate_hint(cause.verify_code),
                )
            case ssl.SSLError() if _tls_reason(cause) in _NOT_TLS:
                return _Failure("the server does not use TLS", temporary=False, hint=_PLAIN_HTTP)
            case ssl.SSLError() if _ALERT.match(_tls_reason(cause)):
                return _Failure(
                    f"the server rejected the TLS connection ({shown(_tls_reason(cause))})",
                    temporary=False,
                    hint=_CLIENT_CERT if _CERTIFICATE_ALERT.search(_tls_reason(cause)) else None,
                )
            case ssl.SSLEOFError():
                return _Failure("the TLS connection was closed unexpectedly", hint=_PLAIN_HTTP)
            case socket.gaierror() | urllib3.exceptions.NameResolutionError():
                return _Failure("the host name cannot be resolved")
            case TimeoutError() | requests.Timeout() | urllib3.exceptions.TimeoutError():
                return _Failure("timed out")
            case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
                return _Failure("invalid URL", temporary=False)
            case urllib3.exceptions.IncompleteRead():
                return _Failure("the connection was closed before the end of the response")
            case OSError() if cause.errno and cause.strerror:
                return _Failure(cause.strerror[:_MAX_REASON_LEN].lower())
            case http.client.RemoteDisconnected():
                return _Failure("the connection was closed unexpectedly")
            case http.client.HTTPException() | OverflowError():
                return _Failure("the response is not HTTP", hint=None if is_tls else MAYBE_TLS)
            case _:
                continue
    if any(type(cause) is ValueError for cause in causes):
        return _Failure("the response is not HTTP", hint=None if is_tls else MAYBE_TLS)
    return _Failure("the connection was closed unexpectedly")


def _certificate_hint(code: int) -> str:
    if code in _WRONG_HOST_CODES:
        return (
            "Use a host name that is in the certificate, or accept any certificate with --insecure"
            " (insecure=True)."
        )
    if code in _VALIDITY_CODES:
        return (
            "Check the clock of this machine, have the certificate renewed, or accept any"
            " certificate with --insecure (insecure=True)."
        )
    return (
        "Pass the certificate authority with --ca-cert (ca_cert=), put it in certs.d, or accept any"
        " certificate with --insecure (insecure=True)."
    )


def _describe_proxy(causes: list[BaseException], proxy: str) -> _Failure | None:
    """Return the failure if its cause is the proxy, otherwise ``None``."""
    name = redact_url(proxy)
    is_socks = proxy.lower().startswith("socks")
    for cause in causes:
        match cause:
            case requests.exceptions.InvalidSchema() if is_socks:
                return _Failure(
                    f"proxy {name}: SOCKS requires the Python package PySocks",
                    temporary=False,
                    hint="Install it with pip install PySocks.",
                )
            case urllib3.exceptions.ProxySchemeUnknown() | requests.exceptions.InvalidSchema():
                return _Failure(
                    f"proxy {name}: unsupported URL scheme (expected http, https or socks)",
                    temporary=False,
                    hint=_PROXY_VARIABLES,
                )
            case requests.exceptions.InvalidProxyURL():
                return _Failure(
                    f"proxy {name}: invalid URL", temporary=False, hint=_PROXY_VARIABLES
                )
            case OSError() if refused := _refused_tunnel(cause):
                status = int(refused[1])
                return _Failure(
                    f"proxy {name}: the proxy refused to connect ({quoted(refused[0])})",
                    temporary=status in TEMPORARY,
                    hint=_PROXY_LOGIN if status == _PROXY_AUTH_REQUIRED else _PROXY_VARIABLES,
                )
            case _:
                continue
    return _describe_lost_proxy(causes, name)


def _describe_lost_proxy(causes: list[BaseException], name: str) -> _Failure | None:
    of_socks = [cause for cause in causes if type(cause).__module__ == "socks"]  # PySocks
    if not of_socks and not any(isinstance(cause, _PROXY_ERRORS) for cause in causes):
        return None
    for cause in of_socks:
        if getattr(cause, "socket_err", cause) is None:
            # The proxy responded: it refuses, or it cannot reach the registry.
            said = quoted(str(getattr(cause, "msg", "")))
            return _Failure(f"proxy {name}: {said}", hint=_PROXY_VARIABLES)
    failure = _describe(
        [each for each in causes if not isinstance(each, _PROXY_ERRORS)], is_tls=True
    )
    return _Failure(f"proxy {name}: {failure.text}", failure.temporary, hint=_PROXY_VARIABLES)


def _refused_tunnel(cause: OSError) -> re.Match[str] | None:
    """Return the status and reason if a proxy refused CONNECT; nothing else is kept."""
    said = cause.args[0] if cause.args else None
    return _TUNNEL.fullmatch(said) if isinstance(said, str) else None


def _tls_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason for a failure; empty for errors that Python raised itself."""
    return str(getattr(error, "reason", ""))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the causes of `error`, deepest first, then itself: deep causes are most specific."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue and len(found) < _MAX_CAUSES:
        cause = queue.pop(0)
        if not isinstance(cause, BaseException) or cause in found:
            continue
        found.append(cause)
        queue += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
    yield from reversed(found)
