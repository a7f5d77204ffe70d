"""``tocsin find``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.image_files import image_options, one_path
from tocsin.cli.listing import write_listing, write_names
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.image_files import ImageOpening
    from tocsin.cli.output import Output
    from tocsin.cli.parameters import Place
    from tocsin.reading.tree import Row

_TYPES = {"f": "file", "d": "dir", "l": "symlink", "p": "fifo", "c": "char", "b": "block"}


@command(summary="Find files of an image by name, type or size.")
@click.argument("place", metavar="IMAGE", type=parameters.place)
@click.argument("path", required=False)
@click.option("-name", "--name", metavar="GLOB", help="Match the file name against GLOB.")
@click.option(
    "-type",
    "--type",
    "kind",
    type=click.Choice(list(_TYPES)),
    help="Match the type: file, directory, link, pipe, character or block device.",
)
@click.option(
    "-size",
    "--size",
    "sized",
    type=parameters.size_test,
    metavar="[+-]SIZE",
    help="Match files larger (+SIZE) or smaller (-SIZE) than SIZE, or of exactly SIZE.",
)
@click.option(
    "-l", "--long", is_flag=True, help="Show mode, owner, size, time (UTC) and link target."
)
@click.option("--human", is_flag=True, help="With --long, show sizes with units, such as 1.2 MiB.")
@click.option("-0", "--null", is_flag=True, help="End paths with a NUL byte and escape nothing.")
@image_options
@output_options
def find(
    *,
    place: Place,
    path: str | None,
    name: str | None,
    kind: str | None,
    sized: Callable[[int], bool] | None,
    long: bool,
    human: bool,
    null: bool,
    opening: ImageOpening,
    output: Output,
) -> None:
    r"""Find files of IMAGE by name, type or size.

    Prints the matching paths at or below PATH in sorted order. PATH defaults to the root. If layers
    have zTOCs, only the zTOCs are read. Symbolic links below PATH are not followed. Control
    characters and backslashes in names are escaped (\n, \x1b, \\).

    Examples:
      tocsin find ghcr.io/team/app:1 /usr -name '*.so*' -type f
      tocsin find ghcr.io/team/app:1 -size +100M -l --human
      tocsin find oci:images:app:/srv --type l --json

    JSON keys: image, path, entries[]: path, type, size, mode, uid, gid, uname, gname, mtime_ns,
    linkname, devmajor, devminor, xattrs, inode, layer (its digest).
    """
    if null and (long or output.json):
        raise click.UsageError("--null cannot be combined with --long or --json")

    def passes(row: Row) -> bool:
        path, of_type, size, _ = row
        return (
            (name is None or fnmatchcase(path.rpartition("/")[2] or "/", name))
            and (kind is None or of_type == _TYPES[kind])
            and (sized is None or (of_type == "file" and sized(size)))
        )

    from tocsin.reading.files import merged_of  # noqa: PLC0415 (not for --help)

    wanted = one_path(place, path)
    with opening.open(place.reference, output) as image:
        merged = merged_of(image)
        rows = filter(passes, chain.from_iterable(merged.tree.rows(wanted)))
        if not long and not output.json:
            write_names((row[0] for row in rows), null=null)
            return
        found = map(merged.stat_row, rows)
        if output.json:
            entries = [file.to_dict() for file in found]
            output.document({"image": str(place.reference), "path": wanted, "entries": entries})
            return
        write_listing(found, output, name_of=lambda file: file.path, long=True, human=human)
