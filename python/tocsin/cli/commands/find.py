"""``tocsin find``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.image_files import image_options, one_path
from tocsin.cli.listing import write_listing
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.image_files import ImageOpening
    from tocsin.cli.output import Output
    from tocsin.cli.parameters import Place
    from tocsin.reading.stat import FileStat

_TYPES = {"f": "file", "d": "dir", "l": "symlink", "p": "fifo", "c": "char", "b": "block"}


@command(summary="Find files of an image by name, type or size.")
@click.argument("place", metavar="IMAGE", type=parameters.place)
@click.argument("path", required=False)
@click.option("-name", "--name", metavar="GLOB", help="The last part of the path fits GLOB.")
@click.option(
    "-type",
    "--type",
    "kind",
    type=click.Choice(list(_TYPES)),
    help="File, directory, link, pipe, character or block device.",
)
@click.option(
    "-size",
    "--size",
    "sized",
    type=parameters.size_test,
    metavar="[+-]SIZE",
    help="Files of more (+), less (-) or exactly so many bytes; 4K, 1MiB.",
)
@click.option("-l", "--long", is_flag=True, help="Mode, owner, size, time (UTC), link target too.")
@click.option("--human", is_flag=True, help="With --long: sizes as 1.2 MiB.")
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
    r"""Print the paths at or below PATH of IMAGE that pass all tests, sorted.

    No bytes of layers are read, only their zTOCs. Symbolic links below PATH are not followed.
    Control characters and backslashes in names are escaped (\n, \x1b, \\).

    Examples:
      tocsin find ghcr.io/team/app:1 /usr -name '*.so*' -type f
      tocsin find ghcr.io/team/app:1 -size +100M -l --human
      tocsin find oci:images:app:/srv --type l --json

    JSON keys: image, path, entries[]: path, type, size, mode, uid, gid, uname, gname, mtime_ns,
    linkname, devmajor, devminor, xattrs, inode, layer (its digest).
    """
    if null and (long or output.json):
        raise click.UsageError("--null goes with neither --long nor --json")

    def passes(file: FileStat) -> bool:
        return (
            (name is None or fnmatchcase(file.name or "/", name))
            and (kind is None or file.type == _TYPES[kind])
            and (sized is None or (file.is_file and sized(file.size)))
        )

    wanted = one_path(place, path)
    with opening.open(place.reference, output) as image:
        found = filter(passes, image.find(wanted))
        if output.json:
            entries = [file.to_dict() for file in found]
            output.document({"image": str(place.reference), "path": wanted, "entries": entries})
            return
        write_listing(
            found, output, name_of=lambda file: file.path, long=long, human=human, null=null
        )
