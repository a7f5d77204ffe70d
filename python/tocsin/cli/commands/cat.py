"""``tocsin cat``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, streams
from tocsin.cli.command import command
from tocsin.cli.image_files import all_paths, image_options
from tocsin.cli.options import quiet_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.image_files import ImageOpening
    from tocsin.cli.output import Output
    from tocsin.cli.parameters import Place
    from tocsin.reading.image import Image

_PIECE_SIZE = 1 << 20
"""Number of bytes per write."""


@command(summary="Write files of an image to stdout.")
@click.argument("place", metavar="IMAGE", type=parameters.place)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@image_options
@quiet_option
def cat(*, place: Place, paths: tuple[str, ...], opening: ImageOpening, output: Output) -> None:
    """Write files of IMAGE to stdout, one after another.

    Only the spans that contain the files are fetched. Each span is verified before it is inflated.
    Symbolic links are followed inside the image. If a PATH is not a file, nothing is written.

    With a version 2 index, the output is verified against the digest of IMAGE (REPO@sha256:…).
    Without an index, each layer is read in full and verified against its digest. A version 1 index
    is not covered by a digest: anyone with push access to the repository can replace it and so
    change the output. tocsin uses it only if IMAGE is given by tag, or with --index v1.

    Examples:
      tocsin cat ghcr.io/team/app:1 /etc/os-release
      tocsin cat oci:images:app:/etc/passwd
      tocsin cat ghcr.io/team/app:1 /srv/logs.tar | tar t
    """
    wanted = all_paths(place, paths)
    with opening.open(place.reference, output) as image:
        for path in wanted:
            image.regular_file(path)
        for path in wanted:
            write_file(image, path, streams.write_bytes)


def write_file(image: Image, path: str, write: Callable[[bytes], None]) -> None:
    """Write a file of an image in pieces; while one is written, the next ones are fetched."""
    with image.open(path, buffering=0) as file:
        while piece := file.read(_PIECE_SIZE):
            write(piece)
