"""containerd's configuration file, with the files that it imports."""

from __future__ import annotations

import glob
import tomllib
from collections import deque
from typing import TYPE_CHECKING, Any

from tocsin.mounting.containerd_version import SECOND

if TYPE_CHECKING:
    from tocsin.mounting.containerd_version import Version
    from tocsin.mounting.machine import Machine

CONFIG = "etc/containerd/config.toml"
_MAX_FILES = 64
"""Maximum files that are read; a configuration has one, or a few in a directory beside it."""


class ConfigError(Exception):
    """A file that cannot be used.

    Args:
        file: its path, without the leading slash.
        problem: what is wrong.
    """

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(file, problem)
        self.file = file
        self.problem = problem


def read_config(machine: Machine, version: Version) -> dict[str, Any]:
    """Return the configuration; an empty one if the file is missing.

    Imported files come last. In containerd 1, they replace whole sections of plug-ins; in
    containerd 2, single values. Both were tried. Source: containerd/containerd,
    cmd/containerd/server/config/config.go.

    Raises:
        ConfigError: a file is not valid, or cannot be read.
    """
    config: dict[str, Any] = {}
    pending = deque([CONFIG] if machine.exists(CONFIG) else [])
    seen: set[str] = set()
    while pending and len(seen) < _MAX_FILES:
        name = pending.popleft()
        if name in seen:
            continue
        seen.add(name)
        values = _read(machine, name)
        pending.extend(_imported(machine, name, values))
        _merge(config, values, depth=2 if version < SECOND else None)
    return config


def _read(machine: Machine, name: str) -> dict[str, Any]:
    text = machine.text(name)
    if text is None:
        raise ConfigError(name, "cannot be read")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(name, "is not valid TOML") from None


def _imported(machine: Machine, name: str, values: dict[str, Any]) -> list[str]:
    imports = values.get("imports")
    names: list[str] = []
    for pattern in imports if isinstance(imports, list) else []:
        if not isinstance(pattern, str) or "\0" in pattern:
            continue
        if not pattern.startswith("/"):
            pattern = f"{name.rpartition('/')[0]}/{pattern}"  # noqa: PLW2901 (relative to the file)
        names += sorted(glob.glob(pattern.lstrip("/"), root_dir=machine.root))  # noqa: PTH207 (root)
    return names


def _merge(config: dict[str, Any], values: dict[str, Any], *, depth: int | None) -> None:
    """Add values to a configuration; below a depth, tables are replaced."""
    for key, value in values.items():
        old = config.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and depth != 1:
            _merge(old, value, depth=None if depth is None else depth - 1)
        else:
            config[key] = value


def table(value: Any, *names: str) -> dict[str, Any]:  # noqa: ANN401 (TOML)
    """Return a table inside a document; an empty one if it is missing or another type."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
