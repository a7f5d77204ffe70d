"""``tocsin stat``."""

from __future__ import annotations

import stat as modes
from typing import TYPE_CHECKING

import click

from tocsin.cli import listing, parameters, words
from tocsin.cli.command import command
from tocsin.cli.image_files import all_paths, image_options
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.cli.image_files import ImageOpening
    from tocsin.cli.output import Output
    from tocsin.cli.parameters import Place
    from tocsin.model.descriptor import Descriptor
    from tocsin.reading.stat import FileStat

_NOUNS = {
    "file": "file",
    "dir": "directory",
    "symlink": "symbolic link",
    "char": "character device",
    "block": "block device",
    "fifo": "pipe",
    "hardlink": "hard link, target missing",
}


@command(summary="Show the metadata of files in an image.")
@click.argument("place", metavar="IMAGE", type=parameters.place)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("-L", "--dereference", is_flag=True, help="Follow a symbolic link at PATH.")
@image_options
@output_options
def stat(
    *,
    place: Place,
    paths: tuple[str, ...],
    dereference: bool,
    opening: ImageOpening,
    output: Output,
) -> None:
    """Show the metadata of files in IMAGE, including their layer.

    Examples:
      tocsin stat ghcr.io/team/app:1 /usr/bin/app
      tocsin stat --json oci:images:app:/etc/passwd | jq -r '.files[0].layer'

    JSON keys: image, files[]: path, type, size, mode, uid, gid, uname, gname, mtime_ns, linkname,
    devmajor, devminor, xattrs, inode, layer (its digest).
    """
    wanted = all_paths(place, paths)
    with opening.open(place.reference, output) as image:
        files = [image.stat(path) if dereference else image.lstat(path) for path in wanted]
    layers = image.layer_descriptors
    if output.json:
        documents = [file.to_dict() for file in files]
        output.document({"image": str(place.reference), "files": documents})
        return
    for number, file in enumerate(files):
        if number:
            output.line()
        output.facts(_facts(file, layers))


def _facts(file: FileStat, layers: Sequence[Descriptor]) -> dict[str, str]:
    facts = {
        "path": words.escaped(file.path),
        "type": _NOUNS[file.type],
        "size": f"{file.size:,} B" if file.is_file else listing.size(file),
        "mode": f"{file.mode:04o} {modes.filemode(file.st_mode)}",
        "owner": f"{file.uid}/{file.gid} {words.escaped(f'{file.uname}/{file.gname}').strip('/')}",
        "modified": file.mtime.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "target": words.escaped(file.linkname),
        "layer": f"{file.layer + 1} of {len(layers)} {layers[file.layer].digest}" if layers else "",
    }
    if not (file.is_file or file.type in ("char", "block")):
        del facts["size"]
    for name, value in file.xattrs.items():
        text = value.decode("utf-8", "backslashreplace")
        facts[words.escaped(name)] = words.escaped(text)
    return {name: value.rstrip() for name, value in facts.items() if value}
