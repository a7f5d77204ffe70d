"""The images that containerd has pulled for the snapshotter: lazy or not, and why."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.containerd_api.installed import check_packages
from tocsin.errors import NotFoundError
from tocsin.mounting.registered import Registry
from tocsin.mounting.snapshotter.labels import LAZY, REASON, SNAPSHOTTER, target_of
from tocsin.mounting.snapshotter.snapshot import Kind, Snapshot, Usage
from tocsin.mounting.unmounting import LIST_TIMEOUT, status_in
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.document import Document
    from tocsin.mounting.status import MountStatus

UNPACKED = "unpacked"
NOT_MOUNTED = "not mounted"
_LIST = "/containerd.services.snapshots.v1.Snapshots/List"
_TIMEOUT = 30.0
_MAX_MESSAGE = 16 << 20
"""Bytes of an answer, as in containerd (``defaults.DefaultMaxRecvMsgSize``)."""
_STUB = re.compile(rf"{SNAPSHOTTER}/sha256:(?P<hex>[0-9a-f]{{64}})/(?P<count>[0-9]+)/.*", re.DOTALL)
"""Key of layers that were not unpacked, as `Snapshots` makes it."""


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image that containerd has pulled for the snapshotter.

    Attributes:
        image: its reference, as containerd was asked for it; empty if containerd did not say.
        manifest: digest of its manifest; empty if containerd did not say.
        chain_id: chain ID of its topmost layer, which names its snapshot.
        lazy: whether it is mounted lazily.
        state: the state of its mount, as for ``tocsin status DIR``, or ``not mounted``; or
            ``unpacked`` if containerd pulled all layers.
        reason: why it is in this state.
    """

    image: str
    manifest: str
    chain_id: str
    lazy: bool
    state: str
    reason: str

    def to_dict(self) -> Document:
        """Return what ``tocsin status --json`` prints for the image."""
        return asdict(self)


def top_layers(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Return the layers that have no other layer on top: one for each image, or for several."""
    layers = [each for each in snapshots if each.kind is Kind.COMMITTED and LAZY in each.labels]
    below = {each.parent for each in layers}
    return [each for each in layers if each.key not in below]


def pulled_images(address: Path, root: Path) -> list[PulledImage]:
    """Return all images, sorted by name.

    Args:
        address: socket of the snapshotter.
        root: directory of the snapshotter, with the descriptions of its mounts.

    Raises:
        NotFoundError: no snapshotter answers.
        UnsupportedError: grpcio is missing.
    """
    mounts = _mounts(root)
    found = [_described(each, mounts) for each in top_layers(_snapshots(address))]
    return sorted(found, key=lambda each: (each.image, each.chain_id))


def _described(layer: Snapshot, mounts: dict[str, MountStatus]) -> PulledImage:
    target, stub = target_of(layer.labels), _STUB.fullmatch(layer.key)
    state, reason = UNPACKED, layer.labels.get(REASON, "")
    lazy = layer.labels[LAZY] == "true"
    if lazy:
        status = mounts.get(f"{stub['hex']}-{stub['count']}") if stub else None
        state = NOT_MOUNTED if status is None else status.state
        reason = "it is mounted when a container starts" if status is None else status.reason
    manifest = f"sha256:{stub['hex']}" if stub else (target and target.manifest)
    return PulledImage(
        image=target.reference if target else "",
        manifest=manifest or "",
        chain_id=target.chain_id if target else layer.key.rpartition("/")[2],
        lazy=lazy,
        state=state,
        reason=reason,
    )


def _mounts(root: Path) -> dict[str, MountStatus]:
    """Return what each mount is doing, by the name of the directory above it."""
    if not (root / "run").is_dir():
        return {}
    registry = Registry(root / "run")
    return {
        Path(each.directory).parent.name: status_in(registry, each, LIST_TIMEOUT)
        for each in registry.all()
    }


def _snapshots(address: Path) -> list[Snapshot]:
    check_packages("the snapshotter")
    import grpc  # noqa: PLC0415 (an extra)

    from tocsin.containerd_api import messages_pb2 as messages  # noqa: PLC0415 (an extra)

    options = [("grpc.max_receive_message_length", _MAX_MESSAGE)]
    with grpc.insecure_channel(f"unix:{address}", options=options) as channel:
        call: Any = channel.unary_stream(
            _LIST,
            request_serializer=messages.ListSnapshotsRequest.SerializeToString,
            response_deserializer=messages.ListSnapshotsResponse.FromString,
        )
        try:
            answers = [*call(messages.ListSnapshotsRequest(), timeout=_TIMEOUT)]
        except grpc.RpcError:
            raise NotFoundError(
                f"{quoted(str(address))}: no snapshotter answers",
                hint="Start it with systemctl start tocsin-snapshotter, or name its socket with "
                "--address; run tocsin status as root.",
            ) from None
    return [_snapshot(info) for answer in answers for info in answer.info]


def _snapshot(info: Any) -> Snapshot:  # noqa: ANN401 (a generated message)
    kind = Kind(info.kind) if info.kind in set(Kind) else Kind.ACTIVE
    return Snapshot(0, info.name, info.parent, kind, 0, 0, dict(info.labels), Usage())
