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
_MAX_WARNINGS = 10
"""Number of skipped or failed entries that are listed individually."""


@command(summary="Copy files out of an image.")
@click.argument("place", metavar="IMAGE:/PATH", type=parameters.place)
@click.argument("rest", metavar="DEST", nargs=-1, required=True)
@click.option("-P", "--no-dereference", is_flag=True, help="Copy a symbolic link as a link.")
@click.option("--devices", is_flag=True, help="Create device nodes; requires root.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option(
    "--owners/--no-owners", default=None, help="Preserve file owners.  [default: only for root]"
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
    """Copy a file or directory of an image to DEST.

    IMAGE and PATH can also be separate arguments: IMAGE PATH DEST. A directory is copied to DEST
    itself, not into it; run the command again to resume an interrupted copy. A file is copied into
    DEST if that is a directory. DEST can be - (stdout) for a single file. Links in the image cannot
    cause writes outside DEST.

    Only the spans that contain the files are fetched. Each span is verified before it is inflated,
    and a file appears only when it is complete. See tocsin cat --help for what the verification
    covers. If a copy reads an entire layer with a version 1 index, the layer's digest is also
    verified at the end.

    Layers that tocsin fetch, or a mount, left complete in the cache are read from there; a copy of
    most of a layer first compares it with the digest in the image's config. cp itself keeps nothing
    inflated in the cache, which would take the disk space of the files twice.

    If an entry cannot be extracted, for example because of an invalid name, the others still are,
    and the exit code is 1. Metadata that cannot be preserved, such as owners or extended
    attributes, only causes a warning.

    Examples:
      tocsin cp ghcr.io/team/app:1:/etc/os-release .
      tocsin cp oci:images:app /usr/share/app share
      tocsin cp ghcr.io/team/app:1:/ rootfs

    JSON keys: image, path, destination, files, directories, links, specials, unchanged, size,
    skipped[]: path, reason; failed[]: path, reason; notes[], seconds.
    """
    path, dest = _words(place, rest)
    if dest == STDOUT and output.json:
        raise click.UsageError("--json and DEST - both write to stdout")
    with opening.open(place.reference, output) as image:
        if dest == STDOUT:
            write_file(image, path, streams.write_bytes)
            return
        source, target = (path, dest) if no_dereference else _followed(image, path, dest)
        image.lstat(source)  # reads layers without a zTOC before the copy's progress bar appears
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
        _report(result, dest, output)
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
            f"wrong number of paths (found {len(path)}, expected IMAGE:/PATH DEST or IMAGE PATH"
            " DEST)"
        )
    return path[0], dest


def _followed(image: Image, path: str, dest: str) -> tuple[str, str]:
    """Return the target of a link and, as ``cp`` does, a destination named after the link."""
    found = image.stat(path)
    if found.is_dir or not Path(dest).is_dir():
        return found.path, dest
    return found.path, str(Path(dest) / path.rstrip("/").rpartition("/")[2])


def _report(result: ExtractResult, dest: str, output: Output) -> None:
    for missing, verb in ((result.skipped, "was skipped"), (result.failed, "was not extracted")):
        for each in missing[:_MAX_WARNINGS]:
            output.warn(f"{words.escaped(each.path)} {verb}: {each.reason}")
        if len(missing) > _MAX_WARNINGS:
            output.warn(f"and {len(missing) - _MAX_WARNINGS:,} more; --json lists all")
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
    unchanged = f", {result.unchanged:,} unchanged" if result.unchanged else ""
    output.note(
        f"{made}{unchanged}, {words.size(result.size)} → {dest} in {words.duration(result.seconds)}"
    )
