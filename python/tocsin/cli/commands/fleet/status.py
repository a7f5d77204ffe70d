"""``tocsin fleet status``: show what is done of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli.command import command
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from tocsin.cli.output import Output


@command(summary="Show what is done of a plan.")
@click.argument("journal", metavar="JOURNAL", type=click.Path(dir_okay=False, path_type=Path))
@output_options
def status(*, journal: Path, output: Output) -> None:
    """Show what is done of a plan, also while it is running.

    JOURNAL is the file that tocsin fleet run writes: PLAN.journal by default.

    Examples:
      tocsin fleet status plan.json.journal
      tocsin fleet status plan.json.journal --json

    JSON keys: plan, complete, read_size, read, images and layers: total, pending, done, skipped,
    failed; traffic: read, pushed, ztocs, manifests, blobs, mounted; problems[]: image, state, code,
    reason.
    """
    from tocsin import fleet  # noqa: PLC0415 (--help needs none of these)
    from tocsin.cli import fleet_report  # noqa: PLC0415

    found = fleet.status(journal)
    if output.json:
        output.document(found.to_dict())
    elif output.quiet:
        output.line("complete" if found.is_complete else "incomplete")
    else:
        fleet_report.write_status(found, output)
