"""Results of a run: what is done, what is not, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tocsin.model.document import seconds_of
from tocsin.stores.metering import Traffic

if TYPE_CHECKING:
    from tocsin.model.document import Document

PENDING, DONE, SKIPPED, FAILED = "pending", "done", "skipped", "failed"
"""States of a layer or an image. Failed ones are tried again when the run is resumed."""


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """How many layers or images are in each state.

    Attributes:
        pending: not finished yet.
        done: indexed.
        skipped: will not be indexed, for a reason that does not change.
        failed: failed in the last run; a resumed run tries again.
    """

    pending: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.pending + self.done + self.skipped + self.failed

    def to_dict(self) -> Document:
        """Return the counts as ``--json`` prints them."""
        return {
            "total": self.total,
            "pending": self.pending,
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
        }


@dataclass(frozen=True, slots=True)
class FleetProblem:
    """Why an image is not indexed.

    Attributes:
        image: the image.
        state: ``skipped`` or ``failed``.
        code: error code, such as ``registry.auth``; empty if no error was the reason.
        reason: the reason, on one line.
    """

    image: str
    state: str
    code: str
    reason: str

    def to_dict(self) -> Document:
        """Return the problem as ``--json`` prints it."""
        return {
            "image": self.image,
            "state": self.state,
            "code": self.code,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """State of a plan, from its journal.

    Attributes:
        plan: fingerprint of the plan.
        images: images by state.
        layers: unique layers by state.
        read_size: compressed bytes of all layers that the plan reads.
        read: compressed bytes of those that are done.
        traffic: bytes that all runs of the journal read and wrote, without tasks that failed.
        problems: images that were skipped or failed.
    """

    plan: str
    images: FleetCounts
    layers: FleetCounts
    read_size: int
    read: int
    traffic: Traffic
    problems: tuple[FleetProblem, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether no image is pending or failed."""
        return not self.images.pending and not self.images.failed

    def to_dict(self) -> Document:
        """Return what ``tocsin fleet status --json`` prints."""
        return {
            "plan": self.plan,
            "complete": self.is_complete,
            "images": self.images.to_dict(),
            "layers": self.layers.to_dict(),
            "read_size": self.read_size,
            "read": self.read,
            "traffic": self.traffic.to_dict(),
            "problems": [problem.to_dict() for problem in self.problems],
        }


@dataclass(frozen=True, slots=True)
class FleetResult:
    """Result of a run.

    Attributes:
        status: state at the end.
        seconds: wall time of this run.
        stopped: ``max-bytes`` if the run ended because of that limit; ``None`` otherwise.
    """

    status: FleetStatus
    seconds: float
    stopped: str | None = None

    def to_dict(self) -> Document:
        """Return what ``tocsin fleet run --json`` prints."""
        return {
            **self.status.to_dict(),
            "seconds": seconds_of(self.seconds),
            "stopped": self.stopped,
        }


@dataclass(frozen=True, slots=True)
class FleetAdvanced:
    """Progress of a run: sent at its start, and each time a layer or an image is finished.

    Attributes:
        images: images by state.
        layers: unique layers by state.
        read: compressed bytes of the layers that are done.
        read_size: compressed bytes of all layers that the plan reads.
        finished: the layer's digest or the image's name; empty at the start.
        state: its state.
        reason: why it was skipped or failed.
    """

    images: FleetCounts
    layers: FleetCounts
    read: int
    read_size: int
    finished: str = ""
    state: str = ""
    reason: str = ""


FleetProgress: TypeAlias = Callable[[FleetAdvanced], None]
"""A callback for the progress of a run, called from the thread that called ``run``.

An exception that it raises stops the run as Ctrl-C does.
"""


def total_of(one: Traffic, other: Traffic) -> Traffic:
    """Return the sum of two traffics."""
    return Traffic(
        *(getattr(one, name) + getattr(other, name) for name in Traffic.__slots__),
    )
