"""The hosts of a registry: the registry itself, and those that a ``hosts.toml`` names instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.stores.http.origin import Origin
from tocsin.stores.http.tls_probe import speaks_tls
from tocsin.stores.registry.certificates import find_certificates
from tocsin.stores.registry.hosts_toml import Host, read_hosts
from tocsin.stores.registry.options import check_host, origin_of
from tocsin.stores.registry.place import Place

if TYPE_CHECKING:
    from tocsin.stores.registry.options import RegistryOptions

_DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"


def hosts_of(registry: str, options: RegistryOptions) -> tuple[Host, ...]:
    """Return the hosts for `registry` in order; the last one is its server.

    Raises:
        RegistryError: `registry` is not a valid host.
        FormatError: a ``hosts.toml`` is invalid.
        OSError: a file cannot be read.
    """
    check_host(registry)
    if options.hosts_dir is None:
        return (Host(),)
    return read_hosts(Path(options.hosts_dir), registry)


def place_of(host: Host, registry: str, options: RegistryOptions) -> Place:
    """Return the server of a host that is used for `registry`."""
    if not host.server:
        return Place(registry, origin_of(registry, options), find_certificates(registry))
    origin = Origin.of(host.server)
    name = host.server.partition("://")[2]
    if name in (_DOCKER_HUB, _DOCKER_HUB_API):
        name, origin = _DOCKER_HUB, replace(origin, host=_DOCKER_HUB_API)
    if origin.scheme == "http" and host.configures_tls and not name.endswith(":80"):
        # As in containerd: if TLS is configured, http is used only for a server without TLS.
        secure = Origin.of(f"https://{name}")
        origin = secure if speaks_tls(secure) else origin
    return Place(name, origin, find_certificates(name))
