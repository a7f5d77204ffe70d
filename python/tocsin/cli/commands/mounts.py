"""``tocsin mounts``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import words
from tocsin.cli.command import command
from tocsin.cli.mount_options import index_words
from tocsin.cli.options import output_options
from tocsin.cli.output import Column

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.mounting.status import MountStatus

_COLUMNS = (
    Column("DIRECTORY", wraps=True),
    Column("IMAGE", wraps=True),
    Column("INDEX"),
    Column("STATE"),
    Column("FETCHED", "right"),
    Column("LEFT", "right"),
    Column("PID", "right"),
)


@command(summary="List the mounted images.", on_linux_only=True)
@click.option("--clean", is_flag=True, help="Remove mounts whose process has died.")
@output_options
def mounts(*, clean: bool, output: Output) -> None:
    """List the images that this user has mounted.

    STATE is starting while the image is being opened; lazy if data is fetched when it is read;
    complete if all data is on this machine; dead if the process of the mount has died. FETCHED is
    the size of what the mount has fetched, LEFT the size of what is still missing.

    Examples:
      tocsin mounts
      tocsin mounts --clean

    JSON keys: mounts[]: the keys of tocsin status.
    """
    from tocsin.mounting.unmounting import all_mounts  # noqa: PLC0415 (not for --help)

    found = all_mounts(clean=clean)
    if output.json:
        output.document({"mounts": [each.to_dict() for each in found]})
    elif found:
        output.table(_COLUMNS, [_row(each) for each in found])
    else:
        output.note("no image is mounted")


def _row(status: MountStatus) -> tuple[str, ...]:
    has_counters = status.bytes_total > 0
    return (
        status.directory,
        status.image,
        index_words(status.index) or words.NOTHING,
        status.state,
        words.size(status.bytes_fetched) if has_counters else words.NOTHING,
        words.size(status.bytes_left) if has_counters else words.NOTHING,
        str(status.pid),
    )
