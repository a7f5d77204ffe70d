r"""Results as documents: what each ``to_dict`` returns, and ``--json`` prints; see docs/json.md.

Keys are stable: new ones may come, none goes or changes its meaning. Sizes are bytes, times are
seconds, digests whole. A key without a value is ``None``, a list without elements empty; no key is
left out. Names that are not UTF-8 hold lone surrogates (``\udc80`` to ``\udcff``, one a byte), as
Python's ``surrogateescape`` makes them.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

Document: TypeAlias = dict[str, Any]
"""Only ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``."""


class _Result(Protocol):
    def to_dict(self) -> Document: ...


def document_of(value: _Result | None) -> Document | None:
    """Return the document of a value that may be missing."""
    return None if value is None else value.to_dict()


def seconds_of(seconds: float) -> float:
    """Return a duration as documents have it: to the millisecond."""
    return round(seconds, 3)


def text_of(value: object | None) -> str | None:
    """Return as ``str`` does what may be missing."""
    return None if value is None else str(value)


def escaped_text(data: bytes) -> str:
    """Return bytes as text; those that are not UTF-8 become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")
