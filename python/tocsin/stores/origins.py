"""Locations of blobs, as values that a sink compares to decide whether it can take blobs over.

Each kind of store has its own class of values, which knows the origins that it can take blobs from
without streaming: a registry from its own repositories, a layout from layouts on the same file
system, an archive from local files, containerd from its other namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from tocsin.stores.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tocsin.model.digest import Digest
    from tocsin.stores.http.origin import Origin


@dataclass(frozen=True, slots=True)
class RepositoryOrigin:
    """A repository of a registry.

    Attributes:
        registry: scheme, host and port.
        repository: name of the repository.
    """

    registry: Origin
    repository: str

    def takes_from(self, other: BlobOrigin) -> TypeGuard[RepositoryOrigin]:
        """Return whether blobs can be mounted from `other`: the registry is the same."""
        return isinstance(other, RepositoryOrigin) and other.registry == self.registry


@dataclass(frozen=True, slots=True)
class LayoutOrigin:
    """An OCI layout, in which each blob is a file.

    Attributes:
        path: the directory.
        device: device number (``st_dev``) of the file system of the blobs.
    """

    path: Path
    device: int

    def takes_from(self, other: BlobOrigin) -> TypeGuard[LayoutOrigin]:
        """Return whether blobs of `other` can be linked: the file system is the same."""
        return isinstance(other, LayoutOrigin) and other.device == self.device

    def blob_path(self, digest: Digest) -> Path:
        """Return the path of a blob."""
        return layout_blob_path(self.path, digest)

    def window(self, digest: Digest) -> Window:
        """Open a blob.

        Raises:
            FileNotFoundError: the blob is missing.
        """
        return Window.open(self.blob_path(digest))


@dataclass(frozen=True, slots=True)
class ArchiveOrigin:
    """An archive, in which each blob is a range of one file.

    Attributes:
        path: path of the archive.
        window: opens a blob like `LayoutOrigin.window`, as long as the archive is open.
    """

    path: Path
    window: Callable[[Digest], Window] = field(compare=False, repr=False)

    def takes_from(self, other: BlobOrigin) -> TypeGuard[LayoutOrigin | ArchiveOrigin]:
        """Return whether blobs can be copied from the files of `other`."""
        return isinstance(other, LayoutOrigin | ArchiveOrigin)


@dataclass(frozen=True, slots=True)
class ContainerdOrigin:
    """A namespace of containerd.

    Attributes:
        address: path of the socket.
        namespace: the namespace.
    """

    address: str
    namespace: str

    def takes_from(self, other: BlobOrigin) -> TypeGuard[ContainerdOrigin]:
        """Return whether namespaces can share blobs: they belong to one containerd."""
        return isinstance(other, ContainerdOrigin) and other.address == self.address


@dataclass(frozen=True, slots=True)
class Nowhere:
    """The origin of a store that does not exist and is not created, as in a dry run."""

    def takes_from(self, other: BlobOrigin) -> bool:
        """Return ``False``: no blob can be taken over."""
        return False


def layout_blob_path(layout: Path, digest: Digest) -> Path:
    """Return the path of a blob in a layout. Source: OCI image-spec 1.1.1, image-layout.md."""
    return layout / "blobs" / digest.algorithm / digest.hex


BlobOrigin = RepositoryOrigin | LayoutOrigin | ArchiveOrigin | ContainerdOrigin | Nowhere
