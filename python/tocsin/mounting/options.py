"""The options of a mount."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.model.platform import Platform
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions

BY_TAG = "by-tag"
BOUND = "bound"
ANY = "any"
TRUST = (BY_TAG, BOUND, ANY)
"""When a snapshotter uses indexes that refer to an image: if it is pulled by tag, never, always."""
DEFAULT_READ_TIMEOUT = 30.0
"""Seconds after which a read that waits for the registry fails, over all tries together."""
DEFAULT_CACHE_SIZE = 2 << 30
"""Limit of the cache directory in bytes, without what live mounts use."""

AUTO_ACCESS_LOG = "auto"
"""Instead of a path: the access log that refers to the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """The options of a mount.

    Attributes:
        reference: the image.
        platform: platform of the image; ``None`` for the only one, or this machine's.
        index: which indexes to use, as in ``tocsin.open``.
        threads: number of threads that make zTOCs; ``None`` for one for each processor.
        registry: how to reach a registry.
        cache_dir: directory of the cache.
        cache_size: limit of the cache in bytes, without what live mounts use; when a mount is
            ready, what was used least recently is removed.
        background: whether to load the whole image in the background.
        background_rate: limit of that in bytes per second; ``None`` for none.
        front: what the kernel mounts: ``fuse``, ``erofs``, or ``auto`` for EROFS where possible.
        record: file to which the access log is written at the end; ``None`` for none.
        access_log: access log of an earlier run, whose files are loaded first; ``None`` for the
            one that refers to the image, if `find_access_log` is set.
        find_access_log: whether to look for an access log that refers to the image.
        allow_other: whether other users may use the mount.
        allow_suid: whether set-user-ID and set-group-ID bits have an effect.
        allow_dev: whether device files work.
        layer_count: number of layers to mount, from the lowest up; ``None`` for all.
        run_directory: where the mount is described; ``None`` for the runtime directory of this
            user, whose mounts ``tocsin mounts`` lists.
        credentials: socket of a snapshotter that is asked for credentials first; ``None`` for none.
        read_timeout: seconds after which a read that waits for the registry fails.
        chain_ids: chain IDs of the lowest 1, 2, … of these layers, with which the layers are
            compared when all data is on this machine; empty not to do that.
        complete_directory: where the image is mounted once more when all data is on this machine,
            without a process; ``None`` not to do that.
    """

    reference: Reference
    platform: Platform | None = None
    index: str = "auto"
    threads: int | None = None
    registry: RegistryOptions | None = None
    cache_dir: Path
    cache_size: int = DEFAULT_CACHE_SIZE
    background: bool = True
    background_rate: int | None = None
    front: str = "auto"
    record: Path | None = None
    access_log: Path | None = None
    find_access_log: bool = False
    allow_other: bool = False
    allow_suid: bool = False
    allow_dev: bool = False
    layer_count: int | None = None
    run_directory: Path | None = None
    credentials: Path | None = None
    read_timeout: float = DEFAULT_READ_TIMEOUT
    chain_ids: tuple[str, ...] = ()
    complete_directory: Path | None = None
