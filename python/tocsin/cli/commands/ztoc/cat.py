"""``tocsin ztoc cat``."""

from __future__ import annotations

import click

from tocsin.cli import streams
from tocsin.cli.command import command
from tocsin.cli.commands.ztoc.reading import find_file, read_file, read_ztoc


@command(summary="Write a file of a layer to stdout.")
@click.argument("ztoc_file", metavar="ZTOC")
@click.argument("layer")
@click.argument("path")
def cat(*, ztoc_file: str, layer: str, path: str) -> None:
    """Write the file PATH of LAYER to stdout.

    ZTOC is the file with the layer's zTOC. Only the spans that contain PATH are read. Each span is
    verified before it is inflated, so even incomplete output is correct. Links are followed inside
    the layer.

    Example:
      tocsin ztoc cat layer.ztoc layer.tar.gz etc/os-release
    """
    ztoc = read_ztoc(ztoc_file)
    for piece in read_file(ztoc, layer, find_file(ztoc, path)):
        streams.write_bytes(piece)
