"""The snapshotter without gRPC: what containerd's requests do.

A layer of an image that is mounted lazily becomes a *stub*: a committed snapshot without files that
stands for the lowest layers of that image. Whatever is mounted on top of a stub gets the merged
file system of these layers, so a stub is a right parent for every image that has the same layers.
A stub is made only when its image has been mounted.
"""

from __future__ import annotations

import stat
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tocsin.errors import TocsinError
from tocsin.log import LOG
from tocsin.mounting.lazy_images import LazyImage, NotLazy
from tocsin.mounting.snapshotter import labels as names
from tocsin.mounting.snapshotter.directories import Directories
from tocsin.mounting.snapshotter.filters import parse_filters
from tocsin.mounting.snapshotter.overlay import mounts_of, overlay_options
from tocsin.mounting.snapshotter.problems import (
    SnapshotArgumentError,
    SnapshotExistsError,
    SnapshotStateError,
)
from tocsin.mounting.snapshotter.snapshot import Kind, Stub, Usage
from tocsin.mounting.snapshotter.state import State
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tocsin.model.digest import Digest
    from tocsin.mounting.snapshotter.images import LazyMounts
    from tocsin.mounting.snapshotter.labels import Target
    from tocsin.mounting.snapshotter.overlay import Mount
    from tocsin.mounting.snapshotter.snapshot import Snapshot

RESTORING = "restore"
"""How the names of threads begin that mount images again."""
_RESTORED_AT_ONCE = 4
"""Images that are mounted again at the same time; each waits for the disk or a registry."""
_VERIFIED_AT_ONCE = 8
"""Maximum number of requests that wait for the layers of another image. All of them together use a
quarter of the server's threads, so that other requests are always answered."""
_MAX_KEY_LEN = 4096
"""Maximum characters in a key; containerd's have a namespace and a chain ID."""
_MAX_LABELS = 1000
_MAX_LABEL_LEN = 4096
"""Characters of a label and its name. Source: containerd/containerd, labels/validate.go."""
_NO_REFERENCE = (
    "containerd did not say which image this is: "
    "pull with ctr-remote, nerdctl or CRI with snapshot annotations"
)


class Snapshots:
    """The snapshots of one directory.

    Args:
        root: directory of the snapshotter; it exists.
        images: mounts images lazily; ``None`` if none are.
    """

    def __init__(self, root: Path, images: LazyMounts | None = None) -> None:
        self._images = images
        self._state = State(root)
        self._directories = Directories(root / "snapshots")
        self._options = overlay_options()
        self._lock = threading.RLock()
        self._in_use: Counter[tuple[Digest, int]] = Counter()
        self._verifying = threading.BoundedSemaphore(_VERIFIED_AT_ONCE)

    def close(self) -> None:
        """Close the database. Mounts stay."""
        self._state.close()

    # -- requests ----------------------------------------------------------------------------------

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]:
        """Make an active snapshot, and return its mounts.

        Raises:
            SnapshotExistsError: the key is used, or the layer that it is for exists now.
            SnapshotMissingError: the parent does not exist.
            SnapshotArgumentError: the parent is not committed, or the request is not valid.
        """
        _check(key, labels)
        target = names.target_of(labels)
        if target is None:
            reason = _NO_REFERENCE if names.is_for_layer(key) else ""
            return self._create(Kind.ACTIVE, key, parent, labels, reason=reason)
        why_not = self._make_stub(target, parent, labels)
        if why_not is None:
            raise SnapshotExistsError(f"snapshot {quoted(target.chain_id)}: it exists already")
        LOG.info("%s is not mounted lazily: %s", target.chain_id, why_not)
        return self._create(Kind.ACTIVE, key, parent, labels, reason=why_not)

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]:
        """Make a read-only snapshot, and return its mounts. Raises errors as `prepare`."""
        _check(key, labels)
        return self._create(Kind.VIEW, key, parent, labels, reason="")

    def mounts(self, key: str) -> list[Mount]:
        """Return the mounts of an active snapshot or a view.

        Raises:
            SnapshotMissingError: it does not exist.
            SnapshotStateError: it is committed.
        """
        snapshot = self._state.get(key)
        if snapshot.kind is Kind.COMMITTED:
            raise SnapshotStateError(f"snapshot {quoted(key)}: committed, so that it has no mounts")
        with self._lower(snapshot) as lower:
            return self._mounts(snapshot, lower)

    def commit(self, key: str, name: str, labels: Mapping[str, str], parent: str = "") -> None:
        """Make an active snapshot a committed one; see `State.commit`."""
        _check(name, labels)
        snapshot = self._state.get(key)
        if parent and parent != snapshot.parent:
            self._verify_below(parent, names.target_of(snapshot.labels))
        usage = self._directories.usage(snapshot.number)
        kept = names.kept(snapshot.labels, stub=False)
        self._state.commit(key, name, {**names.without_own(labels), **kept}, usage, parent)

    def remove(self, key: str) -> None:
        """Remove a snapshot and its files.

        Raises:
            SnapshotMissingError: it does not exist.
            SnapshotStateError: it has children.
        """
        with self._lock:
            removed = self._state.remove(key)
        if removed.stub is None:
            self._directories.remove(str(removed.number))
        self._state.keep_reserve()

    def stat(self, key: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            SnapshotMissingError: it does not exist.
        """
        return self._state.get(key)

    def update(self, key: str, labels: Mapping[str, str], paths: Sequence[str]) -> Snapshot:
        """Change the labels of a snapshot, and return it.

        Args:
            key: its key.
            labels: new labels.
            paths: which of them: ``labels`` or ``labels.NAME``; all if there are none.

        Raises:
            SnapshotMissingError: it does not exist.
            SnapshotArgumentError: another field is named.
        """
        _check(key, labels)
        with self._state.transaction():
            snapshot = self._state.get(key)
            changed = dict(snapshot.labels) if paths else dict(labels)
            for path in paths:
                field, dot, name = path.partition(".")
                if field != "labels":
                    raise SnapshotArgumentError(
                        f"snapshot {quoted(key)}: field {quoted(path)} cannot be changed "
                        "(expected labels)"
                    )
                if dot:
                    changed[name] = labels.get(name, "")
                else:
                    changed = dict(labels)
            _check(key, changed)
            kept = names.kept(snapshot.labels, stub=snapshot.stub is not None)
            return self._state.update(key, {**names.without_own(changed), **kept})

    def matching(self, filters: Sequence[str]) -> Iterator[Snapshot]:
        """Return the snapshots that match any of containerd's filters.

        Raises:
            SnapshotArgumentError: a filter is not valid.
        """
        return filter(parse_filters(filters), self._state.all())

    def usage(self, key: str) -> Usage:
        """Return the disk usage of a snapshot without its parents.

        Raises:
            SnapshotMissingError: it does not exist.
        """
        snapshot = self._state.get(key)
        if snapshot.kind is Kind.ACTIVE:
            return self._directories.usage(snapshot.number)
        return snapshot.usage

    def cleanup(self) -> None:
        """Remove directories and mounts that no snapshot needs."""
        self.sweep()
        self._unmount_unneeded()

    def sweep(self) -> None:
        """Remove directories without a snapshot, which a crash leaves."""
        with self._lock:  # so that no directory is being made
            leftover = self._directories.leftover(self._state.numbers())
        for name in leftover:
            self._directories.remove(name)
        self._state.keep_reserve()

    # -- ordinary snapshots ------------------------------------------------------------------------

    def _create(
        self, kind: Kind, key: str, parent: str, labels: Mapping[str, str], *, reason: str
    ) -> list[Mount]:
        """Make an active snapshot or a view."""
        if names.is_for_layer(key):
            self._verify_below(parent, names.target_of(labels))
        with self._below(parent) as lower:
            owner, mode = _root_of(lower, labels)
            with (
                self._lock,
                self._directories.new(kind, owner, mode) as directory,
                self._state.transaction(),
            ):
                labels = self._with_origin(parent, labels, reason)
                snapshot = self._state.create(kind, key, parent, labels)
                self._directories.keep(directory, snapshot.number)
            return self._mounts(snapshot, lower)

    def _with_origin(self, parent: str, labels: Mapping[str, str], reason: str) -> dict[str, str]:
        if reason:
            return names.with_origin(labels, lazy=False, reason=reason)
        if not parent:
            return names.without_own(labels)
        above = self._state.get(parent)
        chain = [above, *self._state.ancestors(above)]
        if any(snapshot.stub for snapshot in chain):
            return names.with_origin(labels, lazy=True)
        for snapshot in chain:
            if why := snapshot.labels.get(names.REASON):
                return names.with_origin(labels, lazy=False, reason=why)
        return names.without_own(labels)

    def _mounts(self, snapshot: Snapshot, lower: Sequence[Path]) -> list[Mount]:
        files = self._directories.files(snapshot.number)
        work = self._directories.work(snapshot.number)
        return mounts_of(snapshot.kind, files, work, lower, self._options)

    @contextmanager
    def _below(self, parent: str) -> Iterator[list[Path]]:
        """Yield the directories below a new snapshot, the uppermost first; they stay mounted."""
        if not parent:
            yield []
            return
        above = self._state.get(parent)
        if above.kind is not Kind.COMMITTED:
            raise SnapshotArgumentError(
                f"parent snapshot {quoted(parent)}: not committed (found {above.kind.word})"
            )
        with self._directories_of([above, *self._state.ancestors(above)]) as lower:
            yield lower

    @contextmanager
    def _lower(self, snapshot: Snapshot) -> Iterator[list[Path]]:
        """Yield the directories below a snapshot, as `_below`."""
        with self._directories_of(self._state.ancestors(snapshot)) as lower:
            yield lower

    @contextmanager
    def _directories_of(self, chain: Sequence[Snapshot]) -> Iterator[list[Path]]:
        directories = []
        for snapshot in chain:
            if snapshot.stub is None:
                directories.append(self._directories.files(snapshot.number))
                continue
            # The mount has everything below the stub too.
            with self._mounted(snapshot.stub.image, snapshot.stub.count) as path:
                yield [*directories, path]
            return
        yield directories

    # -- lazy images -------------------------------------------------------------------------------

    def _verify_below(self, parent: str, target: Target | None) -> None:
        """Verify the layers of another image on which a layer is about to be unpacked.

        Raises:
            SnapshotStateError: they do not match the image's config, or that is unknown.
        """
        if not parent or self._images is None:
            return
        above = self._state.get(parent)
        for snapshot in [above, *self._state.ancestors(above)]:
            stub = snapshot.stub
            if stub is None:
                continue
            if target is not None and target.manifest == str(stub.image.manifest):
                return
            if not self._verifying.acquire(blocking=False):
                raise SnapshotStateError(
                    f"{stub.image.reference}: its layers are not yet verified, and "
                    f"{_VERIFIED_AT_ONCE} other requests already wait for layers",
                    hint="Pull the image again later.",
                )
            try:
                self._images.verify(stub.image, stub.count)
            except TocsinError as error:
                raise SnapshotStateError(error.message, hint=error.hint) from error
            except OSError as error:
                raise SnapshotStateError(
                    f"{stub.image.reference}: cannot be verified: {error.strerror}"
                ) from error
            finally:
                self._verifying.release()
            return

    def _make_stub(self, target: Target, parent: str, labels: Mapping[str, str]) -> str | None:
        """Make a stub for a layer; return ``None`` if it exists then, or else why not."""
        above = self._state.get(parent).number if parent else 0
        image = self._image_of(target)
        if isinstance(image, NotLazy):
            return image.reason
        count = image.chain_ids.index(target.chain_id) + 1
        # Namespaces share stubs, whose parents are the same snapshots.
        name = f"{names.SNAPSHOTTER}/{image.manifest}/{count}/{above}"
        if self._state.has(name):
            return None
        all_labels = {**names.with_origin(labels, lazy=True), names.REMOTE: names.SNAPSHOTTER}
        try:
            with self._mounted(image, len(image.chain_ids)), self._lock:
                self._state.add_stub(name, parent, all_labels, Stub(image, count))
        except SnapshotExistsError:
            return None  # another request was faster
        except TocsinError as error:
            return f"it cannot be mounted: {error.message}"
        except OSError as error:
            return f"it cannot be mounted: {error.strerror}"
        return None

    def _image_of(self, target: Target) -> LazyImage | NotLazy:
        """Return the image that a layer belongs to if it can be mounted lazily."""
        if self._images is None:
            return NotLazy("this snapshotter mounts no images lazily")
        if not target.reference:
            return NotLazy(_NO_REFERENCE)
        answer = self._images.find(target.reference, manifest=target.manifest, layers=target.layers)
        if isinstance(answer, LazyImage) and target.chain_id not in answer.chain_ids:
            return NotLazy("its layers are not those of the image in the registry")
        return answer

    @contextmanager
    def _mounted(self, image: LazyImage, count: int) -> Iterator[Path]:
        """Yield the directory with layers of an image; `cleanup` does not unmount it meanwhile."""
        if self._images is None:
            raise SnapshotStateError(
                f"{image.reference}: it is mounted lazily, which this snapshotter does not do"
            )
        with self._lock:
            self._in_use[image.manifest, count] += 1
        try:
            yield self._images.mount(image, count)
        finally:
            with self._lock:
                self._in_use[image.manifest, count] -= 1
                if not self._in_use[image.manifest, count]:
                    del self._in_use[image.manifest, count]

    def restore(self) -> None:
        """Mount again what snapshots need and what is not mounted, for example after a reboot.

        What fails is logged: requests that need a mount try again. Mounts that nothing needs are
        unmounted.
        """
        needed = self._state.needed_layers().items()
        with ThreadPoolExecutor(_RESTORED_AT_ONCE, thread_name_prefix=RESTORING) as pool:
            list(pool.map(lambda each: self._restore(each[1], each[0][1]), needed))
        self._unmount_unneeded()

    def _restore(self, image: LazyImage, count: int) -> None:
        try:
            with self._mounted(image, count):
                pass
        except TocsinError as error:
            LOG.warning("%s: not mounted: %s", image.reference, error.message)
        except OSError as error:
            LOG.warning("%s: not mounted: %s", image.reference, error.strerror)

    def _unmount_unneeded(self) -> None:
        if self._images is None:
            return
        mounted = [(mount.manifest, mount.count) for mount in self._images.mounted()]
        for layers in mounted:
            with self._lock:  # so that nobody starts to use them
                if layers not in self._in_use and layers not in self._state.needed_layers():
                    self._unmount(*layers)

    def _unmount(self, manifest: Digest, count: int) -> None:
        if self._images is not None:
            try:
                self._images.unmount(manifest, count)
            except TocsinError as error:
                LOG.warning("%s: not unmounted: %s", manifest, error.message)
            except OSError as error:
                LOG.warning("%s: not unmounted: %s", manifest, error.strerror)


def _root_of(
    lower: Sequence[Path], labels: Mapping[str, str]
) -> tuple[tuple[int, int] | None, int | None]:
    """Return the owner and the mode of a snapshot's root directory: its parent's, or as mapped."""
    try:
        owner = names.root_owner(labels)
    except ValueError:
        raise SnapshotArgumentError(
            f"labels {names.UID_MAPPING} and {names.GID_MAPPING}: not a mapping of IDs "
            "(expected container:host:size with a mapping of 0)"
        ) from None
    if not lower:
        return owner, None
    status = lower[0].stat()
    return owner or (status.st_uid, status.st_gid), stat.S_IMODE(status.st_mode)


def _check(key: str, labels: Mapping[str, str]) -> None:
    if not key:
        raise SnapshotArgumentError("key of a snapshot: empty")
    if len(key) > _MAX_KEY_LEN:
        raise SnapshotArgumentError(
            f"key of a snapshot: too long (found {len(key)} characters, "
            f"expected at most {_MAX_KEY_LEN})"
        )
    if len(labels) > _MAX_LABELS:
        raise SnapshotArgumentError(
            f"labels: too many (found {len(labels)}, expected at most {_MAX_LABELS})"
        )
    for name, value in labels.items():
        if len(name) + len(value) > _MAX_LABEL_LEN:
            raise SnapshotArgumentError(
                f"label {quoted(name)}: too long (found {len(name) + len(value)} characters with "
                f"its name, expected at most {_MAX_LABEL_LEN})"
            )
