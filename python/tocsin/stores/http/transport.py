"""HTTP requests with retries and redirects, independent of registries and credentials.

Idempotent requests are repeated after a lost connection or a temporary status. All requests are
repeated if the server has not received them or refuses them with 429. Redirects are followed here
and not by the ``requests`` library, so that headers and certificates for one origin are not sent to
another.
"""

from __future__ import annotations

import os
import ssl
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.ssl_ import create_urllib3_context

from tocsin.errors import RegistryError
from tocsin.log import LOG
from tocsin.stores.http.answer import Answer
from tocsin.stores.http.deadline import POOLS
from tocsin.stores.http.failures import BROKEN, TEMPORARY, network_error, never_sent
from tocsin.stores.http.origin import Origin
from tocsin.stores.http.proxies import goes_direct, proxy_of
from tocsin.stores.http.redaction import redact_url, silence_signed_urls
from tocsin.stores.http.redirects import REDIRECTS, RedirectTrail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tocsin.model.entry_path import StrPath
    from tocsin.stores.http.options import HttpOptions

MAX_TRIES = 5
MAX_RETRY_AFTER = 120.0
"""Maximum total wait for repeats of a request, in seconds; beyond it, the response is returned."""

SLOW_FACTOR = 10
"""Factor for the timeout of requests that a server may take long to process."""

MAX_WAITING = 1.5
"""Multiple of the timeout after which a failed request is not repeated; allows for one repeat."""

SEND_SIZE = 64 << 10
"""Bytes of a body that are passed to the socket at once; the connect timeout applies to each."""

_TOO_MANY_REQUESTS = 429
_SPARE_CONNECTIONS = 2
_NO_PROXY = {"http": "", "https": "", "all": ""}


class Transport:
    """Sends requests; may be used by several threads.

    Args:
        options: certificates, timeouts, the debug hook and the time source.
        home: origin of the registry; client certificates are used only for it.
        authorities: PEM files of trusted certificate authorities, in addition to `options`.
        headers: headers that are sent only to the registry.
        tries: maximum number of times that a request is sent.
    """

    def __init__(
        self,
        options: HttpOptions,
        home: Origin,
        *,
        authorities: Sequence[StrPath] = (),
        headers: Mapping[str, str] | None = None,
        tries: int = MAX_TRIES,
    ) -> None:
        self._options = options
        self._home = home
        self._headers = dict(headers or {})
        self.tries = tries
        self._session = _Session(home, options, authorities)
        if options.insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        silence_signed_urls()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        authorization: str | None = None,
        stay: bool = False,
        slow: bool = False,
        any_status: bool = False,
        repeat: bool,
    ) -> Answer:
        """Send a request, follow redirects, and return the last response with any status.

        Args:
            method: HTTP method.
            url: absolute URL.
            headers: headers that are also sent after redirects.
            body: body; an iterable is sent once and cannot be redirected.
            authorization: header that is sent only to the origin of `url`.
            stay: refuse redirects to another origin, since the body contains a secret.
            slow: whether the server may take long to respond.
            any_status: return a response with a temporary status instead of repeating the request;
                for callers that have an alternative.
            repeat: whether the request is idempotent and can be repeated.

        Raises:
            RegistryError: no response, or a redirect that must not be followed.
        """
        first = Origin.of(url)
        trail = RedirectTrail(method, url)
        while True:
            sent = self._own_headers(url) | dict(headers or {})
            if authorization is not None and Origin.of(url) == first:
                sent["Authorization"] = authorization
            answer = self._send_hop(
                method, url, sent, body, repeat=repeat, slow=slow, any_status=any_status
            )
            if answer.status not in REDIRECTS or not answer.header("Location"):
                return answer
            location = answer.header("Location")
            answer.discard()
            next_url = trail.follow(answer.status, location)
            leaves = stay and Origin.of(next_url) != first
            if leaves or not (body is None or isinstance(body, bytes)):
                raise RegistryError(
                    f"{redact_url(url)}: redirect to {redact_url(next_url)} refused: the body "
                    f"{'contains a secret' if leaves else 'can be sent only once'}",
                    url=redact_url(url),
                )
            url = next_url

    def _own_headers(self, url: str) -> dict[str, str]:
        return dict(self._headers) if Origin.of(url) == self._home else {}

    @property
    def patience(self) -> float:
        """Seconds after which a failed request is not repeated."""
        return MAX_WAITING * self._options.timeout

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def _send_hop(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | Iterable[bytes] | None,
        *,
        repeat: bool,
        slow: bool,
        any_status: bool,
    ) -> Answer:
        clock = self._options._clock
        give_up_at = clock.monotonic() + self.patience
        replayable = body is None or isinstance(body, bytes)
        waited = 0.0
        for failures in range(1, self.tries + 1):
            last = failures == self.tries or not replayable
            self._debug(f"> {method} {redact_url(url)}{_shown(headers)}")
            try:
                answer = self._send_once(method, url, headers, body, slow=slow)
            except UnicodeError:  # a host name that is invalid in IDNA
                shown = redact_url(url)
                raise RegistryError(f"{shown}: invalid URL", url=shown) from None
            except BROKEN as error:
                failure = network_error(error, url, proxy_of(url))
                may_repeat = failure.temporary and (repeat or never_sent(error))
                self._debug(f"< {failure}")
                if last or not may_repeat or clock.monotonic() >= give_up_at:
                    raise failure from None
                self._sleep(clock.backoff(failures), failures)
                continue
            self._debug(
                f"< {answer.status} {answer.media_type or '-'}, "
                f"{'?' if answer.content_length is None else answer.content_length} bytes"
            )
            if any_status:
                return answer
            wait = self._wait_before_repeat(answer, failures, repeat=repeat)
            if last or wait is None or waited + wait > MAX_RETRY_AFTER:
                return answer
            answer.close()
            waited += wait
            self._sleep(wait, failures)
        raise AssertionError  # the last iteration returned or raised

    def _sleep(self, seconds: float, failures: int) -> None:
        self._debug(f"try {failures + 1} of {self.tries} in {seconds:.1f} s")
        self._options._clock.sleep(seconds)

    def _wait_before_repeat(self, answer: Answer, failures: int, *, repeat: bool) -> float | None:
        unprocessed = answer.status == _TOO_MANY_REQUESTS
        if answer.status not in TEMPORARY or not (repeat or unprocessed):
            return None
        clock = self._options._clock
        asked = clock.retry_after(answer.header("Retry-After"))
        if asked is None:
            return clock.backoff(failures)
        return asked if asked <= MAX_RETRY_AFTER else None

    def _send_once(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | Iterable[bytes] | None,
        *,
        slow: bool,
    ) -> Answer:
        options = self._options
        origin = Origin.of(url)
        data: Any = body
        if isinstance(body, bytes) and len(body) > SEND_SIZE:
            data = InPieces(body)
        timeout = options.timeout * (SLOW_FACTOR if slow else 1)
        response = self._session.request(
            method,
            url,
            headers=headers,
            data=data,
            stream=True,
            allow_redirects=False,
            timeout=(options.connect_timeout, timeout),
            verify=False if options.insecure else _ca_bundle(),
            cert=_client_cert(options.client_cert) if origin == self._home else None,
            proxies=dict(_NO_PROXY) if goes_direct(origin) else None,
        )
        return Answer(response, url, timeout=options.timeout)

    def _debug(self, line: str) -> None:
        LOG.debug("%s", line)
        if self._options.debug is not None:
            self._options.debug(line)


class InPieces:
    """A long body that is sent in pieces; it can be iterated repeatedly.

    The timeout of a socket is per call, regardless of the number of bytes: without pieces, the
    whole body would have to be sent within the connect timeout.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[memoryview]:
        view = memoryview(self._body)
        for at in range(0, len(view), SEND_SIZE):
            yield view[at : at + SEND_SIZE]


class _Session(requests.Session):
    """A session without redirects, cookies or passwords from ``~/.netrc``.

    The registry and all other servers use separate connection pools, since a client certificate
    becomes part of the TLS context.
    """

    def __init__(self, home: Origin, options: HttpOptions, authorities: Sequence[StrPath]) -> None:
        super().__init__()
        self._home = home
        given = () if options.ca_cert is None else (options.ca_cert,)
        # Without verification, certificate authorities have no effect.
        trusted = () if options.insecure else (*given, *authorities)
        self._home_adapter = _Adapter(options, trusted)
        self._other_adapter = _Adapter(options, trusted)
        self.headers = requests.structures.CaseInsensitiveDict(
            {
                "User-Agent": f"tocsin/{version('tocsin')}",
                "Accept": "*/*",
                # Ranges and digests refer to the stored bytes.
                "Accept-Encoding": "identity",
            }
        )
        self.auth = _unchanged  # otherwise the library reads ~/.netrc
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_adapter(self, url: str) -> HTTPAdapter:
        """Return the pool for `url`."""
        return self._home_adapter if Origin.of(url) == self._home else self._other_adapter

    def close(self) -> None:
        """Close all connections."""
        self._home_adapter.close()
        self._other_adapter.close()

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return ``None``; otherwise ``requests`` reads the whole body and parses the target."""


class _Adapter(HTTPAdapter):
    def __init__(self, options: HttpOptions, authorities: tuple[StrPath, ...]) -> None:
        self._authorities = authorities
        connections = options.jobs + _SPARE_CONNECTIONS
        super().__init__(pool_connections=connections, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (as requests)
        if self._authorities:
            kwargs["ssl_context"] = _context_with(self._authorities)
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # noqa: ANN401 (as requests)
        if self._authorities:
            kwargs["ssl_context"] = _context_with(self._authorities)
        manager = super().proxy_manager_for(proxy, **kwargs)
        if isinstance(manager, urllib3.ProxyManager) and not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = POOLS
        return manager


def _context_with(authorities: tuple[StrPath, ...]) -> ssl.SSLContext:
    """Return a context that trusts `authorities`; urllib3 adds the default ones.

    Both are needed, since a registry with a private authority may redirect to a public object
    store.
    """
    context = create_urllib3_context()
    for file in authorities:
        try:
            context.load_verify_locations(file)
        except ssl.SSLError:
            raise RegistryError(f"{os.fspath(file)}: contains no PEM certificate") from None
    return context


def _ca_bundle() -> str | None:
    """Return the file that ``SSL_CERT_FILE`` names, unless ``requests`` reads another variable."""
    if os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
        return None
    return os.environ.get("SSL_CERT_FILE") or None


def _client_cert(
    client_cert: StrPath | tuple[StrPath, StrPath] | None,
) -> str | tuple[str, str] | None:
    if isinstance(client_cert, tuple):
        return os.fspath(client_cert[0]), os.fspath(client_cert[1])
    return None if client_cert is None else os.fspath(client_cert)


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _shown(headers: Mapping[str, str]) -> str:
    shown = {name: value for name, value in headers.items() if name in ("Range", "Content-Range")}
    if "Authorization" in headers:
        shown["Authorization"] = headers["Authorization"].partition(" ")[0]
    return "".join(f" {name}: {value}" for name, value in shown.items())
