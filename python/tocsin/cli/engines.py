"""Executors for ``--engine``: the only module that knows Dask."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from tocsin.errors import EngineError, UnsupportedError
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

THREADS = "threads"
_DASK = re.compile(r"dask://([^/?#@\s]+:[0-9]{1,5})/?")
_CONNECT_TIMEOUT = 15
"""Seconds to wait for the scheduler."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where the tasks of a fleet run.

    Attributes:
        executor: the executor; ``None`` for threads of this process.
        slots: tasks that it runs at the same time; ``None`` if that is decided elsewhere.
    """

    executor: Executor | None = None
    slots: int | None = None


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """Return the engine that a URL names.

    Raises:
        UnsupportedError: Dask is not installed.
        EngineError: the scheduler cannot be reached, or has no workers.
    """
    if url == THREADS:
        yield Engine()
        return
    match = _DASK.fullmatch(url)
    if match is None:
        raise click.UsageError(
            f"--engine: unknown engine {quoted(url, limit=80)} (expected threads or "
            "dask://HOST:PORT)"
        )
    with _dask_client(f"tcp://{match[1]}", url) as client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise EngineError(f"{url}: the scheduler has no workers", hint="Start dask worker.")
        # Each task has its own key and its effects are elsewhere, so no result is shared.
        yield Engine(client.get_executor(pure=False, retries=0), threads)


@contextmanager
def _dask_client(address: str, url: str) -> Iterator[Any]:
    try:
        from distributed import Client  # noqa: PLC0415 (an extra)
    except ImportError:
        raise UnsupportedError(
            f"{url}: Dask is not installed", hint="Install it with pip install 'tocsin[dask]'."
        ) from None
    try:
        client = Client(address, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise EngineError(
            f"{url}: the scheduler cannot be reached: {quoted(type(error).__name__)}",
            hint="Check the address, and that the scheduler and this machine have the same "
            "version of Dask.",
        ) from None
    with client:
        yield client
