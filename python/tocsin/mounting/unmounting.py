"""Unmounting images, and listing them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError
from tocsin.mounting import control, mount_points
from tocsin.mounting.process import remove_dead
from tocsin.mounting.registered import Registry
from tocsin.mounting.status import MountStatus, of_silent
from tocsin.quoting import quoted

if TYPE_CHECKING:
    import os

    from tocsin.mounting.registered import Registration

_END_TIMEOUT = 10.0
"""Seconds to wait for the process of a mount, which may write an access log."""
_PAUSE = 0.01
_OF_SNAPSHOTTER = re.compile(r"(.+)/images/[0-9a-f]{64}-[0-9]{1,9}/(?:fs|complete)", re.DOTALL)
"""Where a snapshotter mounts images, below its directory."""
LIST_TIMEOUT = 2.0
"""Seconds that each mount has to answer, when all of them are listed."""


def unmount(directory: str | os.PathLike[str], *, lazy: bool = False) -> None:
    """Unmount an image, and wait until its process has ended; a dead mount is removed.

    Args:
        directory: where it is mounted.
        lazy: whether to remove the mount at once even if it is in use; programs that use it keep
            it.

    Raises:
        NotFoundError: no image is mounted there.
        ConflictError: it is in use.
        OSError: it cannot be unmounted.
    """
    registry = Registry()
    path = mount_points.absolute(directory)
    found = registry.find(path)
    point = mount_points.mounted_at(path)
    if found is not None and not found.is_alive:
        remove_dead(registry, found)
        return
    if point is None or not mount_points.is_ours(point):
        if found is not None and not found.mounted:
            raise NotFoundError(
                f"{quoted(path)}: the image is still being opened by process {found.pid}",
                hint="Wait until it is mounted, or end that process with kill.",
            )
        raise NotFoundError(
            f"{quoted(path)}: no image is mounted there",
            hint="List the mounts with tocsin mounts.",
        )
    mount_points.unmount(point, lazy=lazy)
    if found is None:
        return
    if lazy:
        # The process serves those who still use the mount, but the directory is free again.
        registry.remove(found)
        return
    deadline = time.monotonic() + _END_TIMEOUT
    while found.is_alive and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def status_of(directory: str | os.PathLike[str]) -> MountStatus:
    """Return what the mount in a directory is doing.

    Raises:
        NotFoundError: no image is mounted there.
    """
    path = mount_points.absolute(directory)
    registry = _registry_of(path)
    found = registry.find(path)
    if found is None:
        raise NotFoundError(
            f"{quoted(path)}: no image is mounted there",
            hint="List the mounts with tocsin mounts.",
        )
    return status_in(registry, found, control.ANSWER_TIMEOUT)


def _registry_of(directory: str) -> Registry:
    """Return the descriptions that list a mount: those of its snapshotter, or of this user."""
    found = _OF_SNAPSHOTTER.fullmatch(directory)
    if found is not None and (run := Path(found[1]) / "run").is_dir():
        return Registry(run)
    return Registry()


def all_mounts(*, clean: bool = False) -> list[MountStatus]:
    """Return what each mount of this user is doing.

    Args:
        clean: whether to remove dead mounts, which are then left out.

    Raises:
        OSError: a dead mount cannot be unmounted.
    """
    registry = Registry()
    found = []
    for each in registry.all():
        if clean and not each.is_alive:
            remove_dead(registry, each)
        else:
            found.append(status_in(registry, each, LIST_TIMEOUT))
    return found


def status_in(registry: Registry, found: Registration, timeout: float) -> MountStatus:
    """Return what a mount is doing.

    Args:
        registry: the descriptions of mounts.
        found: the description of the mount.
        timeout: seconds that its process has to answer.
    """
    answer = None
    if found.is_alive:
        answer = control.ask(registry.socket_path(found), control.STATUS, timeout=timeout)
    if answer is not None:
        try:
            return MountStatus.from_dict(answer)
        except (TypeError, KeyError):
            pass  # another version of tocsin made the mount
    # Read again: it may have become ready meanwhile.
    return of_silent(registry.find(found.directory) or found)
