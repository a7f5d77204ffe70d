"""containerd's snapshots service, by gRPC.

Source: containerd/containerd, api/services/snapshots/v1/snapshots.pb.go;
containerd/containerd, contrib/snapshotservice/service.go.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import grpc
from google.protobuf.empty_pb2 import Empty

from tocsin.containerd_api import messages_pb2 as messages
from tocsin.errors import NotFoundError, TocsinError
from tocsin.log import LOG
from tocsin.mounting.snapshotter.problems import (
    SnapshotArgumentError,
    SnapshotExistsError,
    SnapshotMissingError,
    SnapshotStateError,
    StorageFullError,
)
from tocsin.mounting.snapshotter.state import is_full
from tocsin.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

    from google.protobuf.message import Message

    from tocsin.mounting.snapshotter.overlay import Mount
    from tocsin.mounting.snapshotter.snapshot import Snapshot
    from tocsin.mounting.snapshotter.snapshots import Snapshots

NAME = "containerd.services.snapshots.v1.Snapshots"
_BLOCK = 100
"""Snapshots in one message of a list, as containerd sends them."""
_NANOSECONDS = 1_000_000_000
_STATUS = (
    (SnapshotMissingError, grpc.StatusCode.NOT_FOUND),
    (SnapshotExistsError, grpc.StatusCode.ALREADY_EXISTS),
    (SnapshotStateError, grpc.StatusCode.FAILED_PRECONDITION),
    (SnapshotArgumentError, grpc.StatusCode.INVALID_ARGUMENT),
    (StorageFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    # An image that is away is not a snapshot that is missing.
    (NotFoundError, grpc.StatusCode.UNAVAILABLE),
)


def handler(snapshots: Snapshots) -> grpc.GenericRpcHandler:
    """Return the handler of the service."""
    service = _Service(snapshots)
    return grpc.method_handlers_generic_handler(
        NAME,
        {
            "Prepare": _unary(messages.NewSnapshotRequest, service.prepare),
            "View": _unary(messages.NewSnapshotRequest, service.view),
            "Mounts": _unary(messages.SnapshotRequest, service.mounts),
            "Commit": _unary(messages.CommitSnapshotRequest, service.commit),
            "Remove": _unary(messages.SnapshotRequest, service.remove),
            "Stat": _unary(messages.SnapshotRequest, service.stat),
            "Update": _unary(messages.UpdateSnapshotRequest, service.update),
            "Usage": _unary(messages.SnapshotRequest, service.usage),
            "Cleanup": _unary(messages.CleanupSnapshotsRequest, service.cleanup),
            "List": grpc.unary_stream_rpc_method_handler(
                _guarded_stream(service.list),
                request_deserializer=messages.ListSnapshotsRequest.FromString,
                response_serializer=messages.ListSnapshotsResponse.SerializeToString,
            ),
        },
    )


class _Service:
    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def prepare(self, request: messages.NewSnapshotRequest) -> messages.MountsResponse:
        return _mounts(self._snapshots.prepare(request.key, request.parent, dict(request.labels)))

    def view(self, request: messages.NewSnapshotRequest) -> messages.MountsResponse:
        return _mounts(self._snapshots.view(request.key, request.parent, dict(request.labels)))

    def mounts(self, request: messages.SnapshotRequest) -> messages.MountsResponse:
        return _mounts(self._snapshots.mounts(request.key))

    def commit(self, request: messages.CommitSnapshotRequest) -> Empty:
        self._snapshots.commit(request.key, request.name, dict(request.labels), request.parent)
        return Empty()

    def remove(self, request: messages.SnapshotRequest) -> Empty:
        self._snapshots.remove(request.key)
        return Empty()

    def stat(self, request: messages.SnapshotRequest) -> messages.SnapshotInfoResponse:
        return messages.SnapshotInfoResponse(info=_info(self._snapshots.stat(request.key)))

    def update(self, request: messages.UpdateSnapshotRequest) -> messages.SnapshotInfoResponse:
        info = request.info
        updated = self._snapshots.update(
            info.name, dict(info.labels), list(request.update_mask.paths)
        )
        return messages.SnapshotInfoResponse(info=_info(updated))

    def usage(self, request: messages.SnapshotRequest) -> messages.UsageResponse:
        usage = self._snapshots.usage(request.key)
        return messages.UsageResponse(size=usage.size, inodes=usage.inodes)

    def cleanup(self, _request: messages.CleanupSnapshotsRequest) -> Empty:
        self._snapshots.cleanup()
        return Empty()

    def list(
        self, request: messages.ListSnapshotsRequest
    ) -> Iterator[messages.ListSnapshotsResponse]:
        block: list[messages.SnapshotInfo] = []
        for snapshot in self._snapshots.matching(list(request.filters)):
            block.append(_info(snapshot))
            if len(block) >= _BLOCK:
                yield messages.ListSnapshotsResponse(info=block)
                block = []
        if block:
            yield messages.ListSnapshotsResponse(info=block)


def _mounts(mounts: list[Mount]) -> messages.MountsResponse:
    return messages.MountsResponse(
        mounts=[
            messages.Mount(type=mount.kind, source=mount.source, options=mount.options)
            for mount in mounts
        ]
    )


def _info(snapshot: Snapshot) -> messages.SnapshotInfo:
    info = messages.SnapshotInfo(
        name=snapshot.key,
        parent=snapshot.parent,
        kind=messages.SnapshotKind.Name(int(snapshot.kind)),
        labels=snapshot.labels,
    )
    info.created_at.seconds, info.created_at.nanos = divmod(snapshot.created, _NANOSECONDS)
    info.updated_at.seconds, info.updated_at.nanos = divmod(snapshot.updated, _NANOSECONDS)
    return info


def _unary(
    request: type[Message], method: Callable[[Any], Message]
) -> grpc.RpcMethodHandler[Any, Any]:
    def guarded(message: Message, context: grpc.ServicerContext) -> Message:
        try:
            return method(message)
        except Exception as error:
            _abort(context, error)

    return grpc.unary_unary_rpc_method_handler(
        guarded,
        request_deserializer=request.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )


def _guarded_stream(method: Callable[[Any], Iterator[Message]]) -> Callable[..., Iterator[Message]]:
    def guarded(message: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        try:
            yield from method(message)
        except Exception as error:
            _abort(context, error)

    return guarded


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a request with the status that containerd expects for an error."""
    status, text = status_of(error)
    if status is grpc.StatusCode.INTERNAL:
        LOG.error("the request failed: %s", text, exc_info=error)
    context.abort(status, text)
    raise AssertionError  # `abort` has raised an error


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the status of a request that failed, and the message for its caller."""
    if isinstance(error, TocsinError):
        for kind, status in _STATUS:
            if isinstance(error, kind):
                return status, error.message
        # Images are mounted with files and registries that may be available later.
        return grpc.StatusCode.UNAVAILABLE, error.message
    if isinstance(error, OSError):
        full = is_full(error)
        status = grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.INTERNAL
        place = error.filename
        name = f"{shown(os.fsdecode(place))}: " if isinstance(place, str | bytes) else ""
        return status, f"{name}{error.strerror}"
    return grpc.StatusCode.INTERNAL, f"internal error ({type(error).__name__})"
