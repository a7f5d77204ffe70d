"""``tocsin index``: list, show and remove indexes and access logs."""

from __future__ import annotations

from tocsin.cli.command import group


@group(
    commands_in={
        "ls": "tocsin.cli.commands.index.ls",
        "info": "tocsin.cli.commands.index.info",
        "rm": "tocsin.cli.commands.index.rm",
    },
    summary="List, show and remove indexes and access logs.",
)
def index() -> None:
    """List, show and remove indexes and access logs.

    A SOCI index is a manifest that lists the zTOCs of an image. An access log lists the files that
    a program of the image uses.
    """
