"""How to reach a registry: everything a user can ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tocsin.errors import RegistryError
from tocsin.quoting import quoted
from tocsin.stores.http.options import HttpOptions
from tocsin.stores.http.origin import Origin, is_loopback

_NO_HOST = re.compile(r"[/?#@\\\s]")
_DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions(HttpOptions):
    """How to reach a registry; what is not listed here is in `HttpOptions`.

    `username` and `password` are never shown, and are left out when the options are pickled, so
    that they end up in no queue, cache or log of a cluster. A process that gets such options uses
    the credentials that are stored where it runs; if it finds none and the registry wants one, the
    request fails with an `AuthError` that says so, rather than going on without.

    Attributes:
        username: with `password`, used instead of any stored credential.
        password: of `username`.
        plain_http: speak http; ``None`` means on loopback only, and not when one of the options
            about certificates is given.
        credentials_dropped: whether these came from another process, which had a user name and
            password.
    """

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    plain_http: bool | None = None
    credentials_dropped: bool = False

    def _to_send(self) -> dict[str, Any]:
        given = HttpOptions._to_send(self)
        dropped = given.pop("username") is not None, given.pop("password") is not None
        return {**given, "credentials_dropped": self.credentials_dropped or any(dropped)}


def origin_of(host: str, options: RegistryOptions) -> Origin:
    """Return where the registry `host` (with port when it has one) is reached.

    Raises:
        RegistryError: `host` is none.
    """
    server = _DOCKER_HUB_API if host == _DOCKER_HUB else host
    if _NO_HOST.search(server):
        raise RegistryError(f"registry {quoted(server, limit=80)}: is no host name")
    plain = options.plain_http
    if plain is None:
        about_certificates = options.ca_cert or options.client_cert or options.insecure
        plain = is_loopback(_without_port(server)) and not about_certificates
    return Origin.of(f"{'http' if plain else 'https'}://{server}")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
