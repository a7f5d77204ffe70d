"""Errors of the snapshotter, one class for each gRPC status that containerd distinguishes.

Source: containerd/errdefs, pkg/errgrpc/grpc.go.
"""

from __future__ import annotations

from tocsin.errors import ConflictError, NotFoundError, TocsinError


class SnapshotMissingError(NotFoundError):
    """A snapshot does not exist: ``NOT_FOUND``."""


class SnapshotExistsError(ConflictError):
    """A snapshot with the same key exists: ``ALREADY_EXISTS``."""


class SnapshotStateError(TocsinError):
    """A snapshot is in the wrong state for a request: ``FAILED_PRECONDITION``."""

    _error_code = "snapshot.state"


class SnapshotArgumentError(TocsinError):
    """A request is not valid: ``INVALID_ARGUMENT``."""

    _error_code = "snapshot.argument"


class StorageFullError(TocsinError):
    """The file system of the snapshots is full: ``RESOURCE_EXHAUSTED``."""

    _error_code = "snapshot.storage-full"
