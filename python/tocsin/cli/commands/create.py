"""``tocsin create``: SOCI indexes beside an image (version 1)."""

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


@command(summary="Make SOCI indexes beside an image (v1).")
@click.argument("source", metavar="SOURCE", type=parameters.reference)
@click.argument("destination", metavar="[DEST]", type=parameters.reference, required=False)
@indexing_options
@click.option(
    "--output",
    "place",
    type=parameters.reference,
    metavar="oci:DIR",
    help="Store indexes and zTOCs there, without the image.",
)
@click.option(
    "--existing-index",
    type=click.Choice(["warn", "skip", "allow"]),
    default="warn",
    show_default=True,
    help="If other version 1 indexes refer to an image: warn of them, skip its platform, or allow"
    " them and do not look.",
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
    """Make a SOCI index for each platform of the image SOURCE.

    The image stays as it is; the indexes (version 1) refer to it. They are stored where the image
    is, or with a copy of it at DEST. Layers stream through once, nothing is kept on disk. A zTOC
    that is there already is used; its layer is not read.

    Examples:
      tocsin create ghcr.io/team/app:1
      tocsin create ghcr.io/team/app:1 --dry-run
      tocsin create oci:images:app
      tocsin create oci-archive:app.tar oci:images:app --platform linux/amd64
      tocsin create oci:images:app --prefetch /usr/bin/app --min-layer-size 1MiB
      tocsin create ghcr.io/team/app:1 --existing-index skip

    With --quiet only the digests of the SOCI indexes are printed, a line a platform. JSON keys:
    source, destination, dry_run, seconds, missing_prefetch, traffic: read, pushed, ztocs,
    manifests, blobs, mounted; platforms[]: platform, manifest, soci_index, existing_indexes[],
    skipped, layers[]: digest, media_type, size, ztoc, skipped, reused, notes, entry_count,
    span_count, uncompressed_size, seconds. A zTOC, manifest or index has media_type, digest and
    size.
    """
    if destination is not None and place is not None:
        raise click.UsageError("both DEST and --output were given, wanted one of them")
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
