"""How to reach a registry: everything a user can ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tocsin.errors import RegistryError
from tocsin.stores.registry.clock import Clock
from tocsin.stores.registry.origin import Origin, is_loopback
from tocsin.stores.registry.redaction import clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NO_HOST = re.compile(r"[/?#@\\\s]")
_DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How to reach a registry.

    Attributes:
        username: with `password`, used instead of any stored credential.
        password: never shown.
        ca_cert: PEM file of certificate authorities trusted besides the usual ones.
        client_cert: PEM file with certificate and key, or the two files; shown to the registry
            only, not to where it redirects.
        insecure: accept any certificate.
        plain_http: speak http; ``None`` means on loopback only, and not when one of the options
            about certificates is given.
        jobs: threads that use the Store at once; that many connections are kept.
        debug: gets a line for each request and each answer, without secrets.
        connect_timeout: seconds.
        read_timeout: seconds without a byte after which a connection counts as broken.
        clock: time, for tests.
    """

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca_cert: Path | None = None
    client_cert: Path | tuple[Path, Path] | None = None
    insecure: bool = False
    plain_http: bool | None = None
    jobs: int = 4
    debug: Callable[[str], None] | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    clock: Clock = field(default_factory=Clock, repr=False)

    def origin(self, host: str) -> Origin:
        """Return where the registry `host` (with port when it has one) is reached.

        Raises:
            RegistryError: `host` is none.
        """
        server = _DOCKER_HUB_API if host == _DOCKER_HUB else host
        if _NO_HOST.search(server):
            raise RegistryError(f"registry {clean(server, limit=80)!r}: is no host name")
        plain = self.plain_http
        if plain is None:
            about_certificates = self.ca_cert or self.client_cert or self.insecure
            plain = is_loopback(_without_port(server)) and not about_certificates
        return Origin.of(f"{'http' if plain else 'https'}://{server}")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
