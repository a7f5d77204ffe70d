"""An image service for the kubelet that passes all requests on to containerd.

The kubelet sends the credentials of a pull only to its image service, so that a snapshotter gets
them only if it is this service (``--image-service-endpoint``). Requests and answers are passed on
byte for byte; only the credentials of ``PullImage`` are read on the way.

Source: kubernetes/cri-api, pkg/apis/services.go.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from tocsin.containerd_api.messages_pb2 import CriPullImageRequest
from tocsin.errors import TocsinError
from tocsin.log import LOG
from tocsin.model.reference import DOCKER_HUB, parse_registry_name
from tocsin.mounting.pull_credentials import pull_credential

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tocsin.containerd_api.messages_pb2 import CriAuthConfig
    from tocsin.stores.registry.credentials import Credential

_SERVICES = frozenset({"runtime.v1.ImageService", "runtime.v1alpha2.ImageService"})
"""containerd 1.6 has both; later versions have the first."""
_PULL = "PullImage"
_DOCKER_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_MAX_MESSAGE = 16 << 20
"""Bytes of a request or an answer, as in containerd (``defaults.DefaultMaxRecvMsgSize``)."""
_THREADS = 64
"""Requests at the same time; a pull has one until it ends."""
_NO_LIMIT = 365 * 24 * 3600.0
"""Seconds from which on a request has no time limit; gRPC has a large number for that."""
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
]
_OWN_METADATA = ("grpc-", "user-agent", "content-type", "te", ":")
"""How the names of metadata begin that belong to one connection."""


class TakesCredentials(Protocol):
    """Receives the credentials of pulls."""

    def give_credential(self, host: str, repository: str, credential: Credential) -> None: ...  # noqa: D102


class CriImageService:
    """A server with containerd's image service. Each pull takes a thread until it ends.

    The snapshotter answers containerd in other threads, since a pull waits for it.

    Args:
        address: path of the socket to serve.
        containerd: path of containerd's socket.
        images: receives the credentials of pulls.

    Raises:
        OSError: the socket cannot be made.
    """

    def __init__(self, address: Path, containerd: Path, images: TakesCredentials) -> None:
        self._channel = grpc.insecure_channel(f"unix:{containerd}", options=_OPTIONS)
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="cri")
        self._server = grpc.server(pool, options=_OPTIONS)
        self._server.add_generic_rpc_handlers((ImageServiceHandler(self._channel, images),))
        address.unlink(missing_ok=True)
        try:
            self._server.add_insecure_port(f"unix:{address}")
        except RuntimeError as error:  # gRPC does not say why
            raise OSError(None, "the socket cannot be made", str(address)) from error
        address.chmod(0o600)
        self._server.start()

    def close(self, grace: float = 0.0) -> None:
        """Stop to serve; requests may end within `grace` seconds."""
        self._server.stop(grace).wait()
        self._channel.close()


class ImageServiceHandler(grpc.GenericRpcHandler):
    """Passes every method of the image service on to containerd.

    Args:
        channel: leads to containerd.
        images: receives the credentials of pulls.
    """

    def __init__(self, channel: grpc.Channel, images: TakesCredentials) -> None:
        self._channel = channel
        self._images = images

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Return what handles a method; ``None`` if it is not one of the image service."""
        path: str = handler_call_details.method
        service, _, method = path.removeprefix("/").partition("/")
        if service not in _SERVICES:
            return None
        return grpc.unary_unary_rpc_method_handler(partial(self._pass, path, method))

    def _pass(self, path: str, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if method == _PULL:
            self._take_credential(request)
        limit = context.time_remaining()
        send: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
        call = send.future(
            request,
            timeout=None if limit is None or limit > _NO_LIMIT else limit,
            metadata=_passed_on(context.invocation_metadata()),
        )

        def cancel() -> None:
            call.cancel()

        # The client may have cancelled before; then the callback is not called.
        if not context.add_callback(cancel):
            cancel()
        try:
            answer: bytes = call.result()
        except grpc.FutureCancelledError:
            context.abort(grpc.StatusCode.CANCELLED, "cancelled by the client")
        except grpc.RpcError as error:
            failed: Any = error  # a call too, which grpc does not say
            context.set_trailing_metadata(_passed_on(failed.trailing_metadata() or ()))
            context.abort(failed.code(), failed.details() or "")
        context.set_trailing_metadata(_passed_on(call.trailing_metadata() or ()))
        return answer

    def _take_credential(self, request: bytes) -> None:
        """Keep the credential of a pull. What is wrong with the request is containerd's affair."""
        try:
            asked = CriPullImageRequest.FromString(request)
            name = parse_registry_name(asked.image.image)
            found = credential_of(asked.auth, name.host)
            if found is not None:
                self._images.give_credential(name.host, name.repository, found)
        except (DecodeError, TocsinError):
            pass
        except OSError as error:
            LOG.warning("credentials of a pull cannot be used for mounts: %s", error.strerror)


def credential_of(auth: CriAuthConfig, host: str) -> Credential | None:
    """Return the credential of a pull from a host, as containerd's ``ParseAuth`` reads it.

    Source: containerd/containerd, internal/cri/server/images/image_pull.go.
    """
    if auth.server_address:
        named = auth.server_address.rpartition("://")[2].partition("/")[0]
        is_hub = named in _DOCKER_HUB_HOSTS and host in _DOCKER_HUB_HOSTS
        if named != host and not is_hub:
            return None
    if auth.username:
        return pull_credential(username=auth.username, password=auth.password)
    if auth.identity_token:
        return pull_credential(identity_token=auth.identity_token)
    if auth.auth:
        try:
            text = b64decode(auth.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return None
        username, colon, password = text.partition(":")
        return pull_credential(username=username, password=password.strip("\0")) if colon else None
    return pull_credential(registry_token=auth.registry_token)


def _passed_on(metadata: Sequence[tuple[str, str | bytes]]) -> tuple[tuple[str, str | bytes], ...]:
    kept = {"grpc-status-details-bin"}
    return tuple(
        (name, value)
        for name, value in metadata
        if name in kept or not name.startswith(_OWN_METADATA)
    )
