"""``tocsin run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.image_files import LayerProgress
from tocsin.cli.mount_options import CommandReport, index_words, mount_options
from tocsin.cli.options import quiet_option
from tocsin.cli.program_options import program_options
from tocsin.operating_system import is_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tocsin.cli.output import Output
    from tocsin.model.reference import Reference
    from tocsin.model.run_config import RunConfig
    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.reports import Ready


@command(
    summary="Run a program of an image without downloading the image first.", on_linux_only=True
)
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@program_options
@mount_options
@quiet_option
def run(
    *,
    image: Reference,
    config_of: Callable[[dict[str, Any]], RunConfig],
    read_only: bool,
    options_for: Callable[..., MountOptions],
    log: Path | None,
    output: Output,
) -> None:
    """Mount IMAGE, run COMMAND in it, and unmount it; the exit code is that of COMMAND.

    COMMAND replaces the command of the image; its entrypoint stays, unless --entrypoint is given.
    Environment, user and working directory are those of the image. Files that the program changes
    are kept in memory, and are lost when it ends.

    The program has its own mounts, processes and IPC, and shares the network of this machine.
    Without root, it runs as root of a user namespace, if the kernel allows one. This is for trying
    an image; it is not as isolated as in a container runtime.

    The exit code is 127 if COMMAND is not found and 126 if it cannot be executed.

    Examples:
      tocsin run ghcr.io/team/app:1
      tocsin run ghcr.io/team/app:1 -- python -c "import numpy"
      tocsin run --record app.log ghcr.io/team/app:1 -- app --version
    """
    from tocsin.mounting.running import run as run_in  # noqa: PLC0415 (not for --help)

    report = CommandReport(output)
    shown = LayerProgress(output)

    def started(ready: Ready) -> None:
        shown.close()
        report.show()
        report.notes.clear()
        output.note(
            f"{ready.image}, {index_words(ready.index)}, {words.size(ready.size)}, ready after "
            f"{words.duration(ready.seconds)}"
        )

    # With root, the program may have another user, to whom the mount must not be closed.
    options = options_for(image, allow_other=is_root())
    try:
        with shown:
            code = run_in(
                options,
                config_of,
                report,
                started=started,
                progress=shown,
                log=log,
                read_only=read_only,
            )
    finally:
        report.show()
    raise click.exceptions.Exit(code)


# Options after the image belong to the program.
run.allow_interspersed_args = False
