"""``tocsin am-i-lazy``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

import tocsin.mounting
from tocsin.cli.command import command

SCRIPT = Path(tocsin.mounting.__file__).with_name("am_i_lazy.sh")

_EXIT_CODES = """\b
Exit codes:
  0    lazy: the image was mounted before it had been pulled
  1    not lazy: the image was pulled in full
  2    wrong usage
  3    unknown, for example because the root is not a container's
"""


@command(summary="Report whether a container was started lazily.", epilog=_EXIT_CODES)
@click.option("--print", "prints", is_flag=True, help="Print the script instead of running it.")
@click.option("--pid", type=click.IntRange(min=1), help="Process of a container on this machine.")
def am_i_lazy(*, prints: bool, pid: int | None) -> None:
    """Report whether the root of a container is a lazily mounted image.

    A POSIX shell script does this, which needs nothing else and is meant for containers without
    tocsin. It reads its own list of mounts; in a task of Amazon ECS, it asks the task metadata
    endpoint first. Without --print, the script is run; --pid chooses a process on this machine.

    Examples:
      tocsin am-i-lazy --print > am-i-lazy.sh
      tocsin am-i-lazy --print | kubectl exec -i POD -- sh
      tocsin am-i-lazy --pid 4242
    """
    if prints:
        click.echo(SCRIPT.read_text("utf-8"), nl=False)
        return
    arguments = [] if pid is None else [f"/proc/{pid}/mountinfo"]
    done = subprocess.run(  # noqa: S603 (our own script)
        ["/bin/sh", SCRIPT, *arguments], check=False, stdin=subprocess.DEVNULL
    )
    raise click.exceptions.Exit(done.returncode)
