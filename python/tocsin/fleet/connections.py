"""Connections that a process keeps from one task to the next; never pickled."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.stores.registry import KeptConnections, RegistryOptions

_CONNECTIONS_PER_HOST = 32
"""Connections per host that are kept; more are opened if more threads need them."""


class _OfProcess:
    """The connections of this process.

    Attributes:
        kept: the connections; ``None`` before the first task.
        of_parent: those of the process that forked this one. They are not closed: closing would
            end the TLS connections of the parent.
    """

    def __init__(self) -> None:
        self.kept: KeptConnections | None = None
        self.of_parent: list[KeptConnections] = []

    def after_fork(self) -> None:
        if self.kept is not None:
            self.of_parent.append(self.kept)
            self.kept = None


_PROCESS = _OfProcess()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PROCESS.after_fork)


def connections() -> KeptConnections:
    """Return new connections, for the caller to close."""
    # Importing the requests library is slow.
    from tocsin.stores.registry import KeptConnections  # noqa: PLC0415

    return KeptConnections()


def keeping_connections(
    options: RegistryOptions | None, kept: KeptConnections | None = None
) -> RegistryOptions:
    """Return the options with connections that stay open after a task.

    Args:
        options: options for access to registries; ``None`` for the defaults.
        kept: connections to use; ``None`` for those of this process.
    """
    from tocsin.stores.registry import RegistryOptions  # noqa: PLC0415 (as above)

    options = options or RegistryOptions()
    if kept is None:
        # If two threads come here first, both objects work, and one of them is used from then on.
        kept = _PROCESS.kept = _PROCESS.kept or connections()
    return replace(options, jobs=max(options.jobs, _CONNECTIONS_PER_HOST), _kept=kept)


def close_connections() -> None:
    """Close the connections of this process; tasks that still run connect again."""
    if _PROCESS.kept is not None:
        _PROCESS.kept.close()
