"""``tocsin cache``: list and remove what is kept on disk."""

from __future__ import annotations

from tocsin.cli.command import group


@group(
    commands_in={
        "ls": "tocsin.cli.commands.cache.ls",
        "prune": "tocsin.cli.commands.cache.prune",
    },
    summary="List and remove what is kept on disk.",
)
def cache() -> None:
    """List and remove what is kept on disk.

    tocsin mount and tocsin fetch keep the data of layers in a cache directory, so that it is
    fetched only once. What live mounts use is never removed.
    """
