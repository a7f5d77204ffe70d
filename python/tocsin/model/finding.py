"""A problem or difference reported by ``verify``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.model.document import Document


class Severity(StrEnum):
    """The severity of a finding.

    An error means that the index is wrong or unusable. A warning may cause problems with some
    readers or registries. A note is a harmless difference.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem or difference reported by ``verify``.

    Attributes:
        kind: a stable code, such as ``ztoc.window``; its first part is the object concerned.
        message: a sentence that names the digest, file, span or checkpoint.
        severity: how serious the finding is.
        expected: the expected value as text; ``None`` if there is no single value.
        actual: the value found; ``None`` if there is no single value.
    """

    kind: str
    message: str
    severity: Severity = Severity.ERROR
    expected: str | None = None
    actual: str | None = None

    def to_dict(self) -> Document:
        """Return the finding as printed by ``--json``."""
        return {
            "kind": self.kind,
            "severity": str(self.severity),
            "message": self.message,
            "expected": self.expected,
            "actual": self.actual,
        }
