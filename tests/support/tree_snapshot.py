"""Snapshots of local directory trees for comparison."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def snapshot(top: Path, *, without: Iterable[str] = ()) -> dict[str, tuple[Any, ...]]:
    """Return the type, mode, owner, time, attributes and data of each path in a tree.

    For a file with several names, each of them also has the first name.
    """
    found: dict[str, tuple[Any, ...]] = {}
    names: dict[int, str] = {}
    for path in sorted([top, *top.rglob("*")]):
        relative = str(path.relative_to(top))
        if relative in without:
            continue
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        data: bytes | str | int = (
            path.read_bytes()
            if kind == stat.S_IFREG
            else str(path.readlink())
            if kind == stat.S_IFLNK
            else status.st_rdev
        )
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        first = names.setdefault(status.st_ino, relative)
        owner = (status.st_uid, status.st_gid)
        found[relative] = (oct(status.st_mode), owner, status.st_mtime_ns, attributes, data, first)
    return found
