"""Text from outside, made fit to stand in a sentence of ours.

What a registry, an archive, a zTOC, an image or another program says is data: it is shown between
quotes or as a bare name, on one line, without characters that a terminal obeys or that hide or
reorder others, and cut to a length. So it cannot be taken for our own words.
"""

from __future__ import annotations

import re

MAX_QUOTED_LEN = 200
"""Characters of a text that are shown."""
MAX_NAME_LEN = 400
"""Characters of a name that are shown; of a longer path the end alone would tell little."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=~^#-]+")
"""Names that cannot be taken for anything else: no blank, no quote, ASCII alone."""
_CUT = "…"
_FIRST_BYTE, _LAST_BYTE = "\udc80", "\udcff"
"""What ``surrogateescape`` makes of bytes that are not UTF-8."""


def quoted(text: str, *, limit: int = MAX_QUOTED_LEN) -> str:
    r"""Return `text` in double quotes, on one line, cut to `limit` characters.

    Control characters, format characters such as those that reverse the direction of text, and line
    separators are escaped as in Python (``\n``, ``\x1b``, ``\u202e``), as are quotes and
    backslashes; a byte that is not UTF-8 is ``\xff``.
    """
    cut = text[:limit].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped(cut)}{_CUT if len(text) > limit else ""}"'


def shown(name: str, *, limit: int = MAX_NAME_LEN) -> str:
    """Return `name` as it is if it is plain, such as ``/etc/passwd``, and `quoted` otherwise."""
    if len(name) <= limit and _PLAIN.fullmatch(name):
        return name
    return quoted(name, limit=limit)


def escaped(text: str) -> str:
    """Return `text` with everything that is not printable escaped, of whatever length."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if _FIRST_BYTE <= character <= _LAST_BYTE:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
