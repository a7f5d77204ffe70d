"""``tocsin create``: create SOCI indexes that refer to an image (version 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.options import (
    dry_run_option,
    indexing_options,
    output_options,
    registry_options,
)

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions


@command(summary="Create SOCI indexes next to an image (v1).")
@click.argument("source", metavar="SOURCE", type=parameters.reference)
@click.argument("destination", metavar="[DEST]", type=parameters.reference, required=False)
@indexing_options
@click.option(
    "--output",
    "place",
    type=parameters.reference,
    metavar="oci:DIR",
    help="Destination for the indexes and zTOCs without the image.",
)
@click.option(
    "--existing-index",
    type=click.Choice(["warn", "skip", "allow"]),
    default="warn",
    show_default=True,
    help="What to do if other version 1 indexes (with --seek, also seek tables) refer to the image:"
    " warn about them, skip the platform, or allow them silently.",
)
@dry_run_option
@registry_options
@output_options
def create(
    *,
    source: Reference,
    destination: Reference | None,
    options: IndexingOptions,
    place: Reference | None,
    existing_index: str,
    dry_run: bool,
    force: bool,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Create a SOCI index for each platform of an image.

    The indexes (version 1) refer to the image SOURCE, which does not change. They are stored next
    to it or, with DEST, next to a copy of it. Each layer is read once, without storing it on disk.
    Existing zTOCs are reused without reading their layers.

    With --seek, a seek table of all layers is made, too, with which tocsin reads single files.

    Examples:
      tocsin create ghcr.io/team/app:1
      tocsin create ghcr.io/team/app:1 --dry-run
      tocsin create oci:images:app
      tocsin create oci-archive:app.tar oci:images:app --platform linux/amd64
      tocsin create oci:images:app --prefetch /usr/bin/app --min-layer-size 1MiB
      tocsin create ghcr.io/team/app:1 --existing-index skip
      tocsin create ghcr.io/team/app:1 --seek-only
      tocsin create ghcr.io/team/app:1 --seek-only --pack start.log

    With --quiet, only the digests of the SOCI indexes and seek tables are printed, one per line.
    JSON keys: source, destination, dry_run, seconds, missing_prefetch, traffic: read, pushed,
    ztocs, manifests, blobs, mounted; platforms[]: platform, manifest, soci_index, seek_table,
    seek_problem, seek_size, pack_size, pack_notes, existing_indexes[], skipped, layers[]: digest,
    media_type, size, ztoc, skipped, reused, notes, entry_count, span_count, uncompressed_size,
    seconds, seek_blob. A zTOC, seek blob, manifest or index has media_type, digest and size.
    """
    if destination is not None and place is not None:
        raise click.UsageError("--output cannot be combined with DEST")
    from tocsin.cli.indexing_run import run  # noqa: PLC0415 (--help needs none of these)
    from tocsin.indexing.create import create as make  # noqa: PLC0415

    run(
        lambda progress: make(
            source,
            destination,
            output=place,
            options=options,
            existing_index=existing_index,
            force=force,
            dry_run=dry_run,
            registry=registry,
            progress=progress,
        ),
        source=source,
        options=options,
        output=output,
    )
