"""One mount inside its process: the file system of the core, and the threads that fill it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tocsin import _core
from tocsin.errors import NotFoundError, UnsupportedError
from tocsin.model.access_log import AccessLog
from tocsin.model.access_recorder import AccessRecorder
from tocsin.mounting.erofs import CannotUseErofsError, ErofsMount
from tocsin.mounting.fetching import FetchThreads
from tocsin.mounting.fronts import EROFS, FUSE, front_for
from tocsin.mounting.mount_points import SOURCE
from tocsin.mounting.opening import FETCH_THREADS
from tocsin.mounting.pushed_log import PushedLog
from tocsin.mounting.system_calls import release_memory
from tocsin.reading.image import store_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tocsin.mounting.opening import OpenedImage
    from tocsin.mounting.options import MountOptions
    from tocsin.reading.image import Image

MEMORY_SIZE = 64 << 20
"""Inflated bytes that are kept in memory, if not on disk; also the limit of a pack."""
_JOIN_TIMEOUT = 2.0


class Engine:
    """The file system of one image.

    Args:
        opened: the image.
        options: options of the mount.
        note: called with messages for the user.

    Raises:
        UnsupportedError: mounts are not available on this system.
        FormatError, OSError: the access log cannot be read.
    """

    def __init__(
        self, opened: OpenedImage, options: MountOptions, note: Callable[[str], None]
    ) -> None:
        self._opened = opened
        self._options = options
        self._note = note
        self._recorder = None if options.record is None else AccessRecorder()
        log = None if options.access_log is None else AccessLog.read(options.access_log)
        if not hasattr(_core, "Mount"):
            raise UnsupportedError("mounting is only supported on Linux")
        self._core = _core.Mount(
            opened.take_tree(),
            [(layer.table, layer.chunks, layer.directory) for layer in opened.layers],
            read_timeout=options.read_timeout,
            memory_size=MEMORY_SIZE,
            record=self._recorder is not None,
            pack=None if opened.pack is None else opened.pack.table,
        )
        self._erofs: ErofsMount | None = None
        self._pushed_log: PushedLog | None = None
        release_memory()
        # The core numbers the pack as a layer above the highest one.
        sources = opened.layers if opened.pack is None else (*opened.layers, opened.pack)
        self._threads = FetchThreads(
            self._core, sources, FETCH_THREADS, has_pack=opened.pack is not None
        )
        if log is not None:
            self._prefetch(log)
        self._core.set_background(options.background, options.background_rate)

    @property
    def failure(self) -> Exception | None:
        """The exception of the last request that failed; ``None`` if none has."""
        return self._threads.failure

    def start(self) -> None:
        """Start to fetch."""
        self._threads.start()

    def mount(self, directory: str, *, layers: Path) -> str:
        """Mount the file system, and start to fetch.

        Args:
            directory: an empty directory.
            layers: a path for files of the layers, which does not exist.

        Returns:
            What the kernel mounts: `FUSE` or `EROFS`.

        Raises:
            UnsupportedError: EROFS is asked for, and cannot be used.
            OSError: the kernel refused the mount.
        """
        front = front_for(self._options, directory)
        # Before the mount is visible, since the first read may come at once.
        self.start()
        if front == EROFS:
            try:
                self._erofs = ErofsMount(
                    self._core,
                    self._opened.layers,
                    directory,
                    private=layers,
                    cache_dir=self._options.cache_dir,
                    source=SOURCE,
                    allow_suid=self._options.allow_suid,
                    allow_dev=self._options.allow_dev,
                )
            except CannotUseErofsError as error:
                if self._options.front == EROFS:
                    raise UnsupportedError(
                        f"--front erofs: {error.reason}", hint="Use --front fuse."
                    ) from error
                self._note(f"mounted with FUSE, since EROFS cannot be used: {error.reason}")
            else:
                return EROFS
        self._core.mount(
            directory,
            allow_other=self._options.allow_other,
            allow_suid=self._options.allow_suid,
            allow_dev=self._options.allow_dev,
            source=SOURCE,
        )
        return FUSE

    def mount_complete(self, directory: str) -> tuple[str, ...]:
        """Mount the image in another directory, without this process; see `ErofsMount`.

        Raises:
            CannotUseErofsError: that is not possible.
        """
        if self._erofs is None:
            raise CannotUseErofsError("it is mounted with FUSE")
        return self._erofs.mount_complete(directory)

    def write_out(self) -> None:
        """Wait until the disk has what was written to the cache.

        Otherwise, every program on that file system that waits for its own data waits for this too.

        Raises:
            OSError: the disk failed.
        """
        self._core.write_out()

    def layer_digests(self, number: int) -> list[str] | None:
        """Return the possible digests of a layer's uncompressed bytes; ``None`` if any are missing.

        There may be several, since the spans of a zTOC end at the end of the tar, which zeros may
        follow.

        Raises:
            OSError: the disk failed.
        """
        digests: list[bytes] | None = self._core.layer_digests(number)
        return None if digests is None else [f"sha256:{digest.hex()}" for digest in digests]

    def find_access_log(self) -> None:
        """Look for the image's access log, if it may be used and helps; nothing waits for it."""
        options = self._options
        if options.access_log is None and options.find_access_log and not self.status()["complete"]:
            image = self._opened.image
            self._pushed_log = PushedLog(
                store_of(image), image.descriptor.digest, self._core.prefetch
            )
            self._pushed_log.start()

    @property
    def access_log(self) -> str | None:
        """The access log in use: its path, or the digest of its manifest; ``None`` if none is."""
        if self._options.access_log is not None:
            return str(self._options.access_log)
        used = None if self._pushed_log is None else self._pushed_log.used
        return None if used is None else str(used)

    def wait(self, timeout: float) -> bool:
        """Return whether the file system was unmounted, after `timeout` seconds at most."""
        mounted = self._core if self._erofs is None else self._erofs
        return bool(mounted.wait(timeout))

    def status(self) -> dict[str, Any]:
        """Return the counters of the core."""
        return dict(self._core.status())

    def collect(self) -> None:
        """Take over the entries of the access log, which the core keeps only for a while."""
        if self._recorder is not None:
            self._recorder.add(self._core.drain_log())

    def close(self) -> None:
        """Unmount, stop all threads, and write the access log.

        Raises:
            OSError: the access log cannot be written.
        """
        try:
            if self._erofs is not None:
                self._erofs.close()
            with suppress(OSError):  # it is unmounted already
                self._core.unmount()
            self.collect()
        finally:
            if self._pushed_log is not None:
                self._pushed_log.stop()
            self._core.close()
            self._threads.stop(_JOIN_TIMEOUT)
        if self._recorder is not None and self._options.record is not None:
            from importlib.metadata import version  # noqa: PLC0415 (slow to import)

            log = self._recorder.log(
                image=self._opened.image.descriptor.digest,
                platform=self._opened.image.platform,
                tool=f"tocsin {version('tocsin')}",
            )
            if self._recorder.is_full:
                self._note("the access log is full, so that later files are missing from it")
            log.write(self._options.record)

    def _prefetch(self, log: AccessLog) -> None:
        image = self._opened.image
        if log.image != image.descriptor.digest:
            here = log.within(partial(_size_in, image))
            count = len(log.files) - len(here.files)
            if count:
                self._note(
                    f"the access log was recorded on another image: {count} of {len(log.files)} "
                    "files are not in this one"
                )
            log = here
        self._core.prefetch(log.reads)


def _size_in(image: Image, path: str) -> int | None:
    """Return the size of a regular file; ``None`` if there is no such file."""
    try:
        file = image.stat(path)
    except NotFoundError:
        return None
    return file.size if file.is_file else None
