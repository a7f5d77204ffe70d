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


@command(summary="Remove the indexes and access logs that refer to an image.")
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
    """Remove the version 1 SOCI indexes, seek tables and access logs that refer to IMAGE.

    Without DIGEST, all of them are removed. IMAGE can also be one of them, given by its digest.
    The image does not change. Blobs remain until the registry collects unreferenced ones. Version 2
    indexes, and seek tables that the image names, are part of a converted image: to remove them,
    delete its tag.

    Examples:
      tocsin index rm ghcr.io/team/app:1 --dry-run
      tocsin index rm oci:images:app
      tocsin index rm oci:images:app --platform linux/arm64
      tocsin index rm ghcr.io/team/app:1 sha256:0123...

    With --quiet, only digests are printed. JSON keys: image, dry_run, removed[]: media_type,
    digest, size.
    """
    from tocsin.images.remove import remove_indexes  # noqa: PLC0415 (not for --help)
    from tocsin.model.access_log_manifest import ACCESS_LOG  # noqa: PLC0415 (as above)

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
        kind = "access log" if index.artifact_type == ACCESS_LOG else "index"
        output.line(str(index.digest) if output.quiet else f"{kind} {index.digest}")
    log_count = sum(index.artifact_type == ACCESS_LOG for index in removed)
    counts = [
        (len(removed) - log_count, ("index", "indexes")),
        (log_count, ("access log", "access logs")),
    ]
    what = " and ".join(words.count(count, *names) for count, names in counts if count)
    output.note(f"{'would remove' if dry_run else 'removed'} {what} of {image}")
