"""``tocsin.mount``: an image as a directory."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.errors import ConflictError, NotFoundError
from tocsin.layers.cache_space import default_cache_directory
from tocsin.model.digest import Digest
from tocsin.model.index_choice import IndexChoice
from tocsin.model.platform import platform_of
from tocsin.mounting import mount_points
from tocsin.mounting.fronts import front_of
from tocsin.mounting.options import AUTO_ACCESS_LOG, DEFAULT_READ_TIMEOUT, MountOptions
from tocsin.mounting.spawned import Spawned
from tocsin.mounting.unmounting import status_of, unmount
from tocsin.operating_system import require_linux
from tocsin.stores.places import reference_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tocsin.model.entry_path import StrPath
    from tocsin.model.events import Event, Progress
    from tocsin.model.platform import Platform
    from tocsin.model.reference import ReferenceLike
    from tocsin.mounting.reports import Ready
    from tocsin.mounting.status import MountStatus
    from tocsin.stores.registry import RegistryOptions


def mount(
    reference: ReferenceLike,
    directory: StrPath | None = None,
    *,
    platform: str | Platform | None = None,
    index: str | Digest = "auto",
    registry: RegistryOptions | None = None,
    cache_dir: StrPath | None = None,
    background: bool = True,
    background_rate: int | None = None,
    record: StrPath | None = None,
    access_log: StrPath | None = AUTO_ACCESS_LOG,
    front: str = "auto",
    allow_other: bool = False,
    read_timeout: float = DEFAULT_READ_TIMEOUT,
    note: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Mount:
    """Mount an image as a directory, without waiting for its layers.

    Files are fetched when they are read, and the rest is loaded in the background. The mount has
    its own process, which ends when the mount is unmounted, or when this process ends. Linux only.

    Args:
        reference: the image, as for ``tocsin.open``.
        directory: an empty directory; by default, a new temporary one.
        platform: platform of the image, as for ``tocsin.open``.
        index: which indexes to use, as for ``tocsin.open``. Layers without one are read in full
            before the mount is ready.
        registry: how to reach a registry.
        cache_dir: directory of the cache, which mounts share; by default,
            ``$XDG_CACHE_HOME/tocsin`` or ``~/.cache/tocsin``.
        background: whether to load the whole image in the background.
        background_rate: limit of that in bytes per second.
        record: file to which an access log is written when the mount ends.
        access_log: access log of an earlier run, whose files are loaded first: a file, or
            ``auto`` for the newest one that refers to the image in its store, which is looked for
            once the mount is ready; ``None`` for none.
        front: what the kernel mounts: ``fuse``, ``erofs``, or ``auto`` for EROFS where possible.
            EROFS is faster; it needs Linux 6.12, root, and `allow_other` or a directory that other
            users cannot reach. `record` needs ``fuse``.
        allow_other: whether other users may use the mount.
        read_timeout: seconds after which a read that waits for the registry fails with ``EIO``,
            over all tries together; the next read of the same data tries again.
        note: called with messages for the user.
        progress: called while layers without an index are read.

    Raises:
        UnsupportedError: this machine cannot mount, or not with `front`; or a layer cannot be read.
        NotFoundError: the image, platform, index or directory is missing.
        ConflictError: the directory is not empty, or an image is mounted there.
        FormatError: `reference` or `front` is invalid, or the reference does not name an image.
        RegistryError, OSError: the image cannot be reached or read.
    """
    require_linux("mounting")
    parsed = reference_of(reference)
    choice = IndexChoice.of(index)
    finds = access_log == AUTO_ACCESS_LOG
    cache = default_cache_directory() if cache_dir is None else Path(os.fsdecode(cache_dir))
    options = MountOptions(
        reference=parsed,
        platform=None if platform is None else platform_of(platform),
        index=str(choice),
        registry=registry,
        cache_dir=cache.absolute(),
        background=background,
        background_rate=background_rate,
        record=_absolute(record),
        access_log=None if finds else _absolute(access_log),
        find_access_log=finds,
        front=front_of(front),
        allow_other=allow_other,
        read_timeout=read_timeout,
    )
    made = None
    if directory is None:
        made = directory = tempfile.mkdtemp(prefix="tocsin-")
    notes = _Notes(note)
    try:
        spawned = Spawned(
            options,
            mount_points.absolute(directory),
            notes,
            progress=progress,
            temporary=made is not None,
        )
    except BaseException:
        if made is not None:
            with suppress(OSError):
                Path(made).rmdir()
        raise
    return Mount._of(spawned, notes.texts)


class Mount:
    """A mounted image; a context manager that yields the directory and unmounts it at the end.

    Made by ``tocsin.mount``.

    Attributes:
        directory: where the image is mounted.
        manifest: digest of the image's manifest.
        index: the index with which most of the image is read, as in `MountStatus`.
        notes: messages for the user.
    """

    directory: Path
    manifest: Digest
    index: str
    notes: list[str]
    _spawned: Any  # `Spawned`, which is not public

    @classmethod
    def _of(cls, spawned: Spawned, notes: list[str]) -> Mount:
        mount = cls()
        mount.directory = Path(spawned.ready.directory)
        mount.manifest = Digest.parse(spawned.ready.manifest)
        mount.index = spawned.ready.index
        mount.notes = notes
        mount._spawned = spawned
        return mount

    def status(self) -> MountStatus:
        """Return what the mount is doing.

        Raises:
            NotFoundError: it has been unmounted.
        """
        return status_of(self.directory)

    def unmount(self, *, lazy: bool = False) -> None:
        """Unmount the image; does nothing if it has been unmounted.

        Args:
            lazy: whether to remove the mount at once even if it is in use; programs that use it
                keep it until this process ends.

        Raises:
            ConflictError: it is in use.
            OSError: it cannot be unmounted.
        """
        with suppress(NotFoundError):
            unmount(self.directory, lazy=lazy)
        if lazy:
            self._spawned.detach()
        else:
            self._spawned.close()

    def __enter__(self) -> Path:
        return self.directory

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.unmount()
        except ConflictError:
            # Files that are still open stay readable as long as this process runs.
            self.unmount(lazy=True)

    def __repr__(self) -> str:
        return f"<Mount {self.directory} {self.manifest}>"


class _Notes:
    """Receives reports of the mount's process."""

    def __init__(self, callback: Callable[[str], None] | None) -> None:
        self.texts: list[str] = []
        self._callback = callback

    def note(self, text: str) -> None:
        self.texts.append(text)
        if self._callback is not None:
            self._callback(text)

    def progress(self, event: Event) -> None:
        """Do nothing: events go to the caller's own function."""

    def ready(self, ready: Ready) -> None:
        """Do nothing: the caller gets it too."""


def _absolute(path: StrPath | None) -> Path | None:
    return None if path is None else Path(os.fsdecode(path)).absolute()
