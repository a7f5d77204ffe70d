"""The mounts of this user, as files in a runtime directory.

For each mount, ``ID.json`` describes it and ``ID.sock`` is the socket of its process. The
description is written before the file system is mounted, so that a process that is killed in any
state leaves a description, by which its mount is found and removed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin import operating_system as system
from tocsin.errors import ConflictError
from tocsin.layers.untrusted_directory import (
    UntrustedFileError,
    open_directory,
    open_file,
    open_root,
    read_file,
    write_file,
)
from tocsin.mounting import mount_points
from tocsin.mounting.processes import is_running, start_time
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = ".json"
_SOCKET_SUFFIX = ".sock"
_LAYERS_SUFFIX = ".layers"
_LOCK = "lock"
_ID_LEN = 16
_MAX_SIZE = 64 << 10
"""Maximum size of a description in bytes; a path and a reference have a few KiB each."""
_PROBLEMS = (OSError, UntrustedFileError, ValueError, TypeError, KeyError)


@dataclass(frozen=True, slots=True)
class Registration:
    """The description of a mount.

    Attributes:
        directory: absolute path of the directory.
        image: reference of the image, as given.
        manifest: digest of the image's manifest; empty until it is known.
        platform: platform of the image; empty if unknown.
        index: the index with which most of the image is read, as in `OpenedImage`; empty until it
            is known.
        pid: number of the mount's process.
        started: when that process was started, in clock ticks after the machine.
        since: when the mount was requested, in seconds since 1970.
        cache_dir: directory of the cache.
        front: what the kernel mounts: ``fuse`` or ``erofs``.
        files: number of files and directories.
        size: size of the layers as the registry stores them, in bytes.
        mounted: whether it has been mounted.
        needs_process: whether the process serves it; otherwise the mount is alive as long as it
            exists, and `pid` is 0.
        layers: the directories in the cache that hold the data, if no process locks them.
        verified: whether the layers have the chain IDs that containerd gives them, if no process
            can be asked; ``None`` if unknown.
    """

    directory: str
    image: str
    manifest: str
    platform: str
    index: str
    pid: int
    started: int
    since: float
    cache_dir: str
    front: str = "fuse"
    files: int = 0
    size: int = 0
    mounted: bool = False
    needs_process: bool = True
    layers: tuple[str, ...] = ()
    verified: bool | None = None

    @property
    def name(self) -> str:
        """Name of its files, without a suffix: there is one mount in a directory."""
        return name_of(self.directory)

    @property
    def is_alive(self) -> bool:
        """Whether the process of the mount is running, or the mount exists without one."""
        if self.needs_process:
            return is_running(self.pid, self.started)
        point = mount_points.mounted_at(self.directory)
        return point is not None and mount_points.is_ours(point)

    def with_values(self, **changes: Any) -> Registration:  # noqa: ANN401 (any field)
        """Return the description with other values."""
        return replace(self, **changes)


def name_of(directory: str) -> str:
    """Return the name of the files of the mount in a directory."""
    return hashlib.sha256(os.fsencode(directory)).hexdigest()[:_ID_LEN]


def runtime_directory() -> Path:
    """Return the directory with the descriptions of this user's mounts.

    Source: XDG Base Directory Specification 0.8, "Environment variables".
    """
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/"):
        return Path(given) / "tocsin"
    if os.geteuid() == 0:
        return Path("/run/tocsin")
    return Path(tempfile.gettempdir()) / f"tocsin-{os.geteuid()}"


class Registry:
    """The descriptions of this user's mounts.

    Args:
        directory: the runtime directory; made when needed.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or runtime_directory()

    @contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        with (
            open_root(self.directory.parent, make=make) as above,
            open_directory(above, [self.directory.name], make=make) as directory,
        ):
            yield directory

    def all(self) -> list[Registration]:
        """Return all mounts, sorted by directory; unusable files are left out."""
        return sorted(self._all(), key=lambda each: each.directory)

    def _all(self) -> Iterator[Registration]:
        with suppress(*_PROBLEMS), self._opened() as directory:
            with os.scandir(directory) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(_SUFFIX)]
            for name in names:
                found = _read(name, directory)
                if found is not None and found.name + _SUFFIX == name:
                    yield found

    def find(self, directory: str) -> Registration | None:
        """Return the mount in a directory, given by its absolute path; ``None`` if none is."""
        with suppress(*_PROBLEMS), self._opened() as opened:
            found = _read(name_of(directory) + _SUFFIX, opened)
            if found is not None and found.directory == directory:
                return found
        return None

    def write(self, registration: Registration) -> None:
        """Write or replace a description.

        Raises:
            OSError: the runtime directory cannot be used; ``filename`` is its path.
        """
        data = json.dumps(asdict(registration), indent=1).encode()
        try:
            with self._opened(make=True) as directory:
                write_file(registration.name + _SUFFIX, directory, data)
        except UntrustedFileError as error:
            raise PermissionError(errno.EPERM, error.reason, str(self.directory)) from None

    def claim(self, registration: Registration) -> None:
        """Write the description of a new mount, unless another process has been faster.

        Raises:
            ConflictError: a living process has a mount in the same directory.
            OSError: as `write`.
        """
        try:
            with (
                self._opened(make=True) as directory,
                open_file(_LOCK, directory, write=True) as lock,
            ):
                system.lock(lock)  # released when the file is closed
                other = self.find(registration.directory)
                if other is not None and other.is_alive and other.pid != registration.pid:
                    raise mounted_already(other)
                self.write(registration)
        except UntrustedFileError as error:
            raise PermissionError(errno.EPERM, error.reason, str(self.directory)) from None

    def remove(self, registration: Registration) -> None:
        """Remove a description and its socket; nothing happens if they are missing.

        A description that another process has written meanwhile stays.
        """
        current = self.find(registration.directory)
        if current is not None and (current.pid, current.started) != (
            registration.pid,
            registration.started,
        ):
            return
        with suppress(*_PROBLEMS), self._opened() as directory:
            for suffix in (_SOCKET_SUFFIX, _SUFFIX):
                with suppress(FileNotFoundError):
                    os.unlink(registration.name + suffix, dir_fd=directory)

    def socket_path(self, registration: Registration) -> Path:
        """Return the path of the socket of a mount's process."""
        return self.directory / (registration.name + _SOCKET_SUFFIX)

    def layers_path(self, registration: Registration) -> Path:
        """Return the directory that serves the layers of a mount while EROFS is being mounted."""
        return self.directory / (registration.name + _LAYERS_SUFFIX)


def mounted_already(other: Registration) -> ConflictError:
    """Return the error for a directory in which another image is mounted."""
    return ConflictError(
        f"{quoted(other.directory)}: {quoted(other.image)} is already mounted there",
        hint="Unmount it with tocsin umount, or choose another directory.",
    )


def own_start_time() -> int:
    """Return when this process was started, in clock ticks after the machine."""
    return start_time(os.getpid()) or 0


def _read(name: str, directory: int) -> Registration | None:
    with suppress(*_PROBLEMS):
        with open_file(name, directory) as fd:
            size = os.fstat(fd).st_size
        if size > _MAX_SIZE:
            return None
        values = json.loads(read_file(name, directory, size))
        known = {each.name: values[each.name] for each in fields(Registration)}
        if isinstance(known["directory"], str) and isinstance(known["pid"], int):
            known["layers"] = tuple(known["layers"])
            return Registration(**known)
    return None
