"""``tocsin ztoc``: commands for zTOC files and layer files, without an image."""

from __future__ import annotations

from tocsin.cli.command import group


@group(
    commands_in={
        name: f"tocsin.cli.commands.ztoc.{name}"
        for name in ("build", "info", "ls", "cat", "extract")
    },
    summary="Build zTOCs of layers, and use them to read files.",
)
def ztoc() -> None:
    """Build and show zTOCs, and use them to read files of layers.

    Layers and zTOCs are local files. In an OCI layout, they are in DIR/blobs/sha256.
    """
