"""Paths inside an image, as users type them and as tar entries spell them.

A separate module, because the zTOC of one layer needs nothing else from this package.
"""

from __future__ import annotations

import os
from typing import TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]
"""A path as ``str`` or as a `pathlib` path."""


def path_text(path: StrPath) -> str:
    """Return a path as ``str``.

    Raises:
        TypeError: `path` is bytes or not a path.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path is {type(text).__name__}, expected str (use os.fsdecode)")
    return text


def clean_path(path: str) -> str:
    """Normalize an absolute or relative path to an entry name: ``/a/../b/`` → ``b``."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
