"""What the snapshotter needs of lazy mounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from tocsin.model.reference import parse_registry_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tocsin.model.digest import Digest
    from tocsin.model.reference import RegistryReference


@dataclass(frozen=True, slots=True)
class LazyImage:
    """An image that can be mounted without being pulled.

    Attributes:
        reference: the image, with the digest of the platform's manifest.
        manifest: digest of the platform's manifest.
        chain_ids: chain IDs of the lowest 1, 2, … layers, as in the OCI image specification.
        index: with what most of the image is read: ``seek``, ``v2`` or ``v1``.
        by_tag: whether the image was requested by tag, so that referrers may be used.
    """

    reference: RegistryReference
    manifest: Digest
    chain_ids: tuple[str, ...]
    index: str
    by_tag: bool
    choice: str = "auto"

    def to_dict(self) -> dict[str, Any]:
        """Return the image as a JSON document, for `from_dict`."""
        return {
            "reference": self.reference.name,
            "chain_ids": list(self.chain_ids),
            "index": self.index,
            "by_tag": self.by_tag,
            "choice": self.choice,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Return the image that `to_dict` returned as a document."""
        reference = parse_registry_name(document["reference"])
        assert reference.digest is not None
        return cls(
            reference,
            reference.digest,
            tuple(document["chain_ids"]),
            document["index"],
            document["by_tag"],
            document["choice"],
        )


@dataclass(frozen=True, slots=True)
class NotLazy:
    """An image that is pulled and unpacked by containerd, as without a lazy snapshotter.

    Attributes:
        reason: why it is not mounted lazily.
    """

    reason: str


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

    def unmount(self, manifest: Digest, count: int) -> None:
        """Unmount what `mount` mounted; nothing happens if it is not mounted."""

    def mounted(self) -> Sequence[MountedLayers]:
        """Return what is mounted, or was until its process died."""

    def restore(self, wanted: Iterable[tuple[LazyImage, int]]) -> Sequence[NotRestored]:
        """Mount again what must be mounted, unmount everything else; return what failed."""


class MountedLayers(Protocol):
    """Layers that are mounted."""

    @property
    def manifest(self) -> Digest:
        """Digest of the image's manifest."""

    @property
    def count(self) -> int:
        """Number of layers."""


class NotRestored(MountedLayers, Protocol):
    """Layers that could not be mounted again."""

    @property
    def reason(self) -> str:
        """Why not."""
