"""Where containerd listens, and which namespace a reference means.

The environment variables are those of containerd's own client, ``ctr``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tocsin.errors import ContainerdError, UnsupportedError
from tocsin.model.reference import check_namespace
from tocsin.operating_system import unix_socket
from tocsin.quoting import shown

if TYPE_CHECKING:
    from tocsin.model.reference import ContainerdReference

_DEFAULT_ADDRESS = "/run/containerd/containerd.sock"
_DEFAULT_NAMESPACE = "default"
_CONNECT_TIMEOUT = 10
"""Seconds until a connection to the socket is accepted, which only a long queue delays."""


def namespace_of(reference: ContainerdReference) -> str:
    """Return the namespace of a reference, or else the one of the environment.

    Raises:
        FormatError: ``CONTAINERD_NAMESPACE`` is invalid; `what` is ``reference``.
    """
    if reference.namespace is not None:
        return reference.namespace
    return check_namespace(os.environ.get("CONTAINERD_NAMESPACE") or _DEFAULT_NAMESPACE)


def address_of(name: str) -> str:
    """Return the absolute path of containerd's socket.

    Args:
        name: name of the store, for messages.

    Raises:
        UnsupportedError: ``CONTAINERD_ADDRESS`` is not the path of a socket.
    """
    text = os.environ.get("CONTAINERD_ADDRESS") or _DEFAULT_ADDRESS
    path = text.removeprefix("unix://")
    if "://" in path:
        raise UnsupportedError(
            f"{name}: unsupported address (found {shown(text)}, expected the path of a"
            " Unix socket)",
            hint="Set CONTAINERD_ADDRESS to the path of containerd's socket.",
        )
    return os.path.abspath(path)  # noqa: PTH100 (a path that may be longer than a file name)


def check_socket(name: str, address: str) -> None:
    """Connect to the socket and disconnect again, for errors that gRPC does not distinguish.

    Args:
        name: name of the store, for messages.
        address: path of the socket.

    Raises:
        UnsupportedError: this is Windows.
        ContainerdError: nothing listens there, or this user may not connect.
    """
    with unix_socket(name) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(address)
        except PermissionError:
            problem, hint = "permission denied", "Run as root, or as a user who may use the socket."
        except (FileNotFoundError, NotADirectoryError):
            problem = "the socket does not exist"
            hint = "Start containerd, or set CONTAINERD_ADDRESS to its socket."
        except TimeoutError:
            problem, hint = "the connection timed out", "Check that containerd is running."
        except OSError:
            problem = "nothing listens there"
            hint = "Start containerd, or set CONTAINERD_ADDRESS to its socket."
        else:
            return
    raise ContainerdError(
        f"{name}: cannot connect to containerd at {shown(address)}: {problem}",
        code="UNAVAILABLE",
        url=f"unix://{address}",
        temporary=True,
        hint=hint,
    )
