"""``tocsin fetch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.commands.cache.directory import directory_option
from tocsin.cli.image_files import cache_size_option, index_option, platform_option
from tocsin.cli.mount_options import index_words
from tocsin.cli.options import output_options, registry_options, threads_option
from tocsin.cli.output import Column

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.cli.output import Output
    from tocsin.model.platform import Platform
    from tocsin.model.reference import Reference
    from tocsin.mounting.fetch import FetchResult
    from tocsin.stores.registry import RegistryOptions

_COLUMNS = (
    Column("LAYER"),
    Column("SIZE", "right"),
    Column("INDEX"),
    Column("ON DISK", "right"),
)


@command(summary="Download an image into tocsin's cache.", on_linux_only=True)
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@platform_option
@index_option
@threads_option
@directory_option
@cache_size_option
@registry_options
@output_options
def fetch(
    *,
    image: Reference,
    platform: Platform | None,
    index: str,
    threads: int | None,
    directory: Path,
    cache_size: int,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Download IMAGE into the cache, so that tocsin mount needs no registry afterwards.

    Commands that read files, such as tocsin cp, then fetch no layer.

    All data is verified, inflated and kept on disk, with several requests at a time. What is in
    the cache already is not fetched again, so a run that was interrupted can be continued. Before
    anything is fetched, the cache is pruned to --cache-size; the image itself may be larger.

    Examples:
      tocsin fetch ghcr.io/team/app:1
      tocsin fetch ghcr.io/team/app:1 --platform linux/arm64
      tocsin fetch ghcr.io/team/app:1 --cache-dir /var/cache/tocsin

    JSON keys: image, manifest, platform, cache_dir, layers[]: media_type, digest, size, index,
    disk_size; bytes_total, bytes_fetched, fetches, seconds, notes[].
    """
    from tocsin.cli.progress import display_for, shown_on  # noqa: PLC0415 (not for --help)
    from tocsin.mounting.fetch import fetch_image  # noqa: PLC0415
    from tocsin.mounting.options import MountOptions  # noqa: PLC0415

    options = MountOptions(
        reference=image,
        platform=platform,
        index=index,
        threads=threads,
        registry=registry,
        cache_dir=directory.absolute(),
        cache_size=cache_size,
    )
    notes: list[str] = []
    try:
        with display_for(output) as display:
            shown = shown_on(display, name="image")
            result = fetch_image(options, note=notes.append, progress=shown)
    finally:
        for note in notes:
            output.warn(note)
    if output.json:
        output.document(result.to_dict())
    else:
        _write(result, directory, output)


def _write(result: FetchResult, directory: Path, output: Output) -> None:
    output.table(
        _COLUMNS,
        [
            (
                words.short(layer.descriptor.digest),
                words.size(layer.descriptor.size),
                index_words(layer.index),
                words.size(layer.disk_size),
            )
            for layer in result.layers
        ],
    )
    output.line()
    output.line(
        f"fetched {words.size(result.bytes_fetched)} of {words.size(result.bytes_total)} in "
        f"{words.duration(result.seconds)} → {directory}"
    )
