"""The option for the cache directory, and how its layers are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import words
from tocsin.cli.output import Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.cli.output import Output
    from tocsin.layers.inflated_layers import InflatedLayer

_COLUMNS = (
    Column("LAYER"),
    Column("INDEX"),
    Column("ON DISK", "right"),
    Column("LAST USED (UTC)"),
    Column("STATE"),
)


def _directory(_context: click.Context, _parameter: click.Parameter, given: Path | None) -> Path:
    from tocsin.layers.cache_space import (  # noqa: PLC0415 (not for --help)
        default_cache_directory,
    )

    return default_cache_directory() if given is None else given


directory_option = click.option(
    "--cache-dir",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="TOCSIN_CACHE_DIR",
    callback=_directory,
    help="Cache directory (also TOCSIN_CACHE_DIR).  [default: $XDG_CACHE_HOME/tocsin or"
    " ~/.cache/tocsin]",
)


def write_layers(layers: Iterable[InflatedLayer], output: Output) -> None:
    """Write a table of inflated layers."""
    from tocsin.layers.cache_contents import last_used  # noqa: PLC0415 (not for --help)

    rows = [
        (
            words.short(layer.digest),
            words.short(layer.table),
            words.size(layer.disk_size),
            f"{last_used(layer):%Y-%m-%d %H:%M}",
            "pinned" if layer.is_pinned else words.NOTHING,
        )
        for layer in layers
    ]
    if rows:
        output.table(_COLUMNS, rows)
