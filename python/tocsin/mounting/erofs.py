"""Mounting an image with EROFS: its metadata in one file, its data in the files of the layers.

While data is missing, FUSE serves the files of the layers, and the metadata with them, since not
every file system can be below EROFS. EROFS opens all files when it is mounted, so that their
directory is removed at once; the FUSE file system ends when EROFS is unmounted. If the process
dies, reads of what the kernel does not have yet fail with ``EIO``. When all data is in the cache
and has been checked, EROFS reads the files there, and no process takes part.
"""

from __future__ import annotations

import os
import select
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.errors import TocsinError
from tocsin.layers.inflated_layers import DATA
from tocsin.mounting import mount_points, system_calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.mounting.mount_points import MountPoint
    from tocsin.mounting.opening import FillSource

_METADATA = "image"
"""Name of the file with the metadata, as the core serves it."""
_END_TIMEOUT = 1.0
"""Seconds to wait for the end of the FUSE file system, which programs may still use."""


class CannotUseErofsError(Exception):
    """EROFS cannot be used for an image; FUSE can.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ErofsMount:
    """An image mounted with EROFS.

    Args:
        core: the file system of the core, which is already being filled.
        layers: sources of the layers.
        directory: an empty directory.
        private: where the layers are mounted for a moment; it does not exist.
        cache_dir: where the metadata is written, to a file without a name.
        source: what the kernel lists as source of the FUSE file system.
        allow_suid: whether set-user-ID and set-group-ID bits have an effect.
        allow_dev: whether device files work.

    Attributes:
        needs_process: whether data comes from this process.

    Raises:
        CannotUseErofsError: there is no mount.
    """

    def __init__(
        self,
        core: Any,  # noqa: ANN401 (a class of the core)
        layers: Sequence[FillSource],
        directory: str,
        *,
        private: Path,
        cache_dir: Path,
        source: str,
        allow_suid: bool = False,
        allow_dev: bool = False,
    ) -> None:
        self._core = core
        self._flags = system_calls.MS_RDONLY
        self._flags |= 0 if allow_suid else system_calls.MS_NOSUID
        self._flags |= 0 if allow_dev else system_calls.MS_NODEV
        self._directory = directory
        self._layers = layers
        self._cache_dir = cache_dir
        # Opened first, since it reports changes of the mounts from then on.
        self._changes = Path("/proc/self/mountinfo").open("rb")  # noqa: SIM115 (closed at the end)
        try:
            kept = self._kept()
            self.needs_process = kept is None
            with self._metadata() as metadata:
                if kept is None:
                    self._mount_over_fuse(metadata, len(layers), private, source)
                else:
                    self._mount_over(metadata, kept, directory)
        except OSError as error:
            self._changes.close()
            raise CannotUseErofsError(f"the kernel refused: {error.strerror}") from error
        except BaseException:
            self._changes.close()
            raise
        self._point = mount_points.mounted_at(directory)

    def mount_complete(self, directory: str) -> tuple[str, ...]:
        """Mount the same image in another directory, from the files in the cache alone.

        Returns:
            The directories in the cache with these files.

        Raises:
            CannotUseErofsError: data is missing there, or the kernel refuses.
        """
        kept = self._kept()
        if kept is None:
            raise CannotUseErofsError("not all data is in the cache")
        try:
            with self._metadata() as metadata:
                self._mount_over(metadata, kept, directory)
        except OSError as error:
            raise CannotUseErofsError(f"the kernel refused: {error.strerror}") from error
        return tuple(str(path.parent) for path in kept)

    def _kept(self) -> list[Path] | None:
        """Return the files of all layers; ``None`` unless all data is in them, and correct."""
        kept = [Path(each.directory) / DATA for each in self._layers if each.directory is not None]
        return kept if len(kept) == len(self._layers) and self._core.check_all() else None

    @contextmanager
    def _metadata(self) -> Iterator[int]:
        """Yield a file with the image's metadata."""
        with tempfile.TemporaryFile(dir=self._cache_dir) as metadata:
            try:
                metadata.write(self._core.erofs_image())
            except ValueError as error:
                raise CannotUseErofsError(f"{error}") from None
            metadata.flush()
            yield metadata.fileno()

    def _mount_over_fuse(self, metadata: int, count: int, private: Path, source: str) -> None:
        private.mkdir(mode=0o700)
        try:
            self._core.mount_layers(str(private), _path_of(metadata), source=source)
            try:
                served = os.open(private / _METADATA, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    files = [private / str(number) for number in range(count)]
                    self._mount_over(served, files, self._directory)
                finally:
                    os.close(served)
            finally:
                # The files stay as long as EROFS has them open.
                system_calls.unmount(str(private), system_calls.MNT_DETACH)
        finally:
            private.rmdir()

    def _mount_over(self, metadata: int, devices: Sequence[Path], directory: str) -> None:
        with ExitStack() as stack:
            options = []
            for device in devices:
                fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                stack.callback(os.close, fd)
                # Short, since all options have one page, and without commas.
                options.append(f"device={_path_of(fd)}")
            source = _path_of(metadata)
            system_calls.mount(source, directory, "erofs", self._flags, ",".join(options))

    def _current(self) -> MountPoint | None:
        """Return the mount, if it is still there."""
        point = mount_points.mounted_at(self._directory)
        return point if point is not None and point == self._point else None

    def wait(self, timeout: float) -> bool:
        """Return whether it was unmounted, after `timeout` seconds at most."""
        if self.needs_process:
            return bool(self._core.wait(timeout))
        if self._current() is not None:
            poll = select.poll()
            poll.register(self._changes, select.POLLPRI | select.POLLERR)
            poll.poll(timeout * 1000)
        return self._current() is None

    def close(self) -> None:
        """Unmount it, if it is still mounted; programs that use it keep what the kernel has."""
        point = self._current()
        if point is not None:
            with suppress(OSError, TocsinError):
                mount_points.unmount(point, lazy=True)
        if self.needs_process:
            self._core.wait(_END_TIMEOUT)
        self._changes.close()


def _path_of(fd: int) -> str:
    return f"{mount_points.OPEN_FILES}{fd}"
