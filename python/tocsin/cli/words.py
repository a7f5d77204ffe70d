"""Formats numbers and names for users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin import quoting

if TYPE_CHECKING:
    from tocsin.model.digest import Digest

NOTHING = "\N{EN DASH}"
"""Placeholder for a missing value in a table."""
SHORT_LEN = 12
"""Hex digits of a shortened digest, as in Docker."""

_KIBI = 1024
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(byte_count: int) -> str:
    """Return a size such as ``512 B`` or ``81.2 MiB``."""
    if byte_count < _KIBI:
        return f"{byte_count} B"
    value = float(byte_count)
    for unit in _UNITS:
        value /= _KIBI
        if value < _KIBI - 0.05 or unit == _UNITS[-1]:
            break
    return f"{value:,.1f} {unit}"


def round_size(byte_count: int) -> str:
    """Return a size as `size` does, but without decimals if it is exact: ``4 MiB``."""
    return size(byte_count).replace(".0 ", " ") if byte_count % _KIBI == 0 else size(byte_count)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``1 span`` or ``1,234 entries``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Return ``80 ms``, ``1.2 s``, ``3 min 05 s`` or ``1 h 02 min``."""
    if seconds < 0.9995:  # noqa: PLR2004 (larger values round to 1000 ms)
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:  # noqa: PLR2004 (larger values round to 60.0 s)
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percent(part: int, whole: int) -> str:
    """Return a percentage such as ``98.7 %``; only exact values become ``100 %`` or ``0 %``."""
    if whole == 0:
        return NOTHING
    if part in (0, whole):
        return "100 %" if part else "0 %"
    tenths = part * 1000 // whole
    return f"{tenths // 10}.{tenths % 10} %" if tenths else "<0.1 %"


def short(digest: Digest | str) -> str:
    """Return the first 12 hex digits."""
    return str(digest).removeprefix("sha256:")[:SHORT_LEN]


def short_digest(digest: Digest | str) -> str:
    """Return ``sha256:`` and the first 12 hex digits."""
    return f"sha256:{short(digest)}"


def printable(text: str) -> str:
    """Return `text` with control characters escaped: the last safeguard before a terminal.

    Unlike `quoting.escaped`, it keeps surrogates, which stand for bytes that are not UTF-8: lists
    of names must be printed unchanged.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def escaped(name: str) -> str:
    """Return `name` as `printable` does, but double backslashes so that it can be decoded."""
    return printable(name.replace("\\", "\\\\"))


def is_plain(name: str) -> bool:
    """Return whether `name` is UTF-8 and contains nothing to escape."""
    return name.isprintable() and "\\" not in name


def _escaped(character: str) -> str:
    return character if "\udc80" <= character <= "\udcff" else quoting.escaped(character)


def pack(byte_count: int, layer_size: int) -> str:
    """Return ``with a pack of 9.2 MiB, 7.1 % of 130.5 MiB``."""
    share = f"{percent(byte_count, layer_size)} of {size(layer_size)}"
    return f"with a pack of {size(byte_count)}, {share}"


def seek_table(byte_count: int, layer_size: int) -> str:
    """Return ``seek table: 1.1 MiB, 1.4 % of 81.2 MiB``."""
    return (
        f"seek table: {size(byte_count)}, {percent(byte_count, layer_size)} of {size(layer_size)}"
    )
