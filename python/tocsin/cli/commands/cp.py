"""``tocsin cp``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, streams, words
from tocsin.cli.command import command
from tocsin.cli.commands.cat import write_file
from tocsin.cli.image_files import image_options
from tocsin.cli.options import output_options
from tocsin.cli.output_file import STDOUT
from tocsin.cli.progress import display_for, shown_on
from tocsin.errors import TocsinError

if TYPE_CHECKING:
    from tocsin.cli.image_files import ImageOpening
    from tocsin.cli.output import Output
    from tocsin.cli.parameters import Place
    from tocsin.reading.extract import ExtractResult
    from tocsin.reading.image import Image

_BAR = "copying"
_TOLD = 10
"""Things left out that are told one by one."""


@command(summary="Copy files out of an image.")
@click.argument("place", metavar="IMAGE:/PATH", type=parameters.place)
@click.argument("rest", metavar="DEST", nargs=-1, required=True)
@click.option("-P", "--no-dereference", is_flag=True, help="Copy a symbolic link as a link.")
@click.option("--devices", is_flag=True, help="Make device nodes; only root can.")
@click.option("--overwrite", is_flag=True, help="Write files again that are there already.")
@click.option(
    "--owners/--no-owners", default=None, help="Give files their owners.  [default: if root]"
)
@image_options
@output_options
def cp(
    *,
    place: Place,
    rest: tuple[str, ...],
    no_dereference: bool,
    devices: bool,
    overwrite: bool,
    owners: bool | None,
    opening: ImageOpening,
    output: Output,
) -> None:
    """Copy the file or directory PATH of IMAGE to DEST; as two words too: IMAGE PATH DEST.

    A directory becomes DEST itself, with all that is in it; the same command again goes on with
    what an interrupted one has begun. A file goes into DEST if that is a directory. DEST - is
    stdout, for one file. Nothing is written outside DEST, whatever links the image has.

    Only the spans that hold the files are fetched; each is verified before it is inflated, and a
    file appears when all of it is right. What vouches for the files is explained by tocsin cat
    --help. Where a copy has read all of a layer by a version 1 index, the layer's digest is
    verified as well, at the end.

    An entry that cannot be extracted, such as one with an impossible name, does not stop the
    others, but the exit code is 1. Metadata that cannot be preserved, such as an owner or an
    extended attribute, is only reported.

    Examples:
      tocsin cp ghcr.io/team/app:1:/etc/os-release .
      tocsin cp oci:images:app /usr/share/app share
      tocsin cp ghcr.io/team/app:1:/ rootfs

    JSON keys: image, path, destination, files, directories, links, specials, unchanged, size,
    skipped[]: path, reason; failed[]: path, reason; notes[], seconds.
    """
    path, dest = _words(place, rest)
    if dest == STDOUT and output.json:
        raise click.UsageError("--json and DEST - both want stdout")
    with opening.open(place.reference, output) as image:
        if dest == STDOUT:
            write_file(image, path, streams.write_bytes)
            return
        source, target = (path, dest) if no_dereference else _followed(image, path, dest)
        image.lstat(source)  # what has to be read before that is not copying
        with display_for(output) as display:
            result = image.extract(
                source,
                target,
                devices=devices,
                overwrite=overwrite,
                owners=owners,
                progress=shown_on(display, name=_BAR),
            )
    if output.json:
        place_of = {"image": str(place.reference), "path": path, "destination": dest}
        output.document({**place_of, **result.to_dict()})
    else:
        _tell(result, dest, output)
    if result.failed:
        entries = words.count(len(result.failed), "entry was", "entries were")
        raise TocsinError(f"{dest}: {entries} not extracted")


def _words(place: Place, rest: tuple[str, ...]) -> tuple[str, str]:
    """Return the path and the destination."""
    *path, dest = rest
    if place.path is not None:
        path.insert(0, place.path)
    if len(path) != 1:
        raise click.UsageError(
            f"got {words.count(len(path), 'path')}, wanted IMAGE:/PATH DEST or IMAGE PATH DEST"
        )
    return path[0], dest


def _followed(image: Image, path: str, dest: str) -> tuple[str, str]:
    """Return what a link means, and the place where it gets the link's name, as ``cp`` does it."""
    found = image.stat(path)
    if found.is_dir or not Path(dest).is_dir():
        return found.path, dest
    return found.path, str(Path(dest) / path.rstrip("/").rpartition("/")[2])


def _tell(result: ExtractResult, dest: str, output: Output) -> None:
    for missing, verb in ((result.skipped, "is left out"), (result.failed, "was not extracted")):
        for each in missing[:_TOLD]:
            output.warn(f"{words.escaped(each.path)} {verb}: {each.reason}")
        if len(missing) > _TOLD:
            output.warn(f"and {len(missing) - _TOLD:,} more; --json lists all")
    for note in result.notes:
        output.warn(note)
    counts = [
        words.count(number, noun, plural)
        for number, noun, plural in (
            (result.files, "file", ""),
            (result.directories, "directory", "directories"),
            (result.links, "link", ""),
            (result.specials, "special file", ""),
        )
        if number
    ]
    made = ", ".join(counts) or "nothing new"
    there = f", {result.unchanged:,} unchanged" if result.unchanged else ""
    output.note(
        f"{made}{there}, {words.size(result.size)} → {dest} in {words.duration(result.seconds)}"
    )
