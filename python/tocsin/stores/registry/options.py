"""How to reach a registry: everything a user can ask for."""

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
    from tocsin.model.entry_path import StrPath

_NO_HOST = re.compile(r"[/?#@\\\s]|^\.+(?::|$)")
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
        plain_http: speak http; ``None`` means only on loopback, where the registry does not speak
            TLS, and not when one of the options about certificates is given.
        hosts_dir: directory of hosts as containerd has it: for each registry a ``hosts.toml`` with
            mirrors and certificates. None is read unless it is given.
        credentials_dropped: whether these came from another process, which had a user name and
            password.
    """

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    plain_http: bool | None = None
    hosts_dir: StrPath | None = None
    credentials_dropped: bool = False

    def _to_send(self) -> dict[str, Any]:
        given = HttpOptions._to_send(self)
        dropped = given.pop("username") is not None, given.pop("password") is not None
        return {**given, "credentials_dropped": self.credentials_dropped or any(dropped)}


def origin_of(host: str, options: RegistryOptions) -> Origin:
    """Return where the registry `host` (with port when it has one) is reached.

    On loopback, unless `options` say what is spoken, the registry is asked whether it speaks TLS.

    Raises:
        RegistryError: `host` is none.
    """
    check_host(host)
    server = _DOCKER_HUB_API if host == _DOCKER_HUB else host
    secure, plain = Origin.of(f"https://{server}"), Origin.of(f"http://{server}")
    if options.plain_http is not None:
        return plain if options.plain_http else secure
    about_certificates = options.ca_cert or options.client_cert or options.insecure
    if secure.is_loopback and not about_certificates and not speaks_tls(secure):
        return plain
    return secure


def check_host(host: str) -> None:
    """Refuse what cannot be a host with a port: it becomes part of URLs and of paths.

    Raises:
        RegistryError: `host` is none.
    """
    if _NO_HOST.search(host):
        raise RegistryError(f"registry {quoted(host, limit=80)}: is no host name")
