"""``tocsin umount``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli.command import command
from tocsin.cli.options import quiet_option

if TYPE_CHECKING:
    from tocsin.cli.output import Output


@command(summary="Unmount an image.", on_linux_only=True)
@click.argument(
    "directories", metavar="DIR...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@click.option(
    "--lazy",
    is_flag=True,
    help="Remove the mount even if it is in use; programs that use it can finish.",
)
@quiet_option
def umount(*, directories: tuple[Path, ...], lazy: bool, output: Output) -> None:
    """Unmount the images in one or more directories DIR.

    The process of the mount ends, and writes its access log first if it has --record. If its
    process has died, the rest of the mount is removed. A mount that is in use is left alone, unless
    --lazy is given.

    Examples:
      tocsin umount /mnt
      tocsin umount --lazy /mnt
    """
    from tocsin.mounting.unmounting import unmount  # noqa: PLC0415 (not for --help)

    for directory in directories:
        unmount(directory, lazy=lazy)
        output.note(f"{directory}: unmounted")
