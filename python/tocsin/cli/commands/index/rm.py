"""``tocsin index rm``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.options import output_options, platforms_option, registry_options

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.model.digest import Digest
    from tocsin.model.platform import Platform
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions


@command(summary="Remove the indexes that refer to an image.")
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@click.argument("indexes", metavar="[DIGEST]...", type=parameters.digest, nargs=-1)
@platforms_option
@click.option("--dry-run", is_flag=True, help="Only list the indexes to remove.")
@registry_options
@output_options
def rm(
    *,
    image: Reference,
    indexes: tuple[Digest, ...],
    platforms: tuple[Platform, ...],
    dry_run: bool,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Remove the version 1 SOCI indexes and the seek tables that refer to IMAGE.

    Without DIGEST, all of them are removed. IMAGE can also be an index or seek table, given by its
    digest. The image does not change. Blobs remain until the registry collects unreferenced ones.
    Version 2 indexes, and seek tables that the image names, are part of a converted image: to
    remove them, delete its tag.

    Examples:
      tocsin index rm ghcr.io/team/app:1 --dry-run
      tocsin index rm oci:images:app
      tocsin index rm oci:images:app --platform linux/arm64
      tocsin index rm ghcr.io/team/app:1 sha256:0123...

    With --quiet, only digests are printed. JSON keys: image, dry_run, removed[]: media_type,
    digest, size.
    """
    from tocsin.images.remove import remove_indexes  # noqa: PLC0415 (not for --help)

    removed = remove_indexes(
        image,
        indexes=indexes or None,
        platforms=platforms or None,
        dry_run=dry_run,
        registry=registry,
    )
    if output.json:
        documents = [index.to_dict() for index in removed]
        output.document({"image": str(image), "dry_run": dry_run, "removed": documents})
        return
    for index in removed:
        output.line(str(index.digest) if output.quiet else f"index {index.digest}")
    count = words.count(len(removed), "index", "indexes")
    output.note(f"{'would remove' if dry_run else 'removed'} {count} of {image}")
