"""The result of one check of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.model.document import Document


class State(StrEnum):
    """What a check found.

    Attributes:
        OK: this works.
        LIMITED: mounting works, but not everything that it can be combined with.
        UNKNOWN: the machine does not show whether this works; mounting does not depend on it.
        FAILED: mounting does not work.
    """

    OK = "ok"
    LIMITED = "limited"
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: a stable word.
        state: whether it works.
        found: what was found, and what it means, on one line.
        fix: the command that helps, or what to do; ``None`` if nothing has to be done.
    """

    name: str
    state: State
    found: str
    fix: str | None = None

    def to_dict(self) -> Document:
        """Return the document; see docs/json.md."""
        return {
            "name": self.name,
            "state": str(self.state),
            "found": self.found,
            "fix": self.fix,
        }
