"""Where blobs lie, as values: what a sink compares to know whether it can take blobs over.

Each kind of place has its own value, and says from which others it takes blobs without having them
streamed: a registry from its own repositories, a layout from layouts on the same file system, an
archive from files of this machine.
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
        repository: its name there.
    """

    registry: Origin
    repository: str

    def takes_from(self, other: BlobOrigin) -> TypeGuard[RepositoryOrigin]:
        """Return whether blobs from there can be taken over: the registry is the same."""
        return isinstance(other, RepositoryOrigin) and other.registry == self.registry


@dataclass(frozen=True, slots=True)
class LayoutOrigin:
    """An OCI layout: each blob is a file of its own.

    Attributes:
        path: the directory.
        device: the file system (``st_dev``) that has the blobs, or will have them.
    """

    path: Path
    device: int

    def takes_from(self, other: BlobOrigin) -> TypeGuard[LayoutOrigin]:
        """Return whether blobs from there can be linked: they are files of one file system."""
        return isinstance(other, LayoutOrigin) and other.device == self.device

    def blob_path(self, digest: Digest) -> Path:
        """Return the file of a blob."""
        return layout_blob_path(self.path, digest)

    def window(self, digest: Digest) -> Window:
        """Open a blob.

        Raises:
            FileNotFoundError: it is missing.
        """
        return Window.open(self.blob_path(digest))


@dataclass(frozen=True, slots=True)
class ArchiveOrigin:
    """An archive: each blob is a range of one file.

    Attributes:
        path: the file.
        window: opens a blob as `LayoutOrigin.window` does, while the archive is open.
    """

    path: Path
    window: Callable[[Digest], Window] = field(compare=False, repr=False)

    def takes_from(self, other: BlobOrigin) -> TypeGuard[LayoutOrigin | ArchiveOrigin]:
        """Return whether blobs can be copied straight from there: they lie in files."""
        return isinstance(other, LayoutOrigin | ArchiveOrigin)


@dataclass(frozen=True, slots=True)
class Nowhere:
    """A place that does not exist yet and is not made, as in a dry run."""

    def takes_from(self, other: BlobOrigin) -> bool:
        """Return that no blob can be taken over."""
        return False


def layout_blob_path(layout: Path, digest: Digest) -> Path:
    """Return the file of a blob in a layout. Source: OCI image-spec 1.1.1, image-layout.md."""
    return layout / "blobs" / digest.algorithm / digest.hex


BlobOrigin = RepositoryOrigin | LayoutOrigin | ArchiveOrigin | Nowhere
