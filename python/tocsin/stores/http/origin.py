"""Origins (scheme, host, port); credentials are never sent to another origin."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Self
from urllib.parse import urlsplit

from tocsin.errors import RegistryError
from tocsin.stores.http.redaction import redact_url

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of an HTTP server.

    Attributes:
        scheme: ``http`` or ``https``.
        host: host name or address in lower case, without brackets.
        port: port, even if it is the default of the scheme.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the origin of `url`.

        Raises:
            RegistryError: `url` is not an http or https URL, has no host, or contains a user name.
        """
        if problem := url_problem(url):
            where = redact_url(url)
            raise RegistryError(f"{where}: {problem}", url=where)
        parts = urlsplit(url)
        assert parts.hostname is not None  # noqa: S101 (`url_problem` checks it)
        return cls(parts.scheme, parts.hostname.lower(), parts.port or DEFAULT_PORTS[parts.scheme])

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, by name or by address."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def url_problem(url: str) -> str | None:
    """Return why requests cannot be sent to `url`; ``None`` if they can."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "invalid URL"
    if parts.scheme not in DEFAULT_PORTS:
        return "URL is neither http nor https"
    if not host:
        return "URL has no host"
    return "URL contains a user name" if "@" in parts.netloc else None


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address without a port, is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
