"""How to reach a registry: everything a user can ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

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

    Attributes:
        username: with `password`, used instead of any stored credential.
        password: never shown.
        plain_http: speak http; ``None`` means on loopback only, and not when one of the options
            about certificates is given.
    """

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    plain_http: bool | None = None

    def origin(self, host: str) -> Origin:
        """Return where the registry `host` (with port when it has one) is reached.

        Raises:
            RegistryError: `host` is none.
        """
        server = _DOCKER_HUB_API if host == _DOCKER_HUB else host
        if _NO_HOST.search(server):
            raise RegistryError(f"registry {quoted(server, limit=80)}: is no host name")
        plain = self.plain_http
        if plain is None:
            about_certificates = self.ca_cert or self.client_cert or self.insecure
            plain = is_loopback(_without_port(server)) and not about_certificates
        return Origin.of(f"{'http' if plain else 'https'}://{server}")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
