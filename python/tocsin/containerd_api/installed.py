"""Whether the optional packages for containerd's API are installed."""

from __future__ import annotations

from tocsin.errors import UnsupportedError


def check_packages(what: str) -> None:
    """Import grpcio and protobuf.

    Args:
        what: what needs them, for the message.

    Raises:
        UnsupportedError: one of them is missing or too old.
    """
    try:
        import grpc  # noqa: F401, PLC0415 (optional)

        from tocsin.containerd_api import messages_pb2  # noqa: F401, PLC0415 (imports protobuf)
    except Exception as error:  # an old protobuf raises an error of its own
        raise UnsupportedError(
            f"{what}: the packages for containerd are missing or too old (expected grpcio and "
            "protobuf)",
            hint="Install them with pip install 'tocsin[containerd]'.",
        ) from error
