"""Requests to containerd, with a namespace, a deadline and typed errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.empty_pb2 import Empty

from tocsin.containerd_api import messages_pb2 as messages
from tocsin.stores.containerd.failures import code_of, failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tocsin.model.digest import Digest

_TIMEOUT = 120
"""Seconds for one request. While containerd collects garbage, requests that write wait."""
_MAX_MESSAGE = 16 << 20
"""Bytes of one message: containerd's own limit, which a page of labels can come close to."""
_CONTENT = "/containerd.services.content.v1.Content/"
_IMAGES = "/containerd.services.images.v1.Images/"
_LEASES = "/containerd.services.leases.v1.Leases/"
_NAMESPACES = "/containerd.services.namespaces.v1.Namespaces/"
_MAX_LISTED = 100_000
"""Entries of one list that are read: far more than any machine has."""


class _Message(Protocol):
    """A message of protobuf."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 (a name of protobuf)

    @classmethod
    def FromString(cls, data: bytes, /) -> Self: ...  # noqa: N802 (a name of protobuf)


_Answer = TypeVar("_Answer", bound=_Message)


class WriteCall(Protocol):
    """A blob that is being written: the answers to each request."""

    def __iter__(self) -> Iterator[messages.WriteContentResponse]: ...

    def cancel(self) -> bool:
        """End the call."""
        ...


class Client:
    """A connection to containerd; methods may be called from several threads.

    Args:
        name: name of the store, for messages.
        address: path of the socket.
        namespace: namespace of all requests.
    """

    def __init__(self, name: str, address: str, namespace: str) -> None:
        self.name = name
        self.address = address
        self._namespace = namespace
        self._channel = grpc.insecure_channel(
            f"unix:{quote(address)}",
            options=[
                # Otherwise the authority is the path, which HTTP/2 servers of Go reject.
                ("grpc.default_authority", "localhost"),
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", _MAX_MESSAGE),
                ("grpc.max_send_message_length", _MAX_MESSAGE),
                # Each store has a connection of its own, which closing it ends.
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    def image(self, name: str) -> messages.Image | None:
        """Return an image; ``None`` if there is none with exactly this name."""
        try:
            request = messages.GetImageRequest(name=name)
            return self._ask(f"{_IMAGES}Get", request, messages.ImageMessage).image
        except grpc.RpcError as error:
            if code_of(error) is grpc.StatusCode.NOT_FOUND:
                return None
            raise self.failure(error, self.name) from None

    def images(self, *filters: str) -> list[messages.Image]:
        """Return the images that match one of the filters, or all images."""
        request = messages.ListImagesRequest(filters=filters)
        return list(self._checked(f"{_IMAGES}List", request, messages.ListImagesResponse).images)

    def set_image(self, image: messages.Image) -> None:
        """Create an image, or replace the target of the existing one."""
        try:
            self._ask(f"{_IMAGES}Create", messages.ImageMessage(image=image), messages.ImageMessage)
        except grpc.RpcError as error:
            if code_of(error) is not grpc.StatusCode.ALREADY_EXISTS:
                raise self.failure(error, self.name) from None
            update = messages.UpdateImageRequest(image=image)
            update.update_mask.paths.append("target")
            self._checked(f"{_IMAGES}Update", update, messages.ImageMessage)

    def delete_image(self, name: str) -> None:
        """Delete an image, whose content stays until garbage is collected."""
        self._ignoring_missing(f"{_IMAGES}Delete", messages.DeleteImageRequest(name=name))

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces."""
        listed = self._checked(
            f"{_NAMESPACES}List", messages.ListNamespacesRequest(), messages.ListNamespacesResponse
        )
        return [namespace.name for namespace in listed.namespaces]

    def content(self, digest: Digest) -> messages.ContentInfo | None:
        """Return the record of a blob; ``None`` if it does not exist."""
        try:
            request = messages.ContentRequest(digest=str(digest))
            return self._ask(f"{_CONTENT}Info", request, messages.ContentInfoResponse).info
        except grpc.RpcError as error:
            if code_of(error) is grpc.StatusCode.NOT_FOUND:
                return None
            raise self.failure(error, self.name) from None

    def list_content(self, *filters: str) -> Iterator[messages.ContentInfo]:
        """Yield the records of the blobs that match one of the filters."""
        call = self._channel.unary_stream(
            f"{_CONTENT}List",
            request_serializer=messages.ListContentRequest.SerializeToString,
            response_deserializer=messages.ListContentResponse.FromString,
        )
        seen = 0
        try:
            for page in call(
                messages.ListContentRequest(filters=filters),
                timeout=_TIMEOUT,
                metadata=self._metadata(None),
            ):
                seen += len(page.info)
                if seen > _MAX_LISTED:
                    return
                yield from page.info
        except grpc.RpcError as error:
            raise self.failure(error, self.name) from None

    def read(self, digest: Digest, start: int, end: int, *, place: str) -> list[bytes]:
        """Return the pieces of bytes ``[start, end)`` of a blob; fewer if it ends before.

        Args:
            digest: digest of the blob.
            start: offset of the first byte.
            end: offset after the last byte, which must be greater than `start`.
            place: name of the blob in messages.

        Raises:
            NotFoundError: the blob does not exist.
        """
        call = self._channel.unary_stream(
            f"{_CONTENT}Read",
            request_serializer=messages.ReadContentRequest.SerializeToString,
            response_deserializer=messages.ReadContentResponse.FromString,
        )
        request = messages.ReadContentRequest(digest=str(digest), offset=start, size=end - start)
        pieces, left = [], end - start
        answers = call(request, timeout=_TIMEOUT, metadata=self._metadata(None))
        try:
            for answer in answers:
                pieces.append(answer.data[:left])
                left -= len(pieces[-1])
                if not left:
                    break
        except grpc.RpcError as error:
            if code_of(error) is grpc.StatusCode.OUT_OF_RANGE:
                return []
            raise self.failure(error, place) from None
        finally:
            answers.cancel()
        return pieces

    def label_content(self, digest: Digest, labels: Mapping[str, str], *, place: str) -> None:
        """Set labels of a blob and keep its other labels; an empty value removes a label.

        Raises:
            NotFoundError: the blob does not exist.
        """
        request = messages.UpdateContentRequest()
        request.info.digest = str(digest)
        request.info.labels.update(labels)
        request.update_mask.paths.extend(f"labels.{key}" for key in labels)
        try:
            self._ask(f"{_CONTENT}Update", request, messages.ContentInfoResponse)
        except grpc.RpcError as error:
            raise self.failure(error, place) from None

    def delete_content(self, digest: Digest) -> None:
        """Delete a blob, if it exists."""
        self._ignoring_missing(f"{_CONTENT}Delete", messages.ContentRequest(digest=str(digest)))

    def write(self, requests: Iterable[messages.WriteContentRequest], lease: str) -> WriteCall:
        """Start writing a blob; the result yields an answer to each request."""
        call = self._channel.stream_stream(
            f"{_CONTENT}Write",
            request_serializer=messages.WriteContentRequest.SerializeToString,
            response_deserializer=messages.WriteContentResponse.FromString,
        )
        return call(iter(requests), metadata=self._metadata(lease))

    def abort(self, ref: str) -> None:
        """Discard a blob that was not written completely."""
        self._ignoring_missing(f"{_CONTENT}Abort", messages.ContentWriteRequest(ref=ref))

    def create_lease(self, lease: str, labels: Mapping[str, str]) -> None:
        """Create a lease."""
        request = messages.CreateLeaseRequest(id=lease, labels=dict(labels))
        self._checked(f"{_LEASES}Create", request, messages.LeaseResponse)

    def lease_content(self, lease: str, digest: Digest) -> None:
        """Protect a blob from garbage collection, whether it exists or not."""
        resource = messages.LeaseResource(id=str(digest), type="content")
        request = messages.AddLeaseResourceRequest(id=lease, resource=resource)
        self._checked(f"{_LEASES}AddResource", request, Empty)

    def delete_lease(self, lease: str) -> None:
        """Delete a lease."""
        self._ignoring_missing(f"{_LEASES}Delete", messages.DeleteLeaseRequest(id=lease))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def failure(self, error: grpc.RpcError, place: str) -> Exception:
        """Return the error for a failed request."""
        return failure(error, name=self.name, place=place, address=self.address)

    def _ask(self, method: str, request: _Message, answer: type[_Answer]) -> _Answer:
        """Send a request; raises `grpc.RpcError`."""
        call = self._channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=_TIMEOUT, metadata=self._metadata(None))

    def _checked(self, method: str, request: _Message, answer: type[_Answer]) -> _Answer:
        try:
            return self._ask(method, request, answer)
        except grpc.RpcError as error:
            raise self.failure(error, self.name) from None

    def _ignoring_missing(self, method: str, request: _Message) -> None:
        try:
            self._ask(method, request, Empty)
        except grpc.RpcError as error:
            if code_of(error) is not grpc.StatusCode.NOT_FOUND:
                raise self.failure(error, self.name) from None

    def _metadata(self, lease: str | None) -> tuple[tuple[str, str], ...]:
        headers = (("containerd-namespace", self._namespace),)
        return headers if lease is None else (*headers, ("containerd-lease", lease))
