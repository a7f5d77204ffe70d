"""Registries as sources and sinks: OCI distribution API 1.1 and Docker's, over requests.

`open_registry` is the door. Inside: `transport` sends and repeats, `auth` answers challenges with
what `credentials` finds, `endpoint` is the API of one repository, `client` the store; `download`,
`push` and `referrers` are its three long stories.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tocsin.errors import AuthError
from tocsin.stores.http.transport import Transport
from tocsin.stores.registry.auth import Authenticator
from tocsin.stores.registry.client import RegistryStore
from tocsin.stores.registry.credentials import find_credential
from tocsin.stores.registry.endpoint import Endpoint
from tocsin.stores.registry.options import RegistryOptions, origin_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.entry_path import StrPath
    from tocsin.model.reference import RegistryReference
    from tocsin.stores.registry.credentials import Search

__all__ = ["RegistryOptions", "RegistryStore", "open_registry", "open_repository"]


def open_registry(
    reference: RegistryReference,
    *,
    username: str | None = None,
    password: str | None = None,
    ca_cert: StrPath | None = None,
    client_cert: StrPath | tuple[StrPath, StrPath] | None = None,
    insecure: bool = False,
    plain_http: bool | None = None,
    jobs: int = 4,
    debug: Callable[[str], None] | None = None,
) -> RegistryStore:
    """Return the repository that `reference` names; nothing is asked yet.

    The arguments are those of `RegistryOptions`.

    Raises:
        AuthError: only one of user name and password is given.
        RegistryError: the host is none, or a certificate file holds none.
        OSError: a certificate file cannot be read.
    """
    options = RegistryOptions(
        username=username,
        password=password,
        ca_cert=ca_cert,
        client_cert=client_cert,
        insecure=insecure,
        plain_http=plain_http,
        jobs=jobs,
        debug=debug,
    )
    return open_repository(reference, options)


def open_repository(
    reference: RegistryReference, options: RegistryOptions | None = None, *, write: bool = False
) -> RegistryStore:
    """Return the repository that `reference` names, reached as `options` say.

    Args:
        reference: tag and digest play no part.
        options: how to reach it.
        write: something will be put, so ask for the right to do so at once.

    Raises:
        AuthError: only one of user name and password is given.
        RegistryError: the host is none, or a certificate file holds none.
        OSError: a certificate file cannot be read.
    """
    options = options or RegistryOptions()
    host, repository = reference.host, reference.repository
    name = f"docker://{host}/{repository}"
    if (options.username is None) != (options.password is None):
        missing = "password" if options.password is None else "user name"
        raise AuthError(f"{name}: credentials: a {missing} must be given too")
    explicit = None
    if options.username is not None and options.password is not None:
        explicit = (options.username, options.password)
    origin = origin_of(host, options)
    transport = Transport(options, origin)
    find = partial(find_credential, host, repository, explicit=explicit)
    if options.credentials_dropped and explicit is None:
        find = partial(_find_own, name, find)
    authenticator = Authenticator(name, origin, find, transport, options._clock)
    return RegistryStore(
        Endpoint(name, origin, repository, transport, authenticator, options._clock, write)
    )


def _find_own(name: str, find: Callable[[], Search]) -> Search:
    """Look for a credential in place of one that another process had and did not send.

    Raises:
        AuthError: there is none; to go on without one would seem to work, or fail less clearly.
    """
    search = find()
    if search.credential is None:
        raise AuthError(
            f"{name}: user name and password are not sent to other processes, and no credential "
            f"was found in this one, looked at: {'; '.join(search.looked_at)}",
            url=name,
        )
    return search
