"""Asks a running snapshotter which images it has, and whether they are lazy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tocsin.errors import NotFoundError, UnsupportedError
from tocsin.mounting.snapshotter import labels as names
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tocsin.containerd_api.messages_pb2 import SnapshotInfo
    from tocsin.model.document import Document

_TIMEOUT = 10.0
_LIST = "/containerd.services.snapshots.v1.Snapshots/List"


@dataclass(frozen=True, slots=True)
class SnapshotterImage:
    """An image whose layers the snapshotter has.

    Attributes:
        image: the image, as containerd was asked for it; empty if containerd did not say.
        lazy: whether it is mounted lazily.
        layers: number of layers that were prepared for it; those of other images are not counted.
        reason: why it is not lazy; empty if it is.
    """

    image: str
    lazy: bool
    layers: int
    reason: str

    def to_dict(self) -> Document:
        """Return the document; see docs/json.md."""
        return {
            "image": self.image,
            "lazy": self.lazy,
            "layers": self.layers,
            "reason": self.reason,
        }


def images_at(address: Path) -> list[SnapshotterImage]:
    """Return the images of the snapshotter that listens on a socket, sorted by name.

    Raises:
        NotFoundError: no snapshotter listens there.
        UnsupportedError: grpcio is missing.
    """
    try:
        import grpc  # noqa: PLC0415 (an extra)

        from tocsin.containerd_api import messages_pb2 as messages  # noqa: PLC0415
    except ImportError:
        raise UnsupportedError(
            "questions to the snapshotter need grpcio and protobuf, which are not installed",
            hint="Install them with pip install 'tocsin[containerd]'.",
        ) from None
    with grpc.insecure_channel(f"unix:{address}") as channel:
        ask: Any = channel.unary_stream(
            _LIST,
            request_serializer=messages.ListSnapshotsRequest.SerializeToString,
            response_deserializer=messages.ListSnapshotsResponse.FromString,
        )
        request = messages.ListSnapshotsRequest(filters=["kind==committed"])
        try:
            return images_of(info for part in ask(request, timeout=_TIMEOUT) for info in part.info)
        except grpc.RpcError:
            raise NotFoundError(
                f"{quoted(str(address))}: no snapshotter answers there",
                hint="Start tocsin snapshotter, or name its socket with --address.",
            ) from None


def images_of(snapshots: Iterable[SnapshotInfo]) -> list[SnapshotterImage]:
    """Return the images that snapshots of layers are for."""
    found: dict[str, SnapshotterImage] = {}
    for snapshot in snapshots:
        labels = snapshot.labels
        if names.LAZY not in labels:
            continue  # made by a user, for example from a container
        image = names.reference_of(labels)
        lazy = labels[names.LAZY] == "true" and names.REMOTE in labels
        before = found.get(image, SnapshotterImage(image, lazy=False, layers=0, reason=""))
        is_lazy = before.lazy or lazy
        reason = "" if is_lazy else before.reason or labels.get(names.REASON, "")
        found[image] = SnapshotterImage(image, is_lazy, before.layers + 1, reason)
    return sorted(found.values(), key=lambda each: each.image)
