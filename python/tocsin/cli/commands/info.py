"""``tocsin info``: show the layers of an image and their zTOCs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.options import output_options, registry_options
from tocsin.cli.output import Column, Output

if TYPE_CHECKING:
    from tocsin.images.coverage import LayerCoverage, PlatformCoverage
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions

_COLUMNS = (
    Column("LAYER"),
    Column("MEDIA TYPE", wraps=True),
    Column("SIZE", "right"),
    Column("ZTOC"),
    Column("SIZE", "right"),
    Column("OVERHEAD", "right"),
    Column("SPANS", "right"),
)


@command(summary="Show an image's layers and their zTOCs.")
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@registry_options
@output_options
def info(*, image: Reference, registry: RegistryOptions | None, output: Output) -> None:
    """Show the layers of IMAGE, their zTOCs, and the seek tables of the image.

    All zTOCs that the SOCI indexes list are read and verified. The ZTOC column shows the version of
    the index that lists the zTOC: v2 if the image names the index, v1 if the index refers to the
    image. OVERHEAD is the size of the zTOC as a percentage of the layer's size. Prefetch artifacts
    are shown with their spans and the files that are entirely within these spans.

    Examples:
      tocsin info ghcr.io/team/app:1-soci
      tocsin info oci:images:app-soci
      tocsin info oci:images:app --json | jq .covered_size

    JSON keys: image, manifest, layer_size, covered_size, ztoc_size, platforms[]: platform,
    manifest, problem, soci_indexes[], seek_tables[], layer_size, covered_size, ztoc_size,
    layers[]: digest, media_type, size, ztoc, soci_versions, span_size, span_count, entry_count,
    uncompressed_size, problem; prefetches[]: media_type, digest, size, index, layer, version,
    spans[]: start_span, end_span, priority; span_count, files[], problem.
    """
    from tocsin.images.info import info as find  # noqa: PLC0415 (not for --help)

    coverage = find(image, registry=registry)
    if output.json:
        output.document(coverage.to_dict())
        return
    facts = {"image": words.printable(coverage.image), "digest": str(coverage.manifest.digest)}
    output.facts(facts)
    for platform in coverage.platforms:
        _write(platform, output)


def _write(platform: PlatformCoverage, output: Output) -> None:
    output.line()
    name = str(platform.platform) if platform.platform is not None else "image"
    output.heading(f"{name} · manifest {words.short_digest(platform.manifest.digest)}")
    if platform.problem is not None:
        output.line(words.printable(platform.problem))
        return
    output.table(_COLUMNS, [_row(layer) for layer in platform.layers])
    covered = [layer for layer in platform.layers if layer.covered]
    ztocs = f", zTOCs {words.size(platform.ztoc_size)}" if covered else ""
    output.line(
        f"covered: {words.percent(platform.covered_size, platform.layer_size)} of "
        f"{words.size(platform.layer_size)}, {len(covered)} of "
        f"{words.count(len(platform.layers), 'layer')}{ztocs}"
    )
    for found in platform.soci_indexes:
        output.line(f"index v{found.version} {found.digest}")
    for table in platform.seek_tables:
        output.line(f"seek {table.digest}")
        if table.problem is None:
            binding = "the image names it" if table.is_bound else "it refers to the image"
            output.line(f"{words.seek_table(table.size, platform.layer_size)}, {binding}")
            if table.pack_size:
                output.line(words.pack(table.pack_size, platform.layer_size))
    if not platform.soci_indexes and not platform.seek_tables:
        output.line("no index")
    if platform.prefetches:
        from tocsin.cli.prefetch_report import write_prefetches  # noqa: PLC0415 (few images have any)

        write_prefetches(platform.prefetches, output)
    for problem in _problems(platform):
        output.warn(problem)


def _problems(platform: PlatformCoverage) -> dict[str, None]:
    """Return the problems in order, without duplicates."""
    problems = [
        *(index.problem for index in platform.soci_indexes),
        *(layer.problem for layer in platform.layers),
        *(table.problem for table in platform.seek_tables),
    ]
    return dict.fromkeys(problem for problem in problems if problem is not None)


def _row(coverage: LayerCoverage) -> tuple[str, ...]:
    layer, ztoc = coverage.layer, coverage.ztoc
    head = (words.short(layer.digest), short_media_type(layer.media_type), words.size(layer.size))
    if ztoc is None:
        return (*head, *[words.NOTHING] * 4)
    return (
        *head,
        "broken" if coverage.problem else "+".join(f"v{v}" for v in coverage.soci_versions),
        words.size(ztoc.size),
        words.percent(ztoc.size, layer.size),
        f"{coverage.span_count:,}" if coverage.problem is None else words.NOTHING,
    )


def short_media_type(media_type: str) -> str:
    """Return a short form of a layer's media type, such as ``oci tar+gzip``."""
    for family, prefix in (
        ("oci", "application/vnd.oci.image.layer.v1."),
        ("oci", "application/vnd.oci.image.layer."),
        ("docker", "application/vnd.docker.image.rootfs."),
    ):
        if media_type.startswith(prefix):
            rest = media_type.removeprefix(prefix).replace("diff.", "")
            return f"{family} {rest.replace('nondistributable.v1.', 'foreign ')}"
    return media_type.removeprefix("application/") or words.NOTHING
