"""containerd's filters for lists of snapshots, such as ``kind==active,labels.name==value``.

The operators are ``==``, ``!=``, ``~=`` for regular expressions, and presence. containerd itself
applies the filters of its clients, so that these come from programs that use the socket directly. A
regular expression that is not valid is an error here; in containerd, it matches nothing.

Source: containerd/containerd, pkg/filters/parser.go; containerd/containerd, pkg/filters/quote.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from tocsin.mounting.snapshotter.problems import SnapshotArgumentError
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.mounting.snapshotter.snapshot import Snapshot

_MAX_LEN = 16 << 10
"""Maximum characters in a filter; containerd's has a chain ID and a key."""
_MAX_REGEX_MEMORY = 256 << 10
"""Bytes that a compiled regular expression may need; that also limits the steps of each match."""
_QUOTED = r'"(?:[^"\\\n]|\\.)*+"'
_TOKEN = re.compile(
    rf"""\s*(?:
        (?P<quoted>{_QUOTED})
        | (?P<operator>[=!~]+)
        | (?P<separator>[,.])
        | (?P<word>[A-Za-z0-9_]+)
    )""",
    re.VERBOSE,
)
_WORD = r"""(?![.=!~"/|])[^\s,]+"""
_VALUE = re.compile(rf"\s*(?:(?P<quoted>{_QUOTED})|(?P<word>{_WORD}))")
# Regular expressions may also be between slashes or bars.
_PATTERN = re.compile(
    rf"\s*(?:(?P<quoted>{_QUOTED}|/(?:[^/\\\n]|\\.)*+/|\|(?:[^|\\\n]|\\.)*+\|)|(?P<word>{_WORD}))"
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\])|([0-3][0-7]{2})|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))"
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\",
}  # fmt: skip
_REGEX = "~="
_OPERATORS = ("==", "!=", _REGEX)


@dataclass(frozen=True, slots=True)
class _Selector:
    path: tuple[str, ...]
    operator: str | None
    value: str
    search: Callable[[str], object] | None = None

    def matches(self, snapshot: Snapshot) -> bool:
        found = _field(snapshot, self.path)
        if self.operator is None:
            return found is not None
        if self.search is not None:
            return self.search(found or "") is not None
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
            self._fail(f"operator {quoted(operator)} is not supported (expected ==, != or ~=)")
        if operator != _REGEX:
            return _Selector(tuple(path), operator, self._value(_VALUE))
        pattern = self._value(_PATTERN)
        return _Selector(tuple(path), operator, pattern, self._searcher(pattern))

    def _searcher(self, pattern: str) -> Callable[[str], object]:
        """Return what searches a text for a regular expression in linear time, as Go does."""
        try:
            re2: Any = import_module("re2")
        except ImportError:
            self._fail(f"operator {quoted(_REGEX)} needs the package google-re2")
        options = re2.Options()
        options.max_mem = _MAX_REGEX_MEMORY
        options.never_capture = True
        options.log_errors = False
        try:
            compiled = re2.compile(pattern, options)
        except re2.error:
            self._fail(
                f"regular expression {quoted(pattern)} is not valid, or needs too much memory"
            )
        search: Callable[[str], object] = compiled.search
        return search

    def _name(self) -> str:
        found = _TOKEN.match(self._text, self._position)
        if found is None or found.lastgroup not in ("word", "quoted"):
            self._fail("expected a field")
        self._position = found.end()
        text = found[found.lastgroup]
        return self._unquoted(text) if found.lastgroup == "quoted" else text

    def _value(self, kinds: re.Pattern[str]) -> str:
        found = kinds.match(self._text, self._position)
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
            if other == text[0]:
                return text[0]
            if other:
                self._fail(f"unknown escape {quoted(found[0])}")
            byte, *character = hexadecimal
            try:
                if octal or byte:
                    value = bytes([int(octal, 8) if octal else int(byte, 16)])
                    return value.decode(errors="surrogateescape")
                named = chr(int(next(filter(None, character)), 16))
                named.encode()  # half of a surrogate pair is not a character
            except (ValueError, OverflowError):
                self._fail(f"unknown escape {quoted(found[0])}")
            return named

        try:
            # Escaped bytes that are characters together become these.
            return _ESCAPE.sub(escape, text[1:-1]).encode(errors="surrogateescape").decode()
        except UnicodeError:
            self._fail("the escaped bytes are not UTF-8")

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
