"""How to reach a web server: certificates, timeouts, connections."""

from __future__ import annotations

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
        read_timeout: seconds without a byte after which a connection counts as broken.
    """

    ca_cert: Path | None = None
    client_cert: Path | tuple[Path, Path] | None = None
    insecure: bool = False
    jobs: int = 4
    debug: Callable[[str], None] | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    _clock: Clock = field(default_factory=Clock, repr=False, compare=False)
    """The time source; tests replace it."""
