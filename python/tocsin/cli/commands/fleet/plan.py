"""``tocsin fleet plan``: find images, their unique layers, and what is indexed already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.options import (
    DEFAULT_MIN_LAYER_SIZE,
    output_options,
    platforms_option,
    registry_options,
    span_size_option,
)

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.stores.registry import RegistryOptions


@command(summary="Find images and their unique layers.")
@click.argument("sources", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "-i",
    "--images",
    "lists",
    type=click.Path(exists=True, dir_okay=False, allow_dash=False, path_type=Path),
    metavar="FILE",
    multiple=True,
    help="File with one image or pattern per line; lines that start with # are ignored.",
)
@click.option(
    "-o",
    "--output",
    "place",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PLAN",
    help="File for the plan, which tocsin fleet run reads.",
)
@click.option(
    "--exclude",
    metavar="PATTERN",
    multiple=True,
    help="Leave out images that match HOST/REPO:TAG or HOST/REPO; can be repeated.",
)
@click.option(
    "--convert-suffix",
    metavar="SUFFIX",
    default="",
    help="Convert each image to one whose tag ends with SUFFIX, such as -soci (version 2).  "
    "[default: create version 1 indexes next to the images]",
)
@click.option(
    "--force", is_flag=True, help="Replace different images at the destinations of conversions."
)
@span_size_option
@click.option(
    "--min-layer-size",
    type=parameters.size,
    metavar="SIZE",
    default=DEFAULT_MIN_LAYER_SIZE,
    show_default=True,
    help="Minimum compressed size of a layer to index; smaller layers are skipped.",
)
@platforms_option
@click.option(
    "--optimize",
    "optimizations",
    type=click.Choice(["xattr"]),
    multiple=True,
    help="Optimization to record in the indexes, as in tocsin create.  [default: none]",
)
@click.option(
    "--rebuild", is_flag=True, help="Ignore indexes and zTOCs that exist, and read every layer."
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="COUNT",
    default=8,
    show_default=True,
    help="Number of threads that read manifests.",
)
@registry_options
@output_options
def plan(
    *,
    sources: tuple[str, ...],
    lists: tuple[Path, ...],
    place: Path | None,
    exclude: tuple[str, ...],
    convert_suffix: str,
    force: bool,
    span_size: int,
    min_layer_size: int,
    platforms: tuple[Any, ...],
    optimizations: tuple[str, ...],
    rebuild: bool,
    jobs: int,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Find images, their unique layers, and what is indexed already.

    Only manifests are read, and nothing is written but the file of the plan. Each IMAGE is an image
    in a registry, or a pattern with *, ? and [...] for repositories and tags; * also matches /.
    A pattern without a tag means all tags. A pattern for repositories requires that the registry
    lists its repositories, as ECR, Harbor and Distribution do.

    The plan names each image by digest. Images that cannot be indexed stay in it, with the reason.

    Examples:
      tocsin fleet plan ghcr.io/team/app:1 'ghcr.io/team/tool:v*' -o plan.json
      tocsin fleet plan 'registry:5000/*' --exclude '*/cache/*' -o plan.json
      tocsin fleet plan '123456789012.dkr.ecr.eu-west-1.amazonaws.com/*' -o plan.json
      tocsin fleet plan --images list.txt --convert-suffix=-soci -o plan.json

    JSON keys: format, version, fingerprint, span_size, min_layer_size, platforms, optimizations,
    force, read_size, shared_size; images[]: repository, digest, tags, destination, layers,
    skipped; layers[]: media_type, digest, size, ztoc, repository, skipped.
    """
    from tocsin import fleet  # noqa: PLC0415 (--help needs none of these)
    from tocsin.cli import fleet_report  # noqa: PLC0415
    from tocsin.indexing.options import IndexingOptions  # noqa: PLC0415

    listed = [*sources, *(line for path in lists for line in fleet.read_list(path))]
    if not listed:
        raise click.UsageError("no images: name an image or a pattern, or a list with --images")
    made = fleet.plan(
        listed,
        options=IndexingOptions(
            span_size=span_size,
            min_layer_size=min_layer_size,
            platforms=platforms or None,
            optimizations=optimizations,
            rebuild=rebuild,
        ),
        exclude=exclude,
        convert_suffix=convert_suffix,
        force=force,
        jobs=jobs,
        registry=registry,
    )
    if place is not None:
        made.write(place)
    if output.json:
        output.document(made.to_dict())
    elif output.quiet:
        output.line(made.fingerprint)
    else:
        fleet_report.write_plan(made, place, output)
