"""``tocsin cache ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.cli import words
from tocsin.cli.command import command
from tocsin.cli.commands.cache.directory import directory_option, write_layers
from tocsin.cli.options import output_options
from tocsin.cli.output import Column

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.cli.output import Output

_COLUMNS = (Column("CONTENTS", wraps=True), Column("FILES", "right"), Column("ON DISK", "right"))
_NAMES = {
    "spans": "compressed spans",
    "ztocs": "zTOCs",
    "seek": "parts of seek tables",
    "images": "manifests and configs",
    "answers": "answers of registries",
}


@command(summary="List what is kept on disk.")
@directory_option
@output_options
def ls(*, directory: Path, output: Output) -> None:
    """List the contents of the cache directory.

    The first table lists layers that mounts have inflated, most recently used first. A layer that a
    live mount uses is pinned: it is not removed, and not counted when the cache is pruned. Sizes
    are those of the blocks on the disk, since the files of a layer have holes until it is complete.

    Examples:
      tocsin cache ls
      tocsin cache ls --cache-dir /var/cache/tocsin --json

    JSON keys: directory, disk_size, pinned_size, layers[]: digest, table, disk_size, last_used,
    pinned; parts[]: name, file_count, disk_size.
    """
    from tocsin.layers.cache_contents import cache_contents  # noqa: PLC0415 (not for --help)

    contents = cache_contents(directory)
    if output.json:
        output.document(contents.to_dict())
        return
    write_layers(contents.layers, output)
    if contents.layers:
        output.line()
    output.table(
        _COLUMNS,
        [
            (_NAMES[part.name], f"{part.file_count:,}", words.size(part.disk_size))
            for part in contents.parts
        ],
    )
    output.line()
    pinned = f", {words.size(contents.pinned_size)} pinned" if contents.pinned_size else ""
    output.line(
        f"{words.count(len(contents.layers), 'inflated layer')}, "
        f"{words.size(contents.disk_size)} on disk{pinned}, in {directory}"
    )
