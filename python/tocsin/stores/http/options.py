"""How to reach a web server: certificates, timeouts, connections."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tocsin.stores.http.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How to reach a web server.

    Attributes:
        ca_cert: PEM file of certificate authorities trusted besides the usual ones.
        client_cert: PEM file with certificate and key, or the two files; shown to the first server
            only, not to where it redirects.
        insecure: accept any certificate.
        jobs: number of threads that use a connection at the same time, and so of connections kept.
        debug: called with one line for each request and each response, without secrets.
        connect_timeout: seconds.
        timeout: seconds that each wait for the server may last: for the headers of a response, for
            a whole document such as a manifest or a token, for each piece of a blob.
        clock: the time source; tests replace it.
    """

    ca_cert: Path | None = None
    client_cert: Path | tuple[Path, Path] | None = None
    insecure: bool = False
    jobs: int = 4
    debug: Callable[[str], None] | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    timeout: float = 30.0
    clock: Clock = field(default_factory=Clock, repr=False)

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0 seconds")
