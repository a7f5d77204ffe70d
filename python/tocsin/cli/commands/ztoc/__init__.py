"""``tocsin ztoc``: zTOC files and layers at hand, without any image."""

from __future__ import annotations

from tocsin.cli.command import group


@group(
    commands_in={
        name: f"tocsin.cli.commands.ztoc.{name}"
        for name in ("build", "info", "ls", "cat", "extract")
    },
    summary="Make zTOCs of layers, and read them.",
)
def ztoc() -> None:
    """Make the zTOC of a layer, look into it, take files out of the layer by it.

    Layers and zTOCs are files here. Those of an OCI layout are under DIR/blobs/sha256.
    """
