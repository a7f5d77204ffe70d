"""Writes lists of an image's files, one file per line."""

from __future__ import annotations

import os
import stat
from itertools import islice
from typing import TYPE_CHECKING

from tocsin.cli import streams, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tocsin.cli.output import Output
    from tocsin.reading.stat import FileStat

_TIME = "%Y-%m-%d %H:%M"
_BATCH = 1024
"""Names per write; a name has at most 4 KiB, so a write is at most 4 MiB."""


def write_listing(
    found: Iterable[FileStat],
    output: Output,
    *,
    name_of: Callable[[FileStat], str],
    long: bool = False,
    human: bool = False,
    null: bool = False,
) -> None:
    """Write one line per file.

    Args:
        found: the files to list.
        output: where to write.
        name_of: returns the name to show for a file.
        long: add mode, owner, size, time and link target.
        human: show sizes with units.
        null: end each name with a NUL byte and escape nothing.
    """
    if long:
        for line in _long_lines(list(found), name_of, words.size if human else str):
            output.line(line)
        return
    write_names((name_of(file) for file in found), null=null)


def write_names(names: Iterable[str], *, null: bool = False) -> None:
    """Write one line per name.

    Args:
        names: names before escaping.
        null: end each name with a NUL byte and escape nothing.
    """
    rest = iter(names)
    while batch := list(islice(rest, _BATCH)):
        if null:
            streams.write_bytes(os.fsencode("\0".join([*batch, ""])))
        else:
            # A single check for the whole batch: names rarely need escaping.
            if not words.is_plain("".join(batch)):
                batch = list(map(words.escaped, batch))
            streams.write_text("\n".join([*batch, ""]))


def owner(file: FileStat) -> str:
    """Return an owner such as ``root/staff``; IDs replace missing names."""
    return f"{file.uname or file.uid}/{file.gname or file.gid}"


def size(file: FileStat, form: Callable[[int], str] = str) -> str:
    """Return the size of a file, or the major and minor number of a device."""
    if file.type in ("char", "block"):
        return f"{file.devmajor},{file.devminor}"
    return form(file.size)


def _long_lines(
    files: list[FileStat], name_of: Callable[[FileStat], str], form: Callable[[int], str]
) -> Iterator[str]:
    owners = [words.escaped(owner(file)) for file in files]
    sizes = [size(file, form) for file in files]
    owner_width = max(map(len, owners), default=0)
    size_width = max(map(len, sizes), default=0)
    for file, owned, sized in zip(files, owners, sizes, strict=True):
        target = f" -> {words.escaped(file.linkname)}" if file.is_symlink else ""
        yield (
            f"{stat.filemode(file.st_mode)} {owned:<{owner_width}} {sized:>{size_width}} "
            f"{file.mtime.strftime(_TIME)} {words.escaped(name_of(file))}{target}"
        )
