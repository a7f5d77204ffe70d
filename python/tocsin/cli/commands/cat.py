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
"""Bytes written at once."""


@command(summary="Write files of an image to stdout.")
@click.argument("place", metavar="IMAGE", type=parameters.place)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@image_options
@quiet_option
def cat(*, place: Place, paths: tuple[str, ...], opening: ImageOpening, output: Output) -> None:
    """Write the files at the PATHs of IMAGE to stdout, one after another.

    Only the spans that hold them are fetched; each is verified before it is inflated. Symbolic
    links are followed inside the image. If one of the PATHs is not a file, nothing is written.

    What is written is bound to IMAGE's digest (REPO@sha256:…) by a version 2 index, or, without
    one, by the digest of each layer, which is then read in full. A version 1 index is bound to
    nothing: whoever may push to the repository chooses what is read by it. It is used for an IMAGE
    named by tag, and with --index v1.

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
    """Write a file of an image piece by piece, the next ones on their way meanwhile."""
    with image.open(path, buffering=0) as file:
        while piece := file.read(_PIECE_SIZE):
            write(piece)
