"""Converts failed requests to containerd to errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from tocsin.errors import ContainerdError, NotFoundError
from tocsin.quoting import quoted
from tocsin.stores.containerd.address import check_socket

if TYPE_CHECKING:
    from tocsin.errors import TocsinError

_TEMPORARY = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """Return the status of a failed request."""
    code = error.code() if isinstance(error, grpc.Call) else None
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


def failure(error: grpc.RpcError, *, name: str, place: str, address: str) -> TocsinError:
    """Return the error for a failed request.

    Args:
        error: the failure.
        name: name of the store.
        place: the store or one of its objects, for the message.
        address: path of the socket.
    """
    code = code_of(error)
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(f"{place}: not found")
    if code is grpc.StatusCode.UNAVAILABLE:
        try:
            check_socket(name, address)
        except ContainerdError as gone:
            return gone
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return timed_out(place, address)
    details = error.details() if isinstance(error, grpc.Call) else None
    said = f": {quoted(details)}" if details else ""
    return ContainerdError(
        f"{place}: containerd reported {code.name}{said}",
        code=code.name,
        url=f"unix://{address}",
        temporary=code in _TEMPORARY,
        hint="Run as root." if code is grpc.StatusCode.PERMISSION_DENIED else None,
    )


def timed_out(place: str, address: str) -> ContainerdError:
    """Return the error for a request that was not answered in time."""
    return ContainerdError(
        f"{place}: containerd did not answer in time",
        code=grpc.StatusCode.DEADLINE_EXCEEDED.name,
        url=f"unix://{address}",
        temporary=True,
        hint="Check that containerd is running and its disk is not overloaded.",
    )
