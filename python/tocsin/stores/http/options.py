"""Options for connections to web servers: certificates, timeouts and number of connections."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from tocsin.stores.http.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.entry_path import StrPath

_PROCESS_FIELDS = frozenset({"debug", "_clock"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options for connections to a web server.

    Pickling drops `debug`, which cannot be used in another process.

    Attributes:
        ca_cert: PEM file of certificate authorities that are trusted in addition to the default
            ones.
        client_cert: PEM file with certificate and key, or a pair of files; used for the first
            server only, not for servers that it redirects to.
        insecure: accept any certificate.
        jobs: maximum number of threads that use connections at the same time, and so the number of
            connections kept open.
        debug: called with one line for each request and each response, without secrets; the logger
            ``tocsin`` receives the same lines at level DEBUG.
        connect_timeout: timeout for connecting, in seconds.
        timeout: timeout for each response, in seconds: for the headers, for a whole document such
            as a manifest or a token, and for each piece of a blob.
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
            seconds = getattr(self, name)
            if not 0 < seconds < math.inf:
                raise ValueError(
                    f"{name}: out of range (found {seconds} seconds, expected more than 0)"
                )

    def _to_pickle(self) -> dict[str, Any]:
        """Return the fields that are pickled."""
        names = (each.name for each in fields(self) if each.name not in _PROCESS_FIELDS)
        return {name: getattr(self, name) for name in names}

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self._to_pickle())

    def __copy__(self) -> Self:
        return self  # frozen, and `debug` is valid in this process

    def __deepcopy__(self, _memo: object) -> Self:
        return self


def _unpickled(kind: type[HttpOptions], values: dict[str, Any]) -> HttpOptions:
    return kind(**values)
