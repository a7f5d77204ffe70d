"""Paths inside an image, as people write them and as tars name entries.

Alone, since the zTOC of one layer needs nothing else of this room.
"""

from __future__ import annotations


def clean_path(path: str) -> str:
    """Return the name of an entry that an absolute or relative path means: ``/a/../b/`` → ``b``."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
