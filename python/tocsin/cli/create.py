"""``tocsin create``: SOCI indexes beside an image (version 1)."""

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


@command(summary="Make SOCI indexes beside an image (v1).")
@click.argument("source", metavar="SOURCE", type=parameters.source)
@click.argument("destination", metavar="[DEST]", type=parameters.destination, required=False)
@indexing_options
@force_option
@output_options
def create(
    *,
    source: Reference,
    destination: Reference | None,
    options: IndexingOptions,
    force: bool,
    output: Output,
) -> None:
    """Make a SOCI index for each platform of the image SOURCE.

    The image stays as it is; the indexes (version 1) refer to it. They are stored where the image
    is, or with a copy of it at DEST.

    Examples:
      tocsin create oci:images:app
      tocsin create oci-archive:app.tar oci:images:app --platform linux/amd64
      tocsin create oci:images:app --prefetch /usr/bin/app --min-layer-size 1MiB

    With --quiet only the digests of the SOCI indexes are printed, a line a platform. JSON keys:
    source, destination, seconds, missing_prefetch, platforms[]: platform, manifest, soci_index,
    layers[]: digest, media_type, size, ztoc, skipped, reused, notes, entry_count, span_count,
    uncompressed_size, seconds. A zTOC, manifest or index has media_type, digest and size.
    """
    from tocsin.cli.indexing_run import run  # noqa: PLC0415 (--help needs none of these)
    from tocsin.indexing.create import create as make  # noqa: PLC0415

    run(
        lambda progress: make(source, destination, options=options, force=force, progress=progress),
        options=options,
        output=output,
    )
