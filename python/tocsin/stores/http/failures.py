"""From broken connections to errors that say what happened, without secrets.

Exceptions of requests and urllib3 spell out signed URLs, so they are described, never chained.
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
"""What OpenSSL, of one version or another, says of an answer in plain text."""

_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_ALERT|TLSV1_UNRECOGNIZED_NAME")
_WANTS_CERTIFICATE = re.compile(r"CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED")
"""Alerts by which servers refuse a client without a certificate, or with a wrong one."""

_OTHER_NAMES = frozenset({62, 64})
_OUT_OF_DATE = frozenset({9, 10})
"""Codes of OpenSSL: the certificate is for another host or address; not yet or no longer valid."""

_PLAIN_HTTP = "Pass --plain-http (plain_http=True) if it speaks plain http."
MAYBE_TLS = "Leave out --plain-http (plain_http=True) if it speaks TLS."
_CLIENT_CERT = "Show a certificate with --client-cert (client_cert=), or put one in certs.d."
_PROXY_VARIABLES = "Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or name the registry in NO_PROXY."
_PROXY_LOGIN = (
    "Put user name and password into the URL of the proxy (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY),"
    " or name the registry in NO_PROXY."
)
_PROXY_WANTS_LOGIN = 407
_TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})\b.*", re.DOTALL)
_OF_PROXY = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)

_MAX_CAUSES = 20
_MAX_REASON_LEN = 200
"""Characters of what the system says of a failure."""


def network_error(error: BaseException, url: str, proxy: str | None = None) -> RegistryError:
    """Return the error of a request that got no, or only half an answer.

    Args:
        error: what was raised.
        url: of the request.
        proxy: the URL of the proxy that it went through.
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


def _describe(causes: list[BaseException], *, is_tls: bool) -> _Failure:  # noqa: PLR0911, PLR0912 (one a cause)
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return _Failure(
                    f"the certificate is not trusted ({quoted(cause.verify_message)})",
                    temporary=False,
                    hint=_certificate_hint(cause.verify_code),
                )
            case ssl.SSLError() if _tls_reason(cause) in _NOT_TLS:
                return _Failure("does not speak TLS", temporary=False, hint=_PLAIN_HTTP)
            case ssl.SSLError() if _ALERT.match(_tls_reason(cause)):
                return _Failure(
                    f"TLS was refused ({shown(_tls_reason(cause))})",
                    temporary=False,
                    hint=_CLIENT_CERT if _WANTS_CERTIFICATE.search(_tls_reason(cause)) else None,
                )
            case ssl.SSLEOFError():
                return _Failure("the TLS connection ended early", hint=_PLAIN_HTTP)
            case socket.gaierror() | urllib3.exceptions.NameResolutionError():
                return _Failure("the host name cannot be resolved")
            case TimeoutError() | requests.Timeout() | urllib3.exceptions.TimeoutError():
                return _Failure("timed out")
            case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
                return _Failure("is no URL that can be asked", temporary=False)
            case urllib3.exceptions.IncompleteRead():
                return _Failure("the connection ended before the answer did")
            case OSError() if cause.errno and cause.strerror:
                return _Failure(cause.strerror[:_MAX_REASON_LEN].lower())
            case http.client.RemoteDisconnected():
                return _Failure("the connection broke")
            case http.client.HTTPException() | OverflowError():
                return _Failure("the answer is not HTTP", hint=None if is_tls else MAYBE_TLS)
            case _:
                continue
    if any(type(cause) is ValueError for cause in causes):
        return _Failure("the answer is not HTTP", hint=None if is_tls else MAYBE_TLS)
    return _Failure("the connection broke")


def _certificate_hint(code: int) -> str:
    if code in _OTHER_NAMES:
        return (
            "Reach the registry by a name that is in its certificate, or accept any certificate"
            " with --insecure (insecure=True)."
        )
    if code in _OUT_OF_DATE:
        return (
            "Check the clock of this machine, have the certificate renewed, or accept any"
            " certificate with --insecure (insecure=True)."
        )
    return (
        "Name the file of its authority with --ca-cert (ca_cert=) or put it in certs.d, or accept"
        " any certificate with --insecure (insecure=True)."
    )


def _describe_proxy(causes: list[BaseException], proxy: str) -> _Failure | None:
    """Return what is wrong with the proxy; ``None`` if it is something else."""
    name = redact_url(proxy)
    is_socks = proxy.lower().startswith("socks")
    for cause in causes:
        match cause:
            case requests.exceptions.InvalidSchema() if is_socks:
                return _Failure(
                    f"proxy {name}: SOCKS needs the Python package PySocks, which is not installed",
                    temporary=False,
                    hint="Install it: pip install PySocks.",
                )
            case urllib3.exceptions.ProxySchemeUnknown() | requests.exceptions.InvalidSchema():
                return _Failure(
                    f"proxy {name}: is neither http, https nor socks",
                    temporary=False,
                    hint=_PROXY_VARIABLES,
                )
            case requests.exceptions.InvalidProxyURL():
                return _Failure(f"proxy {name}: is no URL", temporary=False, hint=_PROXY_VARIABLES)
            case OSError() if refused := _refused_tunnel(cause):
                status = int(refused[1])
                return _Failure(
                    f"proxy {name}: refused to connect ({quoted(refused[0])})",
                    temporary=status in TEMPORARY,
                    hint=_PROXY_LOGIN if status == _PROXY_WANTS_LOGIN else _PROXY_VARIABLES,
                )
            case _:
                continue
    return _describe_lost_proxy(causes, name)


def _describe_lost_proxy(causes: list[BaseException], name: str) -> _Failure | None:
    of_socks = [cause for cause in causes if type(cause).__module__ == "socks"]  # PySocks
    if not of_socks and not any(isinstance(cause, _OF_PROXY) for cause in causes):
        return None
    for cause in of_socks:
        if getattr(cause, "socket_err", cause) is None:
            # The proxy answered: it refuses, or cannot reach the registry.
            said = quoted(str(getattr(cause, "msg", "")))
            return _Failure(f"proxy {name}: {said}", hint=_PROXY_VARIABLES)
    failure = _describe([each for each in causes if not isinstance(each, _OF_PROXY)], is_tls=True)
    return _Failure(f"proxy {name}: {failure.text}", failure.temporary, hint=_PROXY_VARIABLES)


def _refused_tunnel(cause: OSError) -> re.Match[str] | None:
    """Return status and reason of a proxy that refused CONNECT, of which nothing else is kept."""
    said = cause.args[0] if cause.args else None
    return _TUNNEL.fullmatch(said) if isinstance(said, str) else None


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
