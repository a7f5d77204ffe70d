r"""Results as JSON documents, returned by ``to_dict`` and printed by ``--json``; see docs/json.md.

Keys are stable: new keys may be added, but none is removed or changes its meaning. Sizes are in
bytes, times in seconds, digests are not shortened. A missing value is ``None``, a list without
elements is empty; keys are never omitted. Names that are not UTF-8 contain lone surrogates
(``\udc80`` to ``\udcff``, one per byte), as in Python's ``surrogateescape``.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

Document: TypeAlias = dict[str, Any]
"""Only ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``."""


class _Result(Protocol):
    def to_dict(self) -> Document: ...


def document_of(value: _Result | None) -> Document | None:
    """Return the document of a value, or ``None`` for ``None``."""
    return None if value is None else value.to_dict()


def seconds_of(seconds: float) -> float:
    """Round a duration to milliseconds, as in all documents."""
    return round(seconds, 3)


def text_of(value: object | None) -> str | None:
    """Return ``str(value)``, or ``None`` for ``None``."""
    return None if value is None else str(value)


def escaped_text(data: bytes) -> str:
    """Decode bytes as UTF-8; invalid bytes become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")
