"""``tocsin doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import exit_codes
from tocsin.cli.command import command
from tocsin.cli.commands.cache.directory import directory_option
from tocsin.cli.options import output_options
from tocsin.cli.output import Column

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.cli.output import Output

_COLUMNS = (Column("CHECK"), Column("STATE"), Column("FOUND", wraps=True))


@command(summary="Check whether images can be mounted here.")
@directory_option
@output_options
def doctor(*, directory: Path, output: Output) -> None:
    """Check whether this machine can mount images, and what would help.

    Nothing is changed, and the network is not used. The state "failed" means that tocsin mount does
    not work; "limited" means that it works, but without the feature that the check names. The exit
    code is 1 if a check failed.

    Checks: system, fuse (the device), rights (to mount), allow-other (mounts for other users),
    erofs (faster mounts), user-namespaces and overlay (for tocsin run), cache. If containerd is
    installed: containerd-plugins (snapshotters), containerd-sockets (whether they answer),
    containerd-transfer (pulls by containerd 2), containerd-cri and containerd-labels (Kubernetes).

    Examples:
      tocsin doctor
      tocsin doctor --json | jq -r '.checks[] | select(.fix) | .fix'

    JSON keys: ok, checks[]: name, state, found, fix.
    """
    from tocsin.mounting.doctor import diagnose  # noqa: PLC0415 (not for --help)
    from tocsin.mounting.machine import Machine  # noqa: PLC0415

    diagnosis = diagnose(Machine.this(directory.absolute()))
    if output.json:
        output.document(diagnosis.to_dict())
    else:
        rows = [(check.name, check.state, check.found) for check in diagnosis.checks]
        output.table(_COLUMNS, rows)
        fixes = {check.name: check.fix for check in diagnosis.checks if check.fix is not None}
        if fixes:
            output.line()
            output.heading("What would help")
            output.facts(fixes)
        output.line()
        state = "can" if diagnosis.ok else "cannot"
        output.line(f"this machine {state} mount images")
    if not diagnosis.ok:
        raise click.exceptions.Exit(exit_codes.FAILED)
