"""Paths inside an image, as people write them and as tars name entries.

Alone, since the zTOC of one layer needs nothing else of this room.
"""

from __future__ import annotations

import os
from typing import TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]
"""A path as text, or one of pathlib's."""


def path_text(path: StrPath) -> str:
    """Return a path as text.

    Raises:
        TypeError: it is bytes, or not a path at all.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path: got {type(text).__name__}, wanted str (os.fsdecode gives one)")
    return text


def clean_path(path: str) -> str:
    """Return the name of an entry that an absolute or relative path means: ``/a/../b/`` → ``b``."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
