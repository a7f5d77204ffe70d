"""What the snapshotter remembers of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.mounting.lazy_images import LazyImage


class Kind(IntEnum):
    """Kinds of snapshots, with the numbers of containerd's API."""

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3

    @property
    def word(self) -> str:
        """The kind as filters and messages name it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Stub:
    """A committed snapshot without files: the lowest layers of an image that is mounted lazily.

    Attributes:
        image: the image.
        count: number of layers, from the lowest.
    """

    image: LazyImage
    count: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Disk space of a snapshot.

    Attributes:
        size: size of the allocated blocks in bytes.
        inodes: number of files and directories.
    """

    size: int = 0
    inodes: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot.

    Attributes:
        number: names its directory; never used twice.
        key: the key that containerd gave.
        parent: key of its parent; empty without one.
        kind: its kind.
        created: when it was made or committed, in nanoseconds since 1970.
        updated: when its labels were changed, in nanoseconds since 1970.
        labels: its labels.
        usage: what its files need; measured when it was committed.
        stub: the layers that it stands for; ``None`` for an ordinary snapshot.
    """

    number: int
    key: str
    parent: str
    kind: Kind
    created: int
    updated: int
    labels: Mapping[str, str]
    usage: Usage
    stub: Stub | None = None
