"""What the snapshotter needs of lazy mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tocsin.model.digest import Digest
    from tocsin.mounting.lazy_images import LazyImage, NotLazy


class LazyMounts(Protocol):
    """Mounts of images, each with its own process, which outlives the snapshotter."""

    def find(
        self, reference: str, *, manifest: str | None, layers: Sequence[str]
    ) -> LazyImage | NotLazy:
        """Return an image that can be mounted lazily, or why it cannot; raises nothing."""

    def mount(self, image: LazyImage, count: int) -> Path:
        """Return the directory with the lowest `count` layers; mount them if they are not.

        Raises:
            TocsinError, OSError: they cannot be mounted.
        """

    def verify(self, image: LazyImage, count: int) -> None:
        """Wait until the lowest `count` layers are known to be those of the image's chain IDs.

        Raises:
            TocsinError, OSError: they are not, or that cannot be known.
        """

    def unmount(self, manifest: Digest, count: int) -> None:
        """Unmount what `mount` mounted; nothing happens if it is not mounted."""

    def mounted(self) -> Sequence[MountedLayers]:
        """Return what is mounted, or was until its process died."""


class MountedLayers(Protocol):
    """Layers that are mounted."""

    @property
    def manifest(self) -> Digest:
        """Digest of the image's manifest."""

    @property
    def count(self) -> int:
        """Number of layers."""
