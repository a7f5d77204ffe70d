"""Quoting of untrusted text for messages.

Text from a registry, an archive, a zTOC, an image or another program is printed in quotes or as a
plain name, on one line, cut to a maximum length, and without terminal control sequences or
characters that hide or reorder others. It cannot be mistaken for tocsin's own words.
"""

from __future__ import annotations

import re

MAX_QUOTED_LEN = 200
"""Maximum characters shown of a text."""
MAX_NAME_LEN = 400
"""Maximum characters shown of a name; enough for the full path of almost any file."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=~^#-]+")
"""Names that need no quotes: ASCII without spaces or quotes."""
_ELLIPSIS = "…"
_FIRST_BYTE, _LAST_BYTE = "\udc80", "\udcff"
"""The range to which ``surrogateescape`` maps bytes that are not UTF-8."""


def quoted(text: str, *, limit: int = MAX_QUOTED_LEN) -> str:
    r"""Return `text` in double quotes, on one line, cut to `limit` characters.

    Control characters, line separators and format characters, such as those that reverse the text
    direction, are escaped as in Python (``\n``, ``\x1b``, ``\u202e``), and so are quotes and
    backslashes. A byte that is not UTF-8 is written as ``\xff``.
    """
    cut = text[:limit].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped(cut)}{_ELLIPSIS if len(text) > limit else ""}"'


def shown(name: str, *, limit: int = MAX_NAME_LEN) -> str:
    """Return `name` unchanged if it is plain, such as ``/etc/passwd``, and `quoted` otherwise."""
    if len(name) <= limit and _PLAIN.fullmatch(name):
        return name
    return quoted(name, limit=limit)


def escaped(text: str) -> str:
    """Return `text` with all unprintable characters escaped; it is not cut."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if _FIRST_BYTE <= character <= _LAST_BYTE:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
