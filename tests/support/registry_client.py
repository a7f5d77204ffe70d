"""Stores of in-process registries, with a clock that never sleeps."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tocsin.model.reference import RegistryReference
from tocsin.stores.http.clock import Clock
from tocsin.stores.registry import RegistryOptions, RegistryStore, open_repository

if TYPE_CHECKING:
    from support.registry import Registry


def noise(size: int, seed: int = 7) -> bytes:
    """Return reproducible bytes that do not compress."""
    return random.Random(seed).randbytes(size)  # noqa: S311 (not a secret)


@dataclass
class FakeTime:
    """A clock that advances on every sleep, and by one of `steps` on every read."""

    now: float = 1000.0
    steps: list[float] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        self.now += self.steps.pop(0) if self.steps else 0.0
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def clock(self) -> Clock:
        return Clock(
            monotonic=self.monotonic,
            wall=lambda: 1_700_000_000.0 + self.now,
            sleep=self.sleep,
            jitter=lambda: 0.5,
        )


def store_of(
    registry: Registry,
    repository: str = "team/app",
    *,
    time: FakeTime | None = None,
    write: bool = False,
    **options: Any,
) -> RegistryStore:
    """Return a store for `repository`; `options` are those of `RegistryOptions`."""
    clock = (time or FakeTime()).clock
    return open_repository(
        RegistryReference(registry.host, repository),
        RegistryOptions(_clock=clock, **options),
        write=write,
    )
