"""``tocsin ls``."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.image_files import image_options, one_path
from tocsin.cli.listing import write_listing, write_names
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.cli.image_files import ImageOpening
    from tocsin.cli.output import Output
    from tocsin.cli.parameters import Place
    from tocsin.reading.stat import FileStat


@command(summary="List a directory of an image.")
@click.argument("place", metavar="IMAGE", type=parameters.place)
@click.argument("path", required=False)
@click.option(
    "-l", "--long", is_flag=True, help="Show mode, owner, size, time (UTC) and link target."
)
@click.option("-R", "--recursive", is_flag=True, help="List everything below PATH, as full paths.")
@click.option("--human", is_flag=True, help="With --long, show sizes with units, such as 1.2 MiB.")
@click.option("-0", "--null", is_flag=True, help="End names with a NUL byte and escape nothing.")
@image_options
@output_options
def ls(
    *,
    place: Place,
    path: str | None,
    long: bool,
    recursive: bool,
    human: bool,
    null: bool,
    opening: ImageOpening,
    output: Output,
) -> None:
    r"""List a directory of IMAGE.

    PATH defaults to the root. The listing shows the merged file system of all layers. If layers
    have zTOCs, only the zTOCs are read. Symbolic links in PATH are followed. Control characters and
    backslashes in names are escaped (\n, \x1b, \\).

    Examples:
      tocsin ls -l ghcr.io/team/app:1 /usr/bin
      tocsin ls oci:images:app:/etc
      tocsin ls -R -0 ghcr.io/team/app:1 /srv | xargs -0 ...

    JSON keys: image, path, entries[]: path, type, size, mode, uid, gid, uname, gname, mtime_ns,
    linkname, devmajor, devminor, xattrs, inode, layer (its digest).
    """
    if null and (long or output.json):
        raise click.UsageError("--null cannot be combined with --long or --json")
    wanted = one_path(place, path)
    from tocsin.reading.files import merged_of  # noqa: PLC0415 (not for --help)

    with opening.open(place.reference, output) as image:
        if recursive and not long and not output.json:
            rows = chain.from_iterable(merged_of(image).tree.rows(wanted))
            below = islice(rows, 1 if image.is_dir(wanted) else 0, None)
            write_names((row[0] for row in below), null=null)
            return
        found: Iterable[FileStat] = image.find(wanted) if recursive else image.ls(wanted)
        if recursive and image.is_dir(wanted):
            found = islice(found, 1, None)  # skips the directory itself
        if output.json:
            entries = [file.to_dict() for file in found]
            output.document({"image": str(place.reference), "path": wanted, "entries": entries})
            return
        write_listing(
            found,
            output,
            name_of=lambda file: file.path if recursive else file.name or file.path,
            long=long,
            human=human,
            null=null,
        )
