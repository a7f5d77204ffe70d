"""The configuration file of the snapshotter, in TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.errors import FormatError
from tocsin.mounting.options import BY_TAG, DEFAULT_CACHE_SIZE, TRUST
from tocsin.quoting import quoted, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_FILE = Path("/etc/tocsin/snapshotter.toml")
"""Read if it exists and no other file is named."""
DEFAULT_ROOT = Path("/var/lib/tocsin-snapshotter")
DEFAULT_ADDRESS = Path("/run/tocsin-snapshotter/tocsin.sock")
DEFAULT_CONTAINERD = Path("/run/containerd/containerd.sock")
LOG_LEVELS = ("debug", "info", "warning", "error")
_MAX_FILE_SIZE = 1 << 20
_MAX_SIZE = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotterConfig:
    """Settings of the snapshotter.

    Attributes:
        root: directory of the snapshots.
        address: socket that containerd connects to.
        image_service: socket for the kubelet, whose credentials are then used for mounts; ``None``
            for none.
        containerd: containerd's socket, to which requests of the kubelet are passed on.
        cache_dir: directory of the cache; ``None`` for ``cache`` below `root`.
        cache_size: limit of the cache in bytes, without what mounts use.
        trust: when indexes are used that only refer to an image: ``by-tag`` for images that are
            pulled by tag, ``bound`` never, ``any`` always.
        background: whether images are loaded in the background.
        metrics: ``HOST:PORT`` for Prometheus metrics; empty for none.
        log_level: least severity of the messages that are printed.
    """

    root: Path = DEFAULT_ROOT
    address: Path = DEFAULT_ADDRESS
    image_service: Path | None = None
    containerd: Path = DEFAULT_CONTAINERD
    cache_dir: Path | None = None
    cache_size: int = DEFAULT_CACHE_SIZE
    trust: str = BY_TAG
    background: bool = True
    metrics: str = ""
    log_level: str = "warning"

    @classmethod
    def current(cls, path: Path | None = None) -> SnapshotterConfig:
        """Return the settings of a file, or of the default file if it exists.

        Raises:
            FormatError: it is not valid; the message names the key.
            OSError: it cannot be read.
        """
        if path is None and not DEFAULT_FILE.exists():
            return cls()
        return cls.read(path or DEFAULT_FILE)

    @classmethod
    def read(cls, path: Path) -> SnapshotterConfig:
        """Read a configuration file.

        Raises:
            FormatError: it is not valid; the message names the key.
            OSError: it cannot be read.
        """
        name = shown(str(path))
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_SIZE + 1)
        if len(data) > _MAX_FILE_SIZE:
            raise _error(name, f"too large (expected at most {_MAX_FILE_SIZE} bytes)")
        try:
            values = tomllib.loads(data.decode())
        except (ValueError, RecursionError):
            raise _error(name, "not valid TOML") from None
        return cls()._with_file(values, name)

    def _with_file(self, values: Mapping[str, Any], name: str) -> SnapshotterConfig:
        known = {field.name.replace("_", "-"): field.name for field in fields(self)}
        changes: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise _error(
                    name, f"unknown key {quoted(key)} (expected one of {', '.join(sorted(known))})"
                )
            changes[known[key]] = _checked(key, value, name)
        return replace(self, **changes)

    def with_values(self, **changes: Any) -> SnapshotterConfig:  # noqa: ANN401 (any field)
        """Return the settings with those that are not ``None`` replaced."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **given)


def _checked(key: str, value: object, name: str) -> object:
    """Return the value of a key with the type of its field."""
    if key in ("root", "address", "image-service", "containerd", "cache-dir"):
        if isinstance(value, str) and value.startswith("/") and "\0" not in value:
            return Path(value)
        raise _error(name, f"{key}: not an absolute path")
    if key == "background":
        if isinstance(value, bool):
            return value
        raise _error(name, f"{key}: not true or false")
    if key == "cache-size":
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SIZE:
            return value
        raise _error(name, f"{key}: not a number of bytes")
    choices = {"trust": TRUST, "log-level": LOG_LEVELS}.get(key)
    if isinstance(value, str) and (choices is None or value in choices):
        return value
    expected = f" (expected one of {', '.join(choices)})" if choices else " (expected a string)"
    raise _error(name, f"{key}: unknown value{expected}")


def _error(name: str, problem: str) -> FormatError:
    return FormatError(f"{name}: {problem}", what="snapshotter.config")
