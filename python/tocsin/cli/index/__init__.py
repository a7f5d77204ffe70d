"""``tocsin index``: SOCI indexes themselves."""

from __future__ import annotations

from tocsin.cli.command import group


@group(
    commands_in={"info": "tocsin.cli.index.info"},
    summary="Look into SOCI indexes.",
)
def index() -> None:
    """Look into SOCI indexes, the manifests that list the zTOCs of an image."""
