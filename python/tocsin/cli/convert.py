"""``tocsin convert``: an image that names its SOCI indexes (version 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.options import force_option, indexing_options, output_options

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.reference import Reference


@command(summary="Make an image with its SOCI indexes (v2).")
@click.argument("source", metavar="SOURCE", type=parameters.source)
@click.argument("destination", metavar="DEST", type=parameters.destination)
@indexing_options
@force_option
@output_options
def convert(
    *,
    source: Reference,
    destination: Reference,
    options: IndexingOptions,
    force: bool,
    output: Output,
) -> None:
    """Convert the image SOURCE into one at DEST that names its SOCI indexes.

    The new image has the same layers and its own digest; it is an image index, with the SOCI
    indexes (version 2) among its entries, so any tool that copies all of it copies them too. SOURCE
    stays as it is.

    Examples:
      tocsin convert oci:images:app oci:images:app-soci
      tocsin convert docker-archive:app.tar oci-archive:app-soci.tar:app
      tocsin convert oci:in:app oci:out:app -p linux/amd64 -p linux/arm64

    With --quiet only the digest of the new image is printed. JSON keys: as for create, and image.
    """
    from tocsin.cli.indexing_run import run  # noqa: PLC0415 (--help needs none of these)
    from tocsin.indexing.convert import convert as make  # noqa: PLC0415

    run(
        lambda progress: make(source, destination, options=options, force=force, progress=progress),
        options=options,
        output=output,
    )
