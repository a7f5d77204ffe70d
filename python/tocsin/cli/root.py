"""The ``tocsin`` command."""

from __future__ import annotations

import os

import click

from tocsin.cli.command import group


def _print_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:  # noqa: FBT001 (click's)
    if not asked:
        return
    import platform  # noqa: PLC0415 (slow, and only needed here)

    from tocsin import __version__  # noqa: PLC0415

    click.echo(f"tocsin {__version__}")
    click.echo(f"core {_core_version()}")
    click.echo(f"Python {platform.python_version()} ({platform.python_implementation()})")
    click.echo(f"platform {platform.platform()}")
    context.exit()


def _core_version() -> str:
    try:
        from tocsin.layers.indexer import CORE_VERSION  # noqa: PLC0415 (only needed here)
    except ImportError as error:  # the versions are most useful if the core is broken
        return f"cannot be loaded: {error}"
    return CORE_VERSION


@group(
    commands_in={
        "create": "tocsin.cli.commands.create",
        "convert": "tocsin.cli.commands.convert",
        "copy": "tocsin.cli.commands.copy",
        "info": "tocsin.cli.commands.info",
        "ls": "tocsin.cli.commands.ls",
        "cat": "tocsin.cli.commands.cat",
        "cp": "tocsin.cli.commands.cp",
        "find": "tocsin.cli.commands.find",
        "stat": "tocsin.cli.commands.stat",
        "mount": "tocsin.cli.commands.mount",
        "umount": "tocsin.cli.commands.umount",
        "mounts": "tocsin.cli.commands.mounts",
        "status": "tocsin.cli.commands.status",
        "run": "tocsin.cli.commands.run",
        "record": "tocsin.cli.commands.record",
        "snapshotter": "tocsin.cli.commands.snapshotter",
        "verify": "tocsin.cli.commands.verify",
        "ztoc": "tocsin.cli.commands.ztoc",
        "index": "tocsin.cli.commands.index",
        "fleet": "tocsin.cli.commands.fleet",
        "fetch": "tocsin.cli.commands.fetch",
        "doctor": "tocsin.cli.commands.doctor",
        "am-i-lazy": "tocsin.cli.commands.am_i_lazy",
        "cache": "tocsin.cli.commands.cache",
    },
    context={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--debug",
    is_flag=True,
    help="Print requests to registries, without secrets, and tracebacks (also TOCSIN_DEBUG=1).",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the versions of tocsin, its core, Python and the platform.",
)
def root(*, debug: bool) -> None:
    """Make container images start before they have arrived.

    tocsin builds SOCI indexes of container images, byte for byte as soci does, in one pass over
    each layer and without root, Docker or containerd. It verifies the indexes, and uses them to
    read single files of an image.

    References to images, as in skopeo and podman:
      [docker://]HOST/REPO:TAG  image in a registry
      oci:DIR[:TAG]             OCI layout directory
      oci-archive:FILE[:TAG]    tar archive of an OCI layout
      docker-archive:FILE       archive from docker save (read only)
      containerd:[NS/]IMAGE     image in containerd, in a namespace

    Examples:
      tocsin create ghcr.io/team/app:1
      tocsin convert ghcr.io/team/app:1 ghcr.io/team/app:1-soci
      tocsin info ghcr.io/team/app:1-soci
      tocsin verify ghcr.io/team/app:1-soci
      tocsin cat ghcr.io/team/app:1 /etc/os-release
      tocsin mount ghcr.io/team/app:1 /mnt
      tocsin ztoc build layer.tar.gz -o layer.ztoc

    Results go to stdout, with --json as one document. Messages go to stderr.

    To enable completion in bash (similarly in zsh and fish):
      eval "$(_TOCSIN_COMPLETE=bash_source tocsin)"
    """
    if debug:
        os.environ["TOCSIN_DEBUG"] = "1"
