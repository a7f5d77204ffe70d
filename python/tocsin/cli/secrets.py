"""Hides passwords in all output if they were given on the command line, where they do not belong.

The messages of this package never contain passwords, but click repeats unexpected arguments in its
errors, and the system repeats paths that do not exist.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_HIDDEN = "***"
_MAX_LEN = 60
"""Number of characters to search for: messages may truncate longer passwords."""

_patterns: list[re.Pattern[str]] = []


def remember(words: Iterable[str]) -> None:
    """Find user names and passwords in a command line; `hide` removes them from text.

    Secrets from a previous command line are forgotten.
    """
    _patterns.clear()
    suspects = [word for word in words if "@" in word]
    if not suspects:
        return
    from tocsin.model.reference import split_path  # noqa: PLC0415 (rarely needed)
    from tocsin.model.user_info import user_info  # noqa: PLC0415
    from tocsin.quoting import quoted  # noqa: PLC0415

    for word in suspects:
        value = word.partition("=")[2] if word.startswith("-") else word
        secret = user_info(split_path(value)[0])
        if secret:
            spellings = {secret, quoted(secret, limit=len(secret)).strip('"'), repr(secret)[1:-1]}
            _patterns.extend(map(_pattern, spellings))


def hide(text: str) -> str:
    """Return `text` without the secrets that `remember` found."""
    for pattern in _patterns:
        text = pattern.sub(f"{_HIDDEN}@", text)
    return text


def hide_in(value: object) -> object:
    """Return a JSON value without the secrets that `remember` found."""
    match value:
        case str():
            return hide(value)
        case dict():
            return {key: hide_in(each) for key, each in value.items()}
        case list() | tuple():
            return [hide_in(each) for each in value]
    return value


def _pattern(secret: str) -> re.Pattern[str]:
    if len(secret) <= _MAX_LEN:
        return re.compile(f"{re.escape(secret)}@")
    return re.compile(rf"{re.escape(secret[:_MAX_LEN])}[^\s\"']*@?")
