"""``tocsin ztoc ls``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import click

from tocsin.cli import streams, words
from tocsin.cli.command import command
from tocsin.cli.commands.ztoc.reading import LIST_ENTRIES, read_ztoc
from tocsin.cli.options import output_options
from tocsin.errors import NotFoundError
from tocsin.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.cli.output import Output
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.file_metadata import FileMetadata

_TYPE_BITS = {
    "reg": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
}
_MINUTES = len("2024-01-31T23:59")


@command(summary="List the entries of a layer.")
@click.argument("file")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option(
    "-l", "--long", is_flag=True, help="Show mode, owner, size, time (UTC) and link target."
)
@click.option("-0", "--null", is_flag=True, help="End names with a NUL byte and escape nothing.")
@output_options
def ls(*, file: str, paths: tuple[str, ...], long: bool, null: bool, output: Output) -> None:
    r"""List the entries of a layer, in the order of its tar.

    FILE is the zTOC of the layer; - for stdin. With PATHs, only entries at or below them are
    listed. Control characters and backslashes in names are escaped (\n, \x1b, \\).

    Examples:
      tocsin ztoc ls layer.ztoc -l usr/bin
      tocsin ztoc ls layer.ztoc -0 | xargs -0 ...

    JSON keys: ztoc (its digest), entries[]: name, type, linkname, uncompressed_offset,
    uncompressed_size, first_span, end_span (half-open), mode, uid, gid, uname, gname, mod_time,
    devmajor, devminor, pax_records.
    """
    if null and (long or output.json):
        raise click.UsageError("--null cannot be combined with --long or --json")
    ztoc = read_ztoc(file)
    chosen = _chosen(ztoc, paths)
    if output.json:
        spans = ztoc.files[["first_span", "end_span"]].tolist()
        entries = [
            {**ztoc.entries[at].to_dict(), "first_span": spans[at][0], "end_span": spans[at][1]}
            for at in chosen
        ]
        output.document({"ztoc": ztoc.digest, "entries": entries})
    elif long:
        for line in _long_lines([ztoc.entries[at] for at in chosen]):
            output.line(line)
    else:
        names = ztoc.paths
        for at in chosen:
            if null:
                streams.write_bytes(os.fsencode(names[at]) + b"\0")
            else:
                output.line(words.escaped(names[at]))


def _chosen(ztoc: Ztoc, paths: tuple[str, ...]) -> Sequence[int]:
    """Return the positions of the entries at or below `paths`.

    Raises:
        NotFoundError: a path has no entries.
    """
    from tocsin.model.entry_path import clean_path  # noqa: PLC0415 (not for --help)

    names = ztoc.paths
    if not paths:
        return range(len(names))
    cleaned = [f"{clean_path(name)}/" for name in names]
    chosen: set[int] = set()
    for path in paths:
        below = f"{clean_path(path)}/"
        found = [at for at, name in enumerate(cleaned) if below == "/" or name.startswith(below)]
        if not found:
            raise NotFoundError(f"{shown(path)}: no such entry in the zTOC", hint=LIST_ENTRIES)
        chosen.update(found)
    return sorted(chosen)


def _long_lines(entries: Sequence[FileMetadata]) -> Iterator[str]:
    owners = [f"{entry.uname or entry.uid}/{entry.gname or entry.gid}" for entry in entries]
    sizes = [_size(entry) for entry in entries]
    owner_width = max(map(len, owners), default=0)
    size_width = max(map(len, sizes), default=0)
    for entry, owner, size in zip(entries, owners, sizes, strict=True):
        time = entry.mod_time[:_MINUTES].replace("T", " ") or words.NOTHING
        yield (
            f"{_mode(entry)} {words.escaped(owner):<{owner_width}} {size:>{size_width}} "
            f"{time:<{_MINUTES}} {words.escaped(entry.name)}{_target(entry)}"
        )


def _mode(entry: FileMetadata) -> str:
    if entry.type == "hardlink":
        return "h" + stat.filemode(stat.S_IMODE(entry.mode))[1:]
    return stat.filemode(_TYPE_BITS[entry.type] | stat.S_IMODE(entry.mode))


def _size(entry: FileMetadata) -> str:
    if entry.type in ("char", "block"):
        return f"{entry.devmajor},{entry.devminor}"
    return str(entry.uncompressed_size)


def _target(entry: FileMetadata) -> str:
    if entry.type == "symlink":
        return f" -> {words.escaped(entry.linkname)}"
    return f" link to {words.escaped(entry.linkname)}" if entry.type == "hardlink" else ""
