"""`KeptConnections`: connections and tokens that outlive the stores of single repositories.

A process that uses many repositories of one registry would otherwise connect, negotiate TLS and
look for credentials again for each of them.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Self

from tocsin.stores.http.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import TracebackType

    from tocsin.stores.registry.auth import Authenticator
    from tocsin.stores.registry.place import Place

MAX_KEPT_HOSTS = 32
"""Maximum number of hosts with open connections; each has about as many as there are threads."""
MAX_KEPT_AUTHENTICATORS = 256
"""Maximum number of repositories with kept tokens."""


class KeptConnections:
    """Connections to registries, shared by all stores opened with the same options.

    May be used by several threads. It is never pickled, and must not be used in a forked process:
    two processes cannot share a TLS connection. Stores remain usable after `close`, or after their
    connections were dropped for those of other hosts: they connect again.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._connections: OrderedDict[Hashable, tuple[Place, _KeptTransport]] = OrderedDict()
        self._authenticators: OrderedDict[Hashable, Authenticator] = OrderedDict()

    def connection(
        self,
        key: Hashable,
        connect: Callable[[type[_KeptTransport]], tuple[Place, Transport]],
    ) -> tuple[Place, Transport]:
        """Return the place and the transport for a key, and make them if they are missing.

        Args:
            key: everything that determines them, such as host and certificates.
            connect: makes them; called without a lock, since it may probe the host.
        """
        with self._lock:
            found = self._connections.get(key)
            if found is not None:
                self._connections.move_to_end(key)
                return found
        place, transport = connect(_KeptTransport)
        assert isinstance(transport, _KeptTransport)  # noqa: S101 (the class that was passed)
        with self._lock:
            # Of two threads that connected at the same time, both use the first connection.
            kept = self._connections.setdefault(key, (place, transport))
            self._connections.move_to_end(key)
            dropped = None
            if len(self._connections) > MAX_KEPT_HOSTS:
                _, dropped = self._connections.popitem(last=False)
        if dropped is not None:
            dropped[1].drop()
        return kept

    def authenticator(
        self, transport: Transport, repository: str, make: Callable[[], Authenticator]
    ) -> Authenticator:
        """Return the authenticator of a repository, with the tokens that it has already."""
        key = transport, repository
        with self._lock:
            found = self._authenticators.get(key)
            if found is None:
                found = self._authenticators[key] = make()
            self._authenticators.move_to_end(key)
            if len(self._authenticators) > MAX_KEPT_AUTHENTICATORS:
                self._authenticators.popitem(last=False)
            return found

    def close(self) -> None:
        """Close the connections and forget the tokens."""
        with self._lock:
            connections = list(self._connections.values())
            self._connections.clear()
            self._authenticators.clear()
        for _, transport in connections:
            transport.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _KeptTransport(Transport):
    """A transport that a store does not close."""

    def close(self) -> None:
        """Leave the connections open."""

    def drop(self) -> None:
        """Close the connections; requests that are running are not affected."""
        super().close()
