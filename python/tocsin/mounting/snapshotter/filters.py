"""containerd's filters for lists of snapshots, such as ``kind==active,labels.name==value``.

The operators are ``==``, ``!=`` and presence. Regular expressions (``~=``) are refused: Go's syntax
differs from Python's, and containerd sends none to snapshotters.

Source: containerd/containerd, pkg/filters/parser.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from tocsin.mounting.snapshotter.problems import SnapshotArgumentError
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.mounting.snapshotter.snapshot import Snapshot

_MAX_LEN = 16 << 10
"""Maximum characters in a filter; containerd's has a chain ID and a key."""
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"(?:[^"\\\n]|\\.)*+")
        | (?P<operator>[=!~]+)
        | (?P<separator>[,.])
        | (?P<word>[A-Za-z0-9_]+)
    )""",
    re.VERBOSE,
)
_VALUE = re.compile(r"""\s*(?:(?P<quoted>"(?:[^"\\\n]|\\.)*+")|(?P<word>[^\s,"]+))""")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"])|([0-7]{3})|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))"
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\",
    '"': '"',
}  # fmt: skip
_OPERATORS = ("==", "!=")


@dataclass(frozen=True, slots=True)
class _Selector:
    path: tuple[str, ...]
    operator: str | None
    value: str

    def matches(self, snapshot: Snapshot) -> bool:
        found = _field(snapshot, self.path)
        if self.operator is None:
            return found is not None
        if self.operator == "==":
            return found == self.value
        return (found or "") != self.value


def parse_filters(texts: Sequence[str]) -> Callable[[Snapshot], bool]:
    """Return a function that checks whether any of the filters matches; without filters, all do.

    Raises:
        SnapshotArgumentError: a filter is not valid or not supported.
    """
    filters = [_Parser(text).selectors() for text in texts]
    if not filters:
        return lambda _snapshot: True
    return lambda snapshot: any(
        all(selector.matches(snapshot) for selector in each) for each in filters
    )


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > _MAX_LEN:
            raise SnapshotArgumentError(
                f"filter too long (found {len(text)} characters, expected at most {_MAX_LEN})"
            )
        self._text = text
        self._position = 0

    def selectors(self) -> list[_Selector]:
        if not self._text:
            return []  # matches everything
        selectors = [self._selector()]
        while not self._at_end():
            self._expect(",")
            selectors.append(self._selector())
        return selectors

    def _selector(self) -> _Selector:
        path = [self._name()]
        while self._peek() == ".":
            self._expect(".")
            path.append(self._name())
        if self._at_end() or self._peek() == ",":
            return _Selector(tuple(path), None, "")
        operator = self._next(_TOKEN, "operator")
        if operator not in _OPERATORS:
            self._fail(f"operator {quoted(operator)} is not supported (expected == or !=)")
        return _Selector(tuple(path), operator, self._value())

    def _name(self) -> str:
        found = _TOKEN.match(self._text, self._position)
        if found is None or found.lastgroup not in ("word", "quoted"):
            self._fail("expected a field")
        self._position = found.end()
        text = found[found.lastgroup]
        return self._unquoted(text) if found.lastgroup == "quoted" else text

    def _value(self) -> str:
        found = _VALUE.match(self._text, self._position)
        if found is None:
            self._fail("expected a value")
        self._position = found.end()
        if found["quoted"] is not None:
            return self._unquoted(found["quoted"])
        return found["word"]

    def _unquoted(self, text: str) -> str:
        def escape(found: re.Match[str]) -> str:
            simple, octal, *hexadecimal, other = found.groups()
            if simple:
                return _SIMPLE[simple]
            if other:
                self._fail(f"unknown escape {quoted(found[0])}")
            number = int(octal, 8) if octal else int(next(filter(None, hexadecimal)), 16)
            try:
                character = chr(number)
                character.encode()  # half of a surrogate pair is not a character
            except (ValueError, OverflowError):
                self._fail(f"unknown escape {quoted(found[0])}")
            return character

        return _ESCAPE.sub(escape, text[1:-1])

    def _peek(self) -> str | None:
        found = _TOKEN.match(self._text, self._position)
        return found["separator"] if found else None

    def _expect(self, separator: str) -> None:
        if self._next(_TOKEN, "separator") != separator:
            self._fail(f"expected {quoted(separator)}")

    def _next(self, pattern: re.Pattern[str], group: str) -> str:
        found = pattern.match(self._text, self._position)
        if found is None or found[group] is None:
            self._fail(f"expected an {group}" if group == "operator" else f"expected a {group}")
        self._position = found.end()
        return found[group]

    def _at_end(self) -> bool:
        return not self._text[self._position :].strip()

    def _fail(self, problem: str) -> NoReturn:
        raise SnapshotArgumentError(
            f"filter {quoted(self._text)}: {problem}, at character {self._position}"
        )


def _field(snapshot: Snapshot, path: tuple[str, ...]) -> str | None:
    match path:
        case ("kind",):
            return snapshot.kind.word
        case ("name",):
            return snapshot.key
        case ("parent",):
            return snapshot.parent
        case ("labels", *name):
            return snapshot.labels.get(".".join(name))
    return None
