"""``tocsin cache prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.commands.cache.directory import directory_option, write_layers
from tocsin.cli.image_files import DEFAULT_CACHE_SIZE
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.cli.output import Output


@command(summary="Remove what was used least recently.")
@click.option(
    "--max-size",
    metavar="SIZE",
    type=parameters.size,
    default=DEFAULT_CACHE_SIZE,
    show_default=True,
    envvar="TOCSIN_CACHE_SIZE",
    help="Size of the cache afterwards, without pinned layers (also TOCSIN_CACHE_SIZE).",
)
@click.option("--all", "everything", is_flag=True, help="Remove everything that is not pinned.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@directory_option
@output_options
def prune(
    *, max_size: int, everything: bool, dry_run: bool, directory: Path, output: Output
) -> None:
    """Remove what was used least recently, until the cache has at most --max-size bytes.

    Layers that live mounts use are pinned: they are neither removed nor counted. The command can
    run at any time; mounts that start meanwhile fetch again what was removed.

    Examples:
      tocsin cache prune
      tocsin cache prune --max-size 10GiB
      tocsin cache prune --all --dry-run

    JSON keys: directory, dry_run, max_size, layers[]: digest, table, disk_size, last_used, pinned;
    file_count, removed_size, disk_size, pinned_size.
    """
    from tocsin.layers.cache_contents import prune_cache  # noqa: PLC0415 (not for --help)

    result = prune_cache(directory, max_size=0 if everything else max_size, dry_run=dry_run)
    if output.json:
        output.document(result.to_dict())
        return
    write_layers(result.layers, output)
    if result.layers:
        output.line()
    removed = "would remove" if dry_run else "removed"
    left = "would be left" if dry_run else "left"
    pinned = f" ({words.size(result.pinned_size)} pinned)" if result.pinned_size else ""
    output.line(
        f"{removed} {words.count(len(result.layers), 'inflated layer')} and "
        f"{words.count(result.file_count, 'other file')}, {words.size(result.removed_size)}"
    )
    output.line(f"{words.size(result.disk_size)}{pinned} {left} in {directory}")
