"""``tocsin index``: SOCI indexes themselves."""

from __future__ import annotations

from tocsin.cli.command import group


@group(
    commands_in={
        "ls": "tocsin.cli.commands.index.ls",
        "info": "tocsin.cli.commands.index.info",
        "rm": "tocsin.cli.commands.index.rm",
    },
    summary="List, look into and remove SOCI indexes.",
)
def index() -> None:
    """List, look into and remove SOCI indexes, the manifests that list the zTOCs of an image."""
