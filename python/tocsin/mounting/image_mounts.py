"""The mounts of a snapshotter: images, and their lowest layers, each with its own process.

The processes outlive the snapshotter, which finds its mounts again by their descriptions in
``ROOT/run``. The mount of the lowest N layers of an image is at ``ROOT/images/MANIFEST-N/fs``, so
that overlay file systems can name it as a lower directory. If its process dies, or after the
machine has been restarted, it is mounted again at the same place.

When all data of an image has arrived, its process mounts it once more at ``…/MANIFEST-N/complete``,
with EROFS over the files in the cache, which needs no process. From then on, new containers use
that mount. Those that use the first one keep it; after a while it is removed from its directory,
and its process ends with the last of them.

All methods may be called by several threads.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, TocsinError, UnsupportedError
from tocsin.layers.cache_contents import prune_cache
from tocsin.log import LOG
from tocsin.model.digest import Digest
from tocsin.mounting import mount_points
from tocsin.mounting.cache_directory import InflatedLayers
from tocsin.mounting.detached import DetachedProcesses
from tocsin.mounting.fronts import AUTO, EROFS, FUSE
from tocsin.mounting.lazy_images import LazyImage, LazyImages, NotLazy
from tocsin.mounting.options import BY_TAG, DEFAULT_CACHE_SIZE, DEFAULT_READ_TIMEOUT, MountOptions
from tocsin.mounting.overlay import refusal_as_lower
from tocsin.mounting.process import remove_dead
from tocsin.mounting.pull_credentials import PullCredentials
from tocsin.mounting.registered import Registry
from tocsin.mounting.unmounting import LIST_TIMEOUT, status_in
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tocsin.model.events import Event
    from tocsin.mounting.registered import Registration
    from tocsin.mounting.reports import Ready
    from tocsin.mounting.status import MountStatus
    from tocsin.stores.registry import RegistryOptions
    from tocsin.stores.registry.credentials import Credential

_FILES = "fs"
"""Name of the directory in which an image is mounted."""
_COMPLETE = "complete"
"""Name of the directory in which a complete image is mounted without a process."""
REPLACED_AFTER = 600.0
"""Seconds after which a mount is removed for which there is one without a process: until then,
containerd may still mount an overlay on that directory."""
_VERIFY_INTERVAL = 0.2
_VERIFY_PATIENCE = 120.0
"""Seconds without progress after which a request no longer waits for the rest of an image."""
_VERIFY_LIMIT = 600.0
"""Seconds after which it no longer waits in any case, since it occupies a thread."""
_LOG = "log"
_CREDENTIALS = "credentials"
_MAX_LOG_SIZE = 1 << 20
"""Size in bytes above which the log of a mount is replaced when it is mounted again."""
_WORKERS = 4
"""Number of images that are mounted again at the same time; each waits for disk or network."""
_LOCKS = 1024
"""Number of locks; mounts that share one wait for each other."""
_PRIVATE = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMountOptions:
    """The options of a snapshotter's mounts.

    Attributes:
        cache_dir: directory of the cache; ``None`` for ``ROOT/cache``.
        cache_size: limit of the cache in bytes, without what live mounts use.
        trust: when indexes that only refer to an image are used: ``by-tag`` for images pulled by
            tag, ``bound`` never, ``any`` always.
        registry: how to reach registries.
        background: whether images are loaded in the background.
        background_rate: limit of that in bytes per second, for each image; ``None`` for none.
        front: what the kernel mounts: ``fuse``, ``erofs``, or ``auto`` for EROFS where possible.
        read_timeout: seconds after which a read that waits for the registry fails.
    """

    cache_dir: Path | None = None
    cache_size: int = DEFAULT_CACHE_SIZE
    trust: str = BY_TAG
    registry: RegistryOptions | None = None
    background: bool = True
    background_rate: int | None = None
    front: str = AUTO
    read_timeout: float = DEFAULT_READ_TIMEOUT


@dataclass(frozen=True, slots=True)
class ImageMount:
    """A mount of the lowest layers of an image.

    Attributes:
        manifest: digest of the image's manifest.
        count: number of layers.
        status: what the mount is doing, as its process says.
    """

    manifest: Digest
    count: int
    status: MountStatus

    @property
    def directory(self) -> Path:
        """Where it is mounted."""
        return Path(self.status.directory)

    @property
    def state(self) -> str:
        """``starting``, ``lazy``, ``complete`` or ``dead``."""
        return self.status.state

    @property
    def reason(self) -> str:
        """Why it is in this state."""
        return self.status.reason


@dataclass(frozen=True, slots=True)
class Problem:
    """A mount that should exist and could not be made.

    Attributes:
        manifest: digest of the image's manifest.
        count: number of layers.
        reason: why there is no mount.
    """

    manifest: Digest
    count: int
    reason: str


class ImageMounts:
    """The lazy mounts of one snapshotter, each with its own process, which outlives it.

    Args:
        root: a directory that belongs to the snapshotter alone.
        options: options of the mounts.

    Raises:
        FormatError: `trust` of the options is unknown.
        OSError: the directory cannot be used.
    """

    def __init__(self, root: Path, options: ImageMountOptions) -> None:
        self._root = Path(mount_points.absolute(root))
        self._options = options
        self._cache_dir = options.cache_dir or self._root / "cache"
        self._images = self._root / "images"
        self._images.mkdir(_PRIVATE, parents=True, exist_ok=True)
        self._registry = Registry(self._root / "run")
        self._credentials = PullCredentials(self._root / "run" / _CREDENTIALS)
        self._lazy = LazyImages(
            self._cache_dir, trust=options.trust, registry=self._registry_options
        )
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._pruning = threading.Lock()
        self._kept: dict[str, InflatedLayers] = {}
        """The locked files of mounts without a process, by directory."""
        self._processes = DetachedProcesses()

    # -- which images --------------------------------------------------------------------------

    def find(
        self,
        reference: str,
        *,
        manifest: str | None,
        layers: Sequence[str],
        platform: str | None = None,
    ) -> LazyImage | NotLazy:
        """Return an image that is being pulled, if it can be mounted without being pulled.

        The arguments are those of `LazyImages.find`.
        """
        self._processes.expect()
        return self._lazy.find(reference, manifest=manifest, layers=layers, platform=platform)

    def give_credential(self, host: str, repository: str, credential: Credential) -> None:
        """Keep a credential in memory, for `find` and for all mounts of images in a repository.

        Args:
            host: host of the registry, as in references.
            repository: name of the repository.
            credential: replaces an earlier one.

        Raises:
            OSError: the socket for mounts cannot be made.
        """
        self._credentials.give(host, repository, credential)

    def close(self) -> None:
        """Stop to answer mounts, which go on without."""
        self._credentials.close()
        self._processes.close()

    def _registry_options(self) -> RegistryOptions:
        from tocsin.stores.registry import RegistryOptions  # noqa: PLC0415 (slow to import)

        return replace(self._options.registry or RegistryOptions(), _ask=self._credentials.find)

    # -- mounting ------------------------------------------------------------------------------

    def mount(self, image: LazyImage, count: int) -> Path:
        """Mount the lowest layers of an image, unless they are mounted.

        Args:
            image: the image.
            count: number of layers, from 1 on.

        Returns:
            The directory with their merged files, which may be a lower directory of an overlay.

        Raises:
            ValueError: the image has fewer layers.
            TocsinError, OSError: they cannot be mounted.
        """
        if not 0 < count <= image.layer_count:
            raise ValueError(
                f"layers: out of range (found {count}, expected 1 to {image.layer_count})"
            )
        directory = self._directory_of(image.manifest, count)
        with self._lock_of(directory):
            complete = self._registry.find(str(_complete_beside(directory)))
            if complete is not None and complete.is_alive:
                self._keep(complete)
                self._replace(directory, complete)
                return Path(complete.directory)
            if self._is_alive(directory):
                return directory
            self._free(directory)
            self._mount(image, count, directory)
            return directory

    def verify(self, image: LazyImage, count: int) -> None:
        """Wait until the lowest layers of an image are known to be those of its chain IDs.

        containerd gives images with the same chain IDs the same layers, so another image may use
        these only after that.

        Raises:
            FormatError: they are not; `what` is ``config.diff-ids``.
            UnsupportedError: that cannot be known, since not all of them are loaded.
            TocsinError, OSError: they cannot be mounted.
        """
        if not self._options.background and not self._is_mounted(image, count):
            # Mounting could fetch layers, and would not make them complete.
            raise _not_verified(image, "the rest is not loaded in the background")
        begun = moved = time.monotonic()
        left = -1
        while True:
            found = self._registry.find(str(self.mount(image, count)))
            status = None if found is None else status_in(self._registry, found, LIST_TIMEOUT)
            if status is not None and status.verified:
                return
            if status is not None and status.verified is False:
                raise FormatError(f"{image.reference}: {status.reason}", what="config.diff-ids")
            if status is not None and status.bytes_left != left:
                moved, left = time.monotonic(), status.bytes_left
            is_loading = self._options.background or left == 0
            now = time.monotonic()
            is_late = now - moved > _VERIFY_PATIENCE or now - begun > _VERIFY_LIMIT
            if not is_loading or is_late:
                raise _not_verified(image, f"{left} bytes are missing")
            time.sleep(_VERIFY_INTERVAL)

    def _keep(self, complete: Registration) -> None:
        """Let the cache keep the files of a mount without a process."""
        if complete.directory not in self._kept:
            kept = InflatedLayers(self._cache_dir, LOG.info)
            for each in complete.layers:
                kept.locked(Path(each).name)
            self._kept[complete.directory] = kept

    def _replace(self, directory: Path, complete: Registration) -> None:
        """Remove the first mount of an image, if the one without a process is old enough."""
        if time.time() - complete.since > REPLACED_AFTER:
            with suppress(TocsinError, OSError):
                self._free(directory)

    def _mount(self, image: LazyImage, count: int, directory: Path) -> None:
        for each in (directory, _complete_beside(directory)):
            each.mkdir(_PRIVATE, parents=True, exist_ok=True)
        self._free(_complete_beside(directory))
        log = directory.parent / _LOG
        with suppress(FileNotFoundError):
            if log.stat().st_size > _MAX_LOG_SIZE:
                log.unlink()
        options = self._mount_options(image, count)
        self._processes.mount(options, str(directory), _Log(), log=log)
        refusal = refusal_as_lower(directory, beside=self._images)
        if refusal is None:
            return
        found = self._registry.find(str(directory))
        is_erofs = found is not None and found.front == EROFS
        self._free(directory)
        if is_erofs and options.front == AUTO:
            # Some file systems cannot be that deep below another one, as when this machine is
            # itself a container.
            LOG.info("%s: EROFS cannot be below an overlay here, so FUSE is used", directory)
            self._processes.mount(replace(options, front=FUSE), str(directory), _Log(), log=log)
            refusal = refusal_as_lower(directory, beside=self._images)
            if refusal is None:
                return
            self._free(directory)
        raise UnsupportedError(
            f"{quoted(str(directory))}: the kernel refuses the mounted image as a lower directory "
            f"of an overlay file system: {refusal}",
            hint="Load the kernel module with modprobe overlay, and keep the directory of the "
            "snapshotter on a file system such as ext4 or XFS.",
        )

    def _mount_options(self, image: LazyImage, count: int) -> MountOptions:
        options = self._options
        return MountOptions(
            reference=image.reference,
            index=image.choice_for(count),
            registry=options.registry,
            cache_dir=self._cache_dir,
            cache_size=options.cache_size,
            background=options.background,
            background_rate=options.background_rate,
            front=options.front,
            # Programs in containers have any user, and images contain programs like sudo.
            allow_other=True,
            allow_suid=True,
            allow_dev=True,
            read_timeout=options.read_timeout,
            layer_count=count,
            find_access_log=True,
            run_directory=self._registry.directory,
            credentials=self._credentials.path,
            chain_ids=image.chain_ids[:count],
            complete_directory=_complete_beside(self._directory_of(image.manifest, count)),
        )

    def unmount(self, manifest: Digest, count: int) -> None:
        """Unmount layers that no snapshot uses any more; does nothing if they are not mounted.

        Containers that use them all the same can go on. After that, what was used least recently is
        removed from the cache, in another thread.

        Raises:
            TocsinError, OSError: they cannot be unmounted.
        """
        directory = self._directory_of(manifest, count)
        complete = _complete_beside(directory)
        with self._lock_of(directory):
            # The first mount first, since its process may be about to make the other.
            self._free(directory)
            self._free(complete)
            (directory.parent / _LOG).unlink(missing_ok=True)
            for each in (directory, complete, directory.parent):
                with suppress(OSError):  # another file is there
                    each.rmdir()
        threading.Thread(target=self._limit_cache, daemon=True).start()

    def restore(self, needed: Iterable[tuple[LazyImage, int]]) -> list[Problem]:
        """Mount again what must be mounted, and unmount everything else.

        Nothing is asked of a registry if what was fetched before is in the cache.

        Args:
            needed: images and numbers of layers.

        Returns:
            What could not be mounted; `mount` tries again.
        """
        mounts = {(image.manifest, count): image for image, count in needed}
        firsts = [self._directory_of(*each) for each in mounts]
        expected = {str(each) for first in firsts for each in (first, _complete_beside(first))}
        for found in self._registry.all():
            if found.directory not in expected:
                with suppress(TocsinError, OSError):
                    self._free(Path(found.directory))

        def restored(key: tuple[Digest, int]) -> Problem | None:
            try:
                self.mount(mounts[key], key[1])
            except TocsinError as error:
                return Problem(*key, error.message)
            except OSError as error:
                return Problem(*key, error.strerror or type(error).__name__)
            return None

        with ThreadPoolExecutor(_WORKERS) as pool:
            return [each for each in pool.map(restored, mounts) if each is not None]

    # -- what is mounted -----------------------------------------------------------------------

    def mounted(self) -> list[ImageMount]:
        """Return all mounts, sorted by directory, and what each of them is doing."""

        def described(found: Registration) -> ImageMount | None:
            manifest, _, count = Path(found.directory).parent.name.rpartition("-")
            if not manifest or not count.isdecimal():
                return None
            status = status_in(self._registry, found, LIST_TIMEOUT)
            return ImageMount(Digest(manifest), int(count), status)

        with ThreadPoolExecutor(_WORKERS) as pool:
            found = [each for each in pool.map(described, self._registry.all()) if each is not None]
        # Of two mounts of the same layers, the one without a process, which comes first.
        return list({(each.manifest, each.count): each for each in reversed(found)}.values())[::-1]

    def _directory_of(self, manifest: Digest, count: int) -> Path:
        return self._images / f"{manifest.hex}-{count}" / _FILES

    def _is_mounted(self, image: LazyImage, count: int) -> bool:
        """Return whether the lowest layers of an image are mounted, with or without a process."""
        directory = self._directory_of(image.manifest, count)
        complete = self._registry.find(str(_complete_beside(directory)))
        return self._is_alive(directory) or (complete is not None and complete.is_alive)

    def _lock_of(self, directory: Path) -> threading.Lock:
        return self._locks[hash(directory) % _LOCKS]

    def _is_alive(self, directory: Path) -> bool:
        """Return whether an image is mounted, and its process is running."""
        found = self._registry.find(str(directory))
        if found is None or not found.is_alive or not found.mounted:
            return False
        point = mount_points.mounted_at(str(directory))
        return point is not None and mount_points.is_ours(point)

    def _free(self, directory: Path) -> None:
        """Remove what is mounted in a directory, alive or not; programs that use it can go on.

        Raises:
            TocsinError, OSError: it cannot be unmounted.
        """
        if (kept := self._kept.pop(str(directory), None)) is not None:
            kept.close()
        found = self._registry.find(str(directory))
        if found is not None and not found.is_alive:
            remove_dead(self._registry, found)
            found = None
        if found is not None:
            # Removed first: a process whose description is there ends when its mount is removed,
            # and containers may still use the mount.
            self._registry.remove(found)
        while (point := mount_points.mounted_at(str(directory))) is not None:
            mount_points.unmount(point, lazy=True)

    def _limit_cache(self) -> None:
        if self._pruning.acquire(blocking=False):
            try:
                with suppress(OSError):  # another process keeps it locked
                    prune_cache(self._cache_dir, max_size=self._options.cache_size)
            finally:
                self._pruning.release()


def _not_verified(image: LazyImage, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{image.reference}: another image may use its layers only after all of them have been "
        f"loaded and verified ({why})",
        hint="Load images in the background, or remove this image before others that share its "
        "layers are pulled.",
    )


def _complete_beside(directory: Path) -> Path:
    return directory.with_name(_COMPLETE)


class _Log:
    """Receives the reports of a mount's process until it is ready."""

    def note(self, text: str) -> None:
        LOG.info("%s", text)

    def progress(self, event: Event) -> None:
        """Do nothing: layers without an index are read without a report."""

    def ready(self, ready: Ready) -> None:
        """Do nothing: the caller gets it too."""
