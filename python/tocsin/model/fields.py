"""Typed access to the fields of a decoded JSON object.

As in Go's decoder, keys are case-insensitive, a missing or null field has the zero value, and a
value of the wrong type is an error. Unlike in Go, errors name the field, and sizes are limited.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any, Self

from tocsin.errors import FormatError
from tocsin.model.go_json import clean_text, kind_of
from tocsin.quoting import quoted

MAX_ENTRIES = 10_000
"""Maximum elements in a list and entries in a map; real images have a few hundred at most."""

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_INT64_MAX = (1 << 63) - 1


class Fields:
    """The fields of one JSON object.

    Attributes:
        what: value of `FormatError.what` in all errors.
        place: path of the object, such as ``layers[3]``; empty for the whole document.
    """

    __slots__ = ("_values", "place", "what")

    def __init__(self, values: dict[str, Any], *, what: str, place: str = "") -> None:
        self._values = {_fold(key): value for key, value in values.items()}
        self.what = what
        self.place = place

    def __contains__(self, name: str) -> bool:
        return self._values.get(_fold(name)) is not None

    def error(self, name: str, problem: str) -> FormatError:
        """Return the error for a problem with the field `name`."""
        at = ".".join(part for part in (self.place, name) if part)
        return FormatError(f"{self.what}: {at}: {problem}", what=self.what, offset=at)

    def text(self, name: str) -> str:
        """Return a string; empty if missing."""
        return clean_text(self._of_type(name, str, "string") or "")

    def integer(self, name: str) -> int:
        """Return a 64-bit integer; 0 if missing."""
        value = self._of_type(name, int, "integer") or 0
        if isinstance(value, bool) or not -_INT64_MAX - 1 <= value <= _INT64_MAX:
            raise self.error(name, f"found {value!s:.40}, expected a 64-bit integer")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; empty if missing."""
        values = self._array(name) or []
        return tuple(self._text_in(value, f"{name}[{i}]") for i, value in enumerate(values))

    def base64(self, name: str) -> bytes:
        """Return base64-encoded bytes; empty if missing."""
        text = self.text(name).replace("\r", "").replace("\n", "")  # Go skips line breaks
        if not _BASE64.fullmatch(text):
            raise self.error(name, "invalid base64")
        return b64decode(text)

    def text_map(self, name: str) -> dict[str, str]:
        """Return a map of strings in document order; empty if missing."""
        values = self._of_type(name, dict, "object") or {}
        if len(values) > MAX_ENTRIES:
            raise self.error(name, f"found {len(values)} entries, expected at most {MAX_ENTRIES}")
        return {
            clean_text(key): self._text_in(value, f"{name}[{quoted(key, limit=80)}]")
            for key, value in values.items()
        }

    def child(self, name: str) -> Self | None:
        """Return the fields of an object; ``None`` if missing."""
        values = self._of_type(name, dict, "object")
        return None if values is None else self._at(values, name)

    def children(self, name: str) -> list[Self] | None:
        """Return the fields of each object in a list; ``None`` if missing."""
        values = self._array(name)
        if values is None:
            return None
        found = []
        for i, value in enumerate(values):
            if not isinstance(value, dict):
                raise self.error(f"{name}[{i}]", f"found {kind_of(value)}, expected object")
            found.append(self._at(value, f"{name}[{i}]"))
        return found

    def _at(self, values: dict[str, Any], name: str) -> Self:
        place = ".".join(part for part in (self.place, name) if part)
        return type(self)(values, what=self.what, place=place)

    def _array(self, name: str) -> list[Any] | None:
        values: list[Any] | None = self._of_type(name, list, "array")
        if values is not None and len(values) > MAX_ENTRIES:
            raise self.error(name, f"found {len(values)} elements, expected at most {MAX_ENTRIES}")
        return values

    def _text_in(self, value: object, name: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(name, f"found {kind_of(value)}, expected string")
        return clean_text(value)

    def _of_type(self, name: str, kind: type, word: str) -> Any:  # noqa: ANN401 (JSON)
        value = self._values.get(_fold(name))
        if value is not None and not isinstance(value, kind):
            raise self.error(name, f"found {kind_of(value)}, expected {word}")
        return value


def _fold(name: str) -> str:
    return name.lower().replace("\u017f", "s")  # the two non-ASCII letters Go folds to ASCII
