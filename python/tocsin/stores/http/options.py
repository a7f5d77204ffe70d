"""How to reach a web server: certificates, timeouts, connections."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from tocsin.stores.http.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.entry_path import StrPath

_OF_THIS_PROCESS = frozenset({"debug", "_clock"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How to reach a web server.

    Pickled, they lose `debug`, which belongs to this process.

    Attributes:
        ca_cert: PEM file of certificate authorities trusted besides the usual ones.
        client_cert: PEM file with certificate and key, or the two files; shown to the first server
            only, not to where it redirects.
        insecure: accept any certificate.
        jobs: number of threads that use a connection at the same time, and so of connections kept.
        debug: called with one line for each request and each response, without secrets; the logger
            ``tocsin`` gets the same at level DEBUG.
        connect_timeout: seconds.
        timeout: seconds that each wait for the server may last: for the headers of a response, for
            a whole document such as a manifest or a token, for each piece of a blob.
    """

    ca_cert: StrPath | None = None
    client_cert: StrPath | tuple[StrPath, StrPath] | None = None
    insecure: bool = False
    jobs: int = 4
    debug: Callable[[str], None] | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    timeout: float = 30.0
    _clock: Clock = field(default_factory=Clock, repr=False, compare=False)
    """The time source; tests replace it."""

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0 seconds")

    def _to_send(self) -> dict[str, Any]:
        """Return the fields that may leave this process."""
        names = (each.name for each in fields(self) if each.name not in _OF_THIS_PROCESS)
        return {name: getattr(self, name) for name in names}

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (type(self), self._to_send())

    def __copy__(self) -> Self:
        return self  # frozen; and a copy in this process loses nothing

    def __deepcopy__(self, _memo: object) -> Self:
        return self


def _received(kind: type[HttpOptions], given: dict[str, Any]) -> HttpOptions:
    return kind(**given)
