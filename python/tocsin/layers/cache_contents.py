"""What a cache directory contains, and removing what was used least recently."""

from __future__ import annotations

import errno
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tocsin.layers.cache_space import (
    ANSWERS,
    IMAGES,
    SEEK,
    SPANS,
    ZTOCS,
    KeptFile,
    files_of,
    recounted,
    remove_files,
)
from tocsin.layers.inflated_layers import (
    InflatedLayer,
    inflated_layers,
    remove_abandoned_files,
    remove_layer,
)
from tocsin.layers.untrusted_directory import UntrustedFileError, open_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tocsin.model.document import Document

PARTS = (SPANS, ZTOCS, SEEK, IMAGES, ANSWERS)
"""Compressed spans, zTOCs, parts of seek tables, manifests and configs, answers of registries."""


@dataclass(frozen=True, slots=True)
class CachePart:
    """Files of one kind in a cache.

    Attributes:
        name: name of their directory.
        file_count: number of files.
        disk_size: bytes on the disk.
    """

    name: str
    file_count: int
    disk_size: int

    def to_dict(self) -> Document:
        """Return the document; see docs/json.md."""
        return {"name": self.name, "file_count": self.file_count, "disk_size": self.disk_size}


@dataclass(frozen=True, slots=True)
class CacheContents:
    """The contents of a cache directory.

    Attributes:
        directory: its path.
        layers: the inflated layers, most recently used first.
        parts: all other files, by kind.
    """

    directory: Path
    layers: tuple[InflatedLayer, ...]
    parts: tuple[CachePart, ...]

    @property
    def disk_size(self) -> int:
        """Bytes on the disk."""
        layers_size = sum(each.disk_size for each in self.layers)
        return layers_size + sum(each.disk_size for each in self.parts)

    @property
    def pinned_size(self) -> int:
        """Bytes on the disk of layers that a mount uses."""
        return sum(each.disk_size for each in self.layers if each.is_pinned)

    def to_dict(self) -> Document:
        """Return the document that ``tocsin cache ls --json`` prints; see docs/json.md."""
        return {
            "directory": str(self.directory),
            "disk_size": self.disk_size,
            "pinned_size": self.pinned_size,
            "layers": [layer_document(each) for each in self.layers],
            "parts": [each.to_dict() for each in self.parts],
        }


@dataclass(frozen=True, slots=True)
class PruneResult:
    """The result of pruning a cache directory.

    Attributes:
        directory: its path.
        dry_run: whether nothing was removed.
        max_size: the limit in bytes on the disk, without layers that a mount uses.
        layers: the layers that were removed, or would be.
        file_count: number of other files that were removed, or would be.
        removed_size: bytes on the disk of all of them.
        disk_size: bytes on the disk afterwards.
        pinned_size: bytes on the disk of layers that a mount uses.
    """

    directory: Path
    dry_run: bool
    max_size: int
    layers: tuple[InflatedLayer, ...]
    file_count: int
    removed_size: int
    disk_size: int
    pinned_size: int

    def to_dict(self) -> Document:
        """Return the document that ``tocsin cache prune --json`` prints; see docs/json.md."""
        return {
            "directory": str(self.directory),
            "dry_run": self.dry_run,
            "max_size": self.max_size,
            "layers": [layer_document(each) for each in self.layers],
            "file_count": self.file_count,
            "removed_size": self.removed_size,
            "disk_size": self.disk_size,
            "pinned_size": self.pinned_size,
        }


def layer_document(layer: InflatedLayer) -> Document:
    """Return the document of a layer; see docs/json.md."""
    return {
        "digest": str(layer.digest),
        "table": f"sha256:{layer.table}",
        "disk_size": layer.disk_size,
        "last_used": last_used(layer).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "pinned": layer.is_pinned,
    }


def last_used(layer: InflatedLayer) -> datetime:
    """Return the time of the last use."""
    return datetime.fromtimestamp(layer.used_ns // 10**9, UTC)


def cache_contents(directory: Path) -> CacheContents:
    """Return the contents of a cache directory; one that does not exist is empty.

    Raises:
        OSError: the directory cannot be read, or belongs to another user.
    """
    try:
        with _opened(directory) as root:
            layers = sorted(inflated_layers(root), key=lambda each: each.used_ns, reverse=True)
            parts = [_part(name, files_of(root, name, clean=False)) for name in PARTS]
            return CacheContents(directory, tuple(layers), tuple(parts))
    except FileNotFoundError:
        return CacheContents(directory, (), tuple(_part(name, ()) for name in PARTS))


def prune_cache(directory: Path, *, max_size: int, dry_run: bool = False) -> PruneResult:
    """Remove what was used least recently, until the cache is small enough.

    Layers that a mount uses are neither removed nor counted.

    Args:
        directory: the cache directory.
        max_size: limit in bytes on the disk.
        dry_run: whether to remove nothing, and only return what would be removed.

    Raises:
        OSError: the directory cannot be used, or another process keeps it locked.
    """
    before = cache_contents(directory)
    layers: list[InflatedLayer] = []
    files: list[KeptFile] = []
    with suppress(FileNotFoundError), _opened(directory) as root:
        layers, files = _doomed(root, before, max_size)
        if not dry_run:
            with recounted(root):
                files = remove_files(root, files)
            layers = [each for each in layers if remove_layer(root, each)]
            remove_abandoned_files(root)
    removed_size = sum(each.disk_size for each in layers)
    removed_size += sum(each.disk_size for each in files)
    return PruneResult(
        directory,
        dry_run,
        max_size,
        tuple(layers),
        len(files),
        removed_size,
        before.disk_size - removed_size,
        before.pinned_size,
    )


def _doomed(
    root: int, contents: CacheContents, max_size: int
) -> tuple[list[InflatedLayer], list[KeptFile]]:
    """Return what to remove, so that the rest is small enough."""
    layers = [each for each in contents.layers if not each.is_pinned]
    files = [each for part in PARTS for each in files_of(root, part, clean=False)]
    items: list[InflatedLayer | KeptFile] = [*layers, *files]
    excess = sum(each.disk_size for each in items) - max_size
    doomed_layers: list[InflatedLayer] = []
    doomed_files: list[KeptFile] = []
    for each in sorted(items, key=lambda each: each.used_ns):
        if excess <= 0:
            break
        excess -= each.disk_size
        if isinstance(each, InflatedLayer):
            doomed_layers.append(each)
        else:
            doomed_files.append(each)
    return doomed_layers, doomed_files


def _part(name: str, files: Iterable[KeptFile]) -> CachePart:
    sizes = [each.disk_size for each in files]
    return CachePart(name, len(sizes), sum(sizes))


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Yield the descriptor of a cache directory.

    Raises:
        OSError: it cannot be used; ``filename`` is its path.
    """
    try:
        with open_root(directory) as root:
            yield root
    except UntrustedFileError as error:
        refusal = PermissionError(errno.EPERM, error.reason, str(directory))
        refusal.add_note(error.reason)  # the command line replaces the message of the system
        raise refusal from None
