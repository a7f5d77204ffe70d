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
    Column("USED"),
)


@command(summary="List the indexes and access logs of an image.")
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@registry_options
@output_options
def ls(*, image: Reference, registry: RegistryOptions | None, output: Output) -> None:
    """List the SOCI indexes, seek tables and access logs of IMAGE for each platform.

    The image names its v2 index; a v1 index refers to the image. A seek table is bound if the image
    names it. An access log lists what mounts load first. ZTOCS is the number of layers with a zTOC,
    SIZE the total size of the zTOCs, or of the seek table or access log. zTOCs are not read; tocsin
    info reads them. USED shows whether tocsin uses it by default, without --index or --access-log;
    the lines below the table give the reason. If there are several v1 indexes, the registry
    determines which one other tools use.

    Examples:
      tocsin index ls ghcr.io/team/app:1
      tocsin index ls oci:images:app-soci --json

    With --quiet, only digests are printed, one per line. JSON keys: image, manifest,
    platforms[]: platform, manifest, layer_count, problem, soci_indexes[]: digest, media_type,
    size, version, problem, ztoc_count, ztoc_size, taken, reason; seek_tables[]: digest, media_type,
    manifest_size, size, pack_size, bound, problem, taken, reason; access_logs[]: digest,
    media_type, manifest_size, size, created, problem, taken, reason.
    """
    from tocsin.images.info import indexes  # noqa: PLC0415 (not for --help)

    found = indexes(image, registry=registry)
    if output.json:
        output.document(found.to_dict())
        return
    if output.quiet:
        for platform in found.platforms:
            for found_here in (*platform.all_indexes, *platform.access_logs):
                output.line(str(found_here.digest))
        return
    output.table(_COLUMNS, [row for platform in found.platforms for row in _rows(platform)])
    for platform in found.platforms:
        for each in (*platform.all_indexes, *platform.access_logs):
            verb = "is used" if each.taken else "is not used"
            output.line(f"{words.short_digest(each.digest)} {verb}: {each.reason}")
        for table in platform.seek_tables:
            if table.pack_size:
                pack = words.size(table.pack_size)
                output.line(f"{words.short_digest(table.digest)} has a pack of {pack}")
    for platform in found.platforms:
        everything = (*platform.all_indexes, *platform.access_logs)
        problems = [platform.problem, *(each.problem for each in everything)]
        for problem in problems:
            if problem is not None:
                output.warn(problem)


def _rows(platform: PlatformIndexes) -> Iterator[tuple[str, ...]]:
    name = str(platform.platform) if platform.platform is not None else "image"
    if not platform.soci_indexes and not platform.seek_tables:
        yield (name, "unknown" if platform.problem else "no index", *[words.NOTHING] * 4)
    for index in platform.soci_indexes:
        head = (name, f"v{index.version}", words.short_digest(index.digest))
        if index.soci_index is None:
            yield (*head, "broken", words.NOTHING, "no")
            continue
        count = f"{index.ztoc_count}/{platform.layer_count}"
        yield (*head, count, words.size(index.ztoc_size), "yes" if index.taken else "no")
    for table in platform.seek_tables:
        kind = "seek, bound" if table.is_bound else "seek"
        size = "broken" if table.problem else words.size(table.size)
        used = "yes" if table.taken else "no"
        yield (name, kind, words.short_digest(table.digest), words.NOTHING, size, used)
    for log in platform.access_logs:
        size = "broken" if log.problem else words.size(log.size)
        used = "yes" if log.taken else "no"
        yield (name, "access log", words.short_digest(log.digest), words.NOTHING, size, used)
