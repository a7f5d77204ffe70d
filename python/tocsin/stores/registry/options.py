"""Options for connections to registries, and the origin of a registry."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tocsin.errors import RegistryError
from tocsin.quoting import quoted
from tocsin.stores.http.options import HttpOptions
from tocsin.stores.http.origin import Origin
from tocsin.stores.http.tls_probe import speaks_tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.entry_path import StrPath
    from tocsin.stores.registry.credentials import Credential
    from tocsin.stores.registry.kept import KeptConnections

_INVALID_HOST = re.compile(r"[/?#@\\\s]|^\.+(?::|$)")
_DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions(HttpOptions):
    """Options for connections to a registry, in addition to those of `HttpOptions`.

    `username` and `password` are never shown, and pickling the options drops them, so that they
    do not appear in queues, caches or logs of a cluster. A process that unpickles such options uses
    the credentials that are stored on its machine. If it finds none and the registry requires
    authentication, requests fail with an `AuthError` that gives the reason.

    Attributes:
        username: user name, used with `password` instead of stored credentials.
        password: password.
        plain_http: use http instead of https; ``None`` uses http only for registries on loopback
            that do not use TLS, and only if no option for certificates is given.
        hosts_dir: directory of containerd's ``hosts.toml`` files, which configure mirrors and
            certificates per registry; there is no default.
        credentials_dropped: whether pickling dropped a user name and password.
    """

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    plain_http: bool | None = None
    hosts_dir: StrPath | None = None
    credentials_dropped: bool = False
    _ask: Callable[[str, str], Credential | None] | None = field(
        default=None, repr=False, compare=False
    )
    """Asked for credentials before any file; pickling drops it."""
    _kept: KeptConnections | None = field(default=None, repr=False, compare=False)
    """Connections that stay open when a repository is closed; pickling drops them."""

    def _to_pickle(self) -> dict[str, Any]:
        values = HttpOptions._to_pickle(self)
        dropped = values.pop("username") is not None, values.pop("password") is not None
        del values["_ask"], values["_kept"]
        return {**values, "credentials_dropped": self.credentials_dropped or any(dropped)}


def origin_of(host: str, options: RegistryOptions) -> Origin:
    """Return the origin of a registry.

    Connects to registries on loopback to detect TLS, unless `options` determine the scheme.

    Args:
        host: host name or address, with the port if given.
        options: options of the connection.

    Raises:
        RegistryError: `host` is invalid.
    """
    check_host(host)
    server = _DOCKER_HUB_API if host == _DOCKER_HUB else host
    secure, plain = Origin.of(f"https://{server}"), Origin.of(f"http://{server}")
    if options.plain_http is not None:
        return plain if options.plain_http else secure
    expects_tls = options.ca_cert or options.client_cert or options.insecure
    if secure.is_loopback and not expects_tls and not speaks_tls(secure):
        return plain
    return secure


def check_host(host: str) -> None:
    """Check the characters of a host with an optional port, which becomes part of URLs and paths.

    Raises:
        RegistryError: `host` is invalid.
    """
    if _INVALID_HOST.search(host):
        raise RegistryError(f"registry {quoted(host, limit=80)}: invalid host name")
