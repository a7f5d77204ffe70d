"""``tocsin convert``: convert an image to one with version 2 SOCI indexes."""

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


@command(summary="Convert an image to one with SOCI indexes (v2).")
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
    """Convert an image to one with SOCI indexes.

    The image at DEST has the same layers as SOURCE but a new digest. It is an image index that also
    lists the SOCI indexes (version 2), so tools that copy the entire image copy them as well.
    SOURCE does not change. Services that require a single manifest, such as AWS Lambda, refuse
    image indexes; use tocsin create for them.

    If DEST is already up to date, the command writes nothing and succeeds. If DEST is a different
    image, it is replaced only with --force.

    Inside a registry, layers are mounted instead of sent. Otherwise each layer is read once, and
    indexed while it is sent.

    With --seek, the new image also names a seek table of all layers, with which tocsin reads single
    files. The SOCI indexes stay the same.

    Examples:
      tocsin convert ghcr.io/app:1 ghcr.io/app:1-soci
      tocsin convert oci:images:app oci:images:app-soci
      tocsin convert docker-archive:app.tar oci-archive:app-soci.tar:app
      tocsin convert oci:in:app oci:out:app -p linux/amd64 -p linux/arm64
      tocsin convert --standalone app.tar app-soci.tar
      tocsin convert ghcr.io/app:1 ghcr.io/app:1-soci --seek
      tocsin convert ghcr.io/app:1 ghcr.io/app:1-soci --seek --pack start.log

    With --quiet, only the digest of the new image is printed. JSON keys: as for create, plus
    image and unchanged.
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
