"""The image store of containerd as a source and a sink, through its gRPC API.

A store is one namespace: its tags are the full names of its images, and its blobs are containerd's
content. `address` locates containerd, `client` sends its requests, `source` and `sink` are the
store. gRPC is imported only when a store is opened, since it is an optional dependency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from tocsin.containerd_api.installed import check_packages
from tocsin.stores.containerd.address import address_of, check_socket, namespace_of

if TYPE_CHECKING:
    from tocsin.model.reference import ContainerdReference
    from tocsin.stores.containerd.sink import ContainerdSink
    from tocsin.stores.containerd.source import ContainerdSource


@overload
def open_containerd(reference: ContainerdReference) -> ContainerdSource: ...


@overload
def open_containerd(reference: ContainerdReference, *, write: Literal[True]) -> ContainerdSink: ...


def open_containerd(
    reference: ContainerdReference, *, write: bool = False
) -> ContainerdSource | ContainerdSink:
    """Open the namespace of `reference`; its name and digest are ignored.

    Args:
        reference: a reference; the environment gives the address of containerd.
        write: whether the store is opened for writing.

    Raises:
        UnsupportedError: grpcio or protobuf is missing or too old.
        ContainerdError: containerd cannot be reached.
        FormatError: ``CONTAINERD_NAMESPACE`` is invalid.
    """
    namespace = namespace_of(reference)
    name = f"containerd:{namespace}"
    address = address_of(name)
    check_packages(name)
    check_socket(name, address)
    if write:
        from tocsin.stores.containerd.sink import ContainerdSink  # noqa: PLC0415 (imports gRPC)

        return ContainerdSink(name, address, namespace)
    from tocsin.stores.containerd.source import ContainerdSource  # noqa: PLC0415 (imports gRPC)

    return ContainerdSource(name, address, namespace)
