"""``tocsin convert``: an image that names its SOCI indexes (version 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli.command import command
from tocsin.cli.options import (
    dry_run_option,
    indexing_options,
    output_options,
    registry_options,
)
from tocsin.cli.standalone import destination_image, source_image, standalone_options

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions


@command(summary="Make an image with its SOCI indexes (v2).")
@click.argument("source", metavar="SOURCE", callback=source_image)
@click.argument("destination", metavar="DEST", callback=destination_image)
@indexing_options
@standalone_options
@dry_run_option
@registry_options
@output_options
def convert(
    *,
    source: Reference,
    destination: Reference,
    options: IndexingOptions,
    dry_run: bool,
    force: bool,
    standalone: bool,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Convert the image SOURCE into one at DEST that names its SOCI indexes.

    The new image has the same layers and its own digest; it is an image index, with the SOCI
    indexes (version 2) among its entries, so any tool that copies all of it copies them too. SOURCE
    stays as it is. Services that want a single manifest, such as AWS Lambda, refuse an image index:
    use create there.

    Running it again with the same result writes nothing and succeeds. A DEST that names another
    image is replaced only with --force.

    Within a registry layers are mounted, not sent; from one place to another each is read once,
    indexed and sent at the same time.

    Examples:
      tocsin convert ghcr.io/app:1 ghcr.io/app:1-soci
      tocsin convert oci:images:app oci:images:app-soci
      tocsin convert docker-archive:app.tar oci-archive:app-soci.tar:app
      tocsin convert oci:in:app oci:out:app -p linux/amd64 -p linux/arm64
      tocsin convert --standalone app.tar app-soci.tar

    With --quiet only the digest of the new image is printed. JSON keys: as for create, image
    and unchanged.
    """
    from tocsin.cli.indexing_run import run  # noqa: PLC0415 (--help needs none of these)
    from tocsin.indexing.convert import convert as make  # noqa: PLC0415

    run(
        lambda progress: make(
            source,
            destination,
            options=options,
            force=force or standalone,
            dry_run=dry_run,
            registry=registry,
            progress=progress,
        ),
        source=source,
        options=options,
        output=output,
    )
