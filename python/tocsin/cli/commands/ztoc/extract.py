"""``tocsin ztoc extract``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import words
from tocsin.cli.command import command
from tocsin.cli.commands.ztoc.reading import find_file, read_file, read_ztoc
from tocsin.cli.options import output_options
from tocsin.cli.output_file import STDOUT, output_file

if TYPE_CHECKING:
    from tocsin.cli.output import Output


@command(summary="Copy a file out of a layer.")
@click.argument("ztoc_file", metavar="ZTOC")
@click.argument("layer")
@click.argument("path")
@click.option(
    "-o", "--output", "target", metavar="FILE", required=True, help="File to write; - for stdout."
)
@output_options
def extract(*, ztoc_file: str, layer: str, path: str, target: str, output: Output) -> None:
    """Copy the file PATH of LAYER to a local file.

    ZTOC is the file with the layer's zTOC. Only the spans that contain PATH are read, and each span
    is verified before it is inflated. The local file appears only when it is complete. Mode, owner
    and times are not copied. Links are followed inside the layer.

    Example:
      tocsin ztoc extract layer.ztoc layer.tar.gz usr/bin/bash -o bash

    JSON keys: path, output, size, span_count.
    """
    if output.json and target == STDOUT:
        raise click.UsageError("--json and -o - both write to stdout")
    ztoc = read_ztoc(ztoc_file)
    found = find_file(ztoc, path)
    size = 0
    with output_file(target) as write:
        for piece in read_file(ztoc, layer, found):
            write(piece)
            size += len(piece)
    span_count = len(ztoc.spans_for(found))
    if output.json:
        output.document({"path": path, "output": target, "size": size, "span_count": span_count})
    elif target != STDOUT:
        spans = words.count(span_count, "span")
        output.note(f"{path} {words.size(size)} → {target}, from {spans}")
