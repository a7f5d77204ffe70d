"""Registries as sources and sinks, with the APIs of OCI distribution 1.1 and Docker.

`open_registry` opens a repository. `auth` answers challenges with credentials from `credentials`,
`endpoint` is the API of one repository, and `client` is the store, which uses `push` and
`referrers`. `hosts` locates a registry; `mirrors` reads a repository from several hosts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tocsin.errors import AuthError, RegistryError
from tocsin.model.reference import RegistryReference
from tocsin.stores.http.transport import MAX_TRIES, Transport
from tocsin.stores.registry.auth import Authenticator
from tocsin.stores.registry.catalog import CATALOG, read_catalog
from tocsin.stores.registry.client import RegistryStore
from tocsin.stores.registry.credentials import find_credential
from tocsin.stores.registry.endpoint import Endpoint
from tocsin.stores.registry.hosts import hosts_of, place_of
from tocsin.stores.registry.hosts_toml import ALL, PUSH
from tocsin.stores.registry.kept import KeptConnections
from tocsin.stores.registry.mirrors import Mirror, MirroredRepository
from tocsin.stores.registry.options import RegistryOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.entry_path import StrPath
    from tocsin.stores.registry.credentials import Search
    from tocsin.stores.registry.hosts_toml import Host
    from tocsin.stores.registry.place import Place

__all__ = [
    "KeptConnections",
    "MirroredRepository",
    "RegistryOptions",
    "RegistryStore",
    "list_repositories",
    "open_for_reading",
    "open_registry",
    "open_repository",
]


def open_registry(
    reference: RegistryReference,
    *,
    username: str | None = None,
    password: str | None = None,
    ca_cert: StrPath | None = None,
    client_cert: StrPath | tuple[StrPath, StrPath] | None = None,
    insecure: bool = False,
    plain_http: bool | None = None,
    hosts_dir: StrPath | None = None,
    jobs: int = 4,
    debug: Callable[[str], None] | None = None,
) -> RegistryStore:
    """Open the repository that `reference` names, without sending a request.

    The arguments are those of `RegistryOptions`.

    Raises:
        AuthError: only one of user name and password is given.
        RegistryError: the host is invalid, or a certificate file contains no certificate.
        OSError: a certificate file cannot be read.
    """
    options = RegistryOptions(
        username=username,
        password=password,
        ca_cert=ca_cert,
        client_cert=client_cert,
        insecure=insecure,
        plain_http=plain_http,
        hosts_dir=hosts_dir,
        jobs=jobs,
        debug=debug,
    )
    return open_repository(reference, options)


def open_repository(
    reference: RegistryReference, options: RegistryOptions | None = None, *, write: bool = False
) -> RegistryStore:
    """Open the repository that `reference` names.

    If a ``hosts.toml`` lists several hosts, the first one with the capability ``push`` is used.

    Args:
        reference: a reference; its tag and digest are ignored.
        options: options of the connection.
        write: request permission to push at once, since something will be written.

    Raises:
        AuthError: only one of user name and password is given.
        RegistryError: the host is invalid, or a certificate file contains no certificate.
        FormatError: a ``hosts.toml`` is invalid.
        OSError: a file cannot be read.
    """
    options = options or RegistryOptions()
    hosts = hosts_of(reference.host, options)
    pushed_to = next((host for host in hosts if PUSH in host.capabilities), None)
    if pushed_to is None:
        raise RegistryError(
            f"docker://{reference.host}/{reference.repository}: hosts.toml has no host with the"
            " capability to push"
        )
    return _open_host(reference, options, pushed_to, write=write)


def open_for_reading(
    reference: RegistryReference, options: RegistryOptions | None = None
) -> RegistryStore | MirroredRepository:
    """Open the repository that `reference` names for reading, with its mirrors if it has any.

    Arguments and errors are those of `open_repository`.
    """
    options = options or RegistryOptions()
    *mirrors, registry = hosts_of(reference.host, options)
    if not mirrors and registry.capabilities == ALL:
        return _open_host(reference, options, registry)
    stores = [
        Mirror(_open_host(reference, options, mirror, is_mirror=True), mirror.capabilities)
        for mirror in mirrors
    ]
    last = Mirror(_open_host(reference, options, registry), registry.capabilities)
    return MirroredRepository(f"docker://{reference.host}/{reference.repository}", [*stores, last])


def list_repositories(host: str, options: RegistryOptions | None = None) -> list[str]:
    """Return the names of all repositories of a registry, sorted.

    Args:
        host: host name, with the port if given.
        options: options of the connection.

    Raises:
        UnsupportedError: the registry has no catalogue, as Docker Hub and GHCR.
        RegistryError: the registry rejected the request; `AuthError` if its catalogue is not
            allowed to be listed.
    """
    options = options or RegistryOptions()
    server = hosts_of(host, options)[-1]
    endpoint = _endpoint(RegistryReference(host, CATALOG), options, server)
    try:
        return read_catalog(endpoint)
    finally:
        endpoint.transport.close()


def _open_host(
    reference: RegistryReference,
    options: RegistryOptions,
    host: Host,
    *,
    write: bool = False,
    is_mirror: bool = False,
) -> RegistryStore:
    return RegistryStore(_endpoint(reference, options, host, write=write, is_mirror=is_mirror))


def _endpoint(
    reference: RegistryReference,
    options: RegistryOptions,
    host: Host,
    *,
    write: bool = False,
    is_mirror: bool = False,
) -> Endpoint:
    """Return the API of a repository on one host.

    The user name, password and client certificate in `options` are not sent to a mirror. Requests
    to a mirror are not repeated, since the next host can be tried instead.
    """
    kept = options._kept
    connect = partial(_connect, host, reference.host, options, is_mirror=is_mirror)
    if kept is None:
        place, transport = connect(Transport)
    else:
        # Everything that decides how the host is reached, and with which certificates.
        headers = tuple(sorted(host.headers.items()))
        settings = host.server, host.certificates, host.skip_verify, headers
        key = (options, reference.host, settings, is_mirror)
        place, transport = kept.connection(key, connect)
    repository = reference.repository
    name = f"docker://{place.name}/{repository}"
    if (options.username is None) != (options.password is None):
        missing = "password" if options.password is None else "user name"
        raise AuthError(f"{name}: credentials: the {missing} is missing")
    explicit = None
    if options.username is not None and options.password is not None and not is_mirror:
        explicit = (options.username, options.password)
    find = partial(find_credential, place.name, repository, explicit=explicit, ask=options._ask)
    if options.credentials_dropped and explicit is None and not is_mirror:
        find = partial(_find_own, name, find)
    clock = options._clock
    authenticate = partial(Authenticator, name, place.origin, find, transport, clock)
    return Endpoint(
        name,
        place.origin,
        repository,
        transport,
        authenticate() if kept is None else kept.authenticator(transport, repository, authenticate),
        clock,
        write,
        root=host.root,
        namespace="" if write or place.name == reference.host else reference.host,
    )


def _connect(
    host: Host,
    registry: str,
    options: RegistryOptions,
    make: type[Transport],
    *,
    is_mirror: bool,
) -> tuple[Place, Transport]:
    place = place_of(host, registry, options)
    shown = host.certificates.client or place.certificates.client
    transport = make(
        replace(
            options,
            client_cert=shown if is_mirror else options.client_cert or shown,
            insecure=options.insecure or bool(host.skip_verify),
        ),
        place.origin,
        authorities=(*host.certificates.authorities, *place.certificates.authorities),
        headers=host.headers,
        tries=1 if is_mirror else MAX_TRIES,
    )
    return place, transport


def _find_own(name: str, find: Callable[[], Search]) -> Search:
    """Look for a credential to replace one that was dropped by pickling.

    Raises:
        AuthError: none was found. Continuing without one could fail later with a less clear error.
    """
    search = find()
    if search.credential is None:
        raise AuthError(
            f"{name}: user name and password are not passed to other processes, and no credentials "
            f"were found in this one (searched: {'; '.join(search.looked_at)})",
            url=name,
        )
    return search
