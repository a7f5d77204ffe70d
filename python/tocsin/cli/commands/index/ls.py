"""``tocsin index ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.options import output_options, registry_options
from tocsin.cli.output import Column, Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.images.coverage import PlatformIndexes
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions

_COLUMNS = (
    Column("PLATFORM"),
    Column("VERSION"),
    Column("INDEX"),
    Column("ZTOCS", "right"),
    Column("SIZE", "right"),
)


@command(summary="List the SOCI indexes of an image.")
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@registry_options
@output_options
def ls(*, image: Reference, registry: RegistryOptions | None, output: Output) -> None:
    """List the SOCI indexes of IMAGE, those of each platform.

    v2 is named by the image itself, v1 refers to it. ZTOCS says for how many of the image's layers
    there is one, SIZE is that of all of them. zTOCs are not read: tocsin info does that.

    Examples:
      tocsin index ls ghcr.io/team/app:1
      tocsin index ls oci:images:app-soci --json

    With --quiet only digests are printed, a line an index. JSON keys: image, manifest,
    platforms[]: platform, manifest, layer_count, problem, soci_indexes[]: digest, media_type,
    size, version, problem, ztoc_count, ztoc_size.
    """
    from tocsin.cli.documents import indexes_document  # noqa: PLC0415 (--help needs none of these)
    from tocsin.images.coverage import image_indexes  # noqa: PLC0415
    from tocsin.stores.opening import open_source  # noqa: PLC0415

    with open_source(image, registry=registry) as store:
        found = image_indexes(store, store.resolve(image.selector))
    if output.json:
        output.document(indexes_document(str(image), found))
        return
    if output.quiet:
        for index in (index for platform in found.platforms for index in platform.soci_indexes):
            output.line(str(index.digest))
        return
    output.table(_COLUMNS, [row for platform in found.platforms for row in _rows(platform)])
    for platform in found.platforms:
        problems = [platform.problem, *(index.problem for index in platform.soci_indexes)]
        for problem in problems:
            if problem is not None:
                output.warn(problem)


def _rows(platform: PlatformIndexes) -> Iterator[tuple[str, ...]]:
    name = str(platform.platform) if platform.platform is not None else "image"
    if not platform.soci_indexes:
        yield (name, "unknown" if platform.problem else "no index", *[words.NOTHING] * 3)
    for index in platform.soci_indexes:
        head = (name, f"v{index.version}", words.short_digest(index.digest))
        if index.soci_index is None:
            yield (*head, "broken", words.NOTHING)
            continue
        count = f"{len(index.soci_index.ztocs)}/{platform.layer_count}"
        yield (*head, count, words.size(index.ztoc_size))
