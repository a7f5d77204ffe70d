"""One thing that ``verify`` found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.model.document import Document


class Severity(StrEnum):
    """How much a finding matters.

    Only an error makes an index untrue or useless; a warning is something a reader or a registry
    may stumble over, a note a harmless difference.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a stable word, such as ``ztoc.window``; what it is about comes before the dot.
        message: a sentence that names the digest, file, span or checkpoint.
        severity: how much it matters.
        expected: what it must be, as text, where there is one such value.
        actual: what it is.
    """

    kind: str
    message: str
    severity: Severity = Severity.ERROR
    expected: str | None = None
    actual: str | None = None

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a finding."""
        return {
            "kind": self.kind,
            "severity": str(self.severity),
            "message": self.message,
            "expected": self.expected,
            "actual": self.actual,
        }
