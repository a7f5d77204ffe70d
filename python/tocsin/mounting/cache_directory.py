"""The cache directory of mounts."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_directory() -> Path:
    """Return ``$XDG_CACHE_HOME/tocsin``, or ``~/.cache/tocsin``; relative paths are ignored."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "tocsin"
