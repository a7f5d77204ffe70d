"""Where a redirect may lead. Object stores behind registries live by them, and so do attackers.

Source: RFC 9110, 15.4. The bound and the refusals are ours.
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
    "If this server is behind a proxy that ends TLS, let the proxy send the header"
    " X-Forwarded-Proto: https."
)
"""What to do about a server behind https that says where to go next with http."""
_BAD_CHARACTERS = re.compile(r"[\x00-\x20\x7f-\U0010ffff\\]")


def join_location(base: str, location: str) -> str:
    """Return the URL that a ``Location`` or ``Link`` of an answer to `base` names, absolute.

    Raises:
        RegistryError: it is none, is neither http nor https, or leads from https to http.
    """
    if not location or len(location) > _MAX_URL_LEN or _BAD_CHARACTERS.search(location):
        raise _refuse(base, location, "that is no URL")
    try:
        url = urldefrag(urljoin(base, location)).url
    except ValueError:
        raise _refuse(base, location, "that is no URL") from None
    if problem := url_problem(url):
        raise _refuse(base, url, f"that {problem}")
    if Origin.of(base).scheme == "https" and Origin.of(url).scheme == "http":
        raise _refuse(base, url, "that leads from https to http", hint=FORWARDED_PROTO)
    return url


class RedirectTrail:
    """The hops of one request."""

    def __init__(self, method: str, url: str) -> None:
        self._method = method
        self._seen = [url]

    def follow(self, status: int, location: str) -> str:
        """Return the URL of the next hop.

        Raises:
            RegistryError: it must not be followed.
        """
        here = self._seen[-1]
        url = join_location(here, location)
        if status not in KEEP_METHOD and self._method not in ("GET", "HEAD"):
            raise _refuse(here, url, f"a {self._method} cannot follow status {status}")
        if url in self._seen:
            raise _refuse(here, url, "that is a loop")
        if len(self._seen) > MAX_REDIRECTS:
            raise _refuse(here, url, f"that is more than {MAX_REDIRECTS} redirects")
        self._seen.append(url)
        return url


def _refuse(base: str, location: str, problem: str, hint: str | None = None) -> RegistryError:
    return RegistryError(
        f"{redact_url(base)}: redirect to {redact_url(location) or 'nowhere'} refused, {problem}",
        url=redact_url(base),
        hint=hint,
    )
