"""The mounts of a snapshot, as containerd's own overlayfs snapshotter gives them.

Source: containerd/containerd, plugins/snapshots/overlay/overlay.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.mounting.snapshotter.snapshot import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDEX = Path("/sys/module/overlay/parameters/index")
_USERS = Path("/proc/self/uid_map")
_ALL_USERS = ["0", "0", "4294967295"]
"""Mapping of users outside of a user namespace. Source: Linux man-pages, user_namespaces(7)."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that containerd is to make.

    Attributes:
        kind: type of the file system: ``bind`` or ``overlay``.
        source: what is mounted.
        options: mount options.
    """

    kind: str
    source: str
    options: tuple[str, ...]


def overlay_options() -> tuple[str, ...]:
    """Return the options that overlayfs needs on this machine."""
    options = []
    # With an index, a directory cannot be the upper one of a second mount after a crash.
    if _INDEX.exists():
        options.append("index=off")
    try:
        in_namespace = _USERS.read_text().split() != _ALL_USERS
    except OSError:
        in_namespace = False
    if in_namespace:  # which may not write attributes named trusted.overlay
        options.append("userxattr")
    return tuple(options)


def mounts_of(
    kind: Kind, files: Path, work: Path, lower: Sequence[Path], options: Sequence[str]
) -> list[Mount]:
    """Return the mounts of an active snapshot or a view.

    Args:
        kind: its kind.
        files: the directory of its files.
        work: the directory that overlayfs works in.
        lower: directories below, the uppermost first; empty without a parent.
        options: see `overlay_options`.
    """
    if not lower:
        return [_bind(files, "ro" if kind is Kind.VIEW else "rw")]
    if kind is Kind.VIEW and len(lower) == 1:  # overlayfs needs two directories at least
        return [_bind(lower[0], "ro")]
    upper = () if kind is Kind.VIEW else (f"workdir={work}", f"upperdir={files}")
    below = f"lowerdir={':'.join(map(str, lower))}"
    return [Mount("overlay", "overlay", (*upper, below, *options))]


def _bind(source: Path, access: str) -> Mount:
    return Mount("bind", str(source), (access, "rbind"))
