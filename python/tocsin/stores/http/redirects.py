"""Checks of redirects. Registries redirect to object stores; attackers use redirects too.

Source: RFC 9110, 15.4. The limit on their number and the checks are our own.
"""

from __future__ import annotations

import re
from urllib.parse import urldefrag, urljoin

from tocsin.errors import RegistryError
from tocsin.stores.http.origin import Origin, url_problem
from tocsin.stores.http.redaction import redact_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
KEEP_METHOD = frozenset({307, 308})
MAX_REDIRECTS = 8
_MAX_URL_LEN = 16 << 10
FORWARDED_PROTO = (
    "If the server is behind a proxy that terminates TLS, configure the proxy to send the header"
    " X-Forwarded-Proto: https."
)
"""Hint for an https server that redirects or links to an http URL."""
_BAD_CHARACTERS = re.compile(r"[\x00-\x20\x7f-\U0010ffff\\]")


def join_location(base: str, location: str) -> str:
    """Return the absolute URL of a ``Location`` or ``Link`` in a response from `base`.

    Raises:
        RegistryError: the URL is invalid, neither http nor https, or http in a response from https.
    """
    if not location or len(location) > _MAX_URL_LEN or _BAD_CHARACTERS.search(location):
        raise _refuse(base, location, "invalid URL")
    try:
        url = urldefrag(urljoin(base, location)).url
    except ValueError:
        raise _refuse(base, location, "invalid URL") from None
    if problem := url_problem(url):
        raise _refuse(base, url, problem)
    if Origin.of(base).scheme == "https" and Origin.of(url).scheme == "http":
        raise _refuse(base, url, "from https to http", hint=FORWARDED_PROTO)
    return url


class RedirectTrail:
    """The redirects of one request."""

    def __init__(self, method: str, url: str) -> None:
        self._method = method
        self._seen = [url]

    def follow(self, status: int, location: str) -> str:
        """Return the next URL.

        Raises:
            RegistryError: the redirect must not be followed.
        """
        here = self._seen[-1]
        url = join_location(here, location)
        if status not in KEEP_METHOD and self._method not in ("GET", "HEAD"):
            raise _refuse(here, url, f"status {status} is not allowed for {self._method}")
        if url in self._seen:
            raise _refuse(here, url, "redirect loop")
        if len(self._seen) > MAX_REDIRECTS:
            raise _refuse(here, url, f"more than {MAX_REDIRECTS} redirects")
        self._seen.append(url)
        return url


def _refuse(base: str, location: str, problem: str, hint: str | None = None) -> RegistryError:
    return RegistryError(
        f"{redact_url(base)}: redirect to {redact_url(location) or '(nothing)'} refused: {problem}",
        url=redact_url(base),
        hint=hint,
    )
