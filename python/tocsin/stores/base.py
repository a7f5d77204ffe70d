"""Protocols of image stores: a `Source` can be read, a `Sink` can also be written.

One store is one repository: a set of blobs named by digest, and tags. Bytes that are read are
verified against the requested descriptor; bytes that are written are verified while they are
streamed.

Stores never check each other's types. How a blob is copied from one store to another depends on
the `origin` of the source, which is a value, and on the result of `Sink.take_over`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from tocsin.errors import FormatError
from tocsin.model.media_types import OCTET_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.stores.origins import BlobOrigin


class Source(Protocol):
    """A store that images are read from.

    Methods may be called from several threads. Leaving a ``with`` block closes the store.

    Attributes:
        name: name in messages, such as ``oci:some/dir``.
        origin: location of the blobs, which a sink compares with its own.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 (in the class docstring)

    @property
    def origin(self) -> BlobOrigin: ...  # noqa: D102 (in the class docstring)

    def resolve(self, selector: str | Digest | None, *, will_read: bool = False) -> Descriptor:
        """Return the descriptor of the image that `selector` names.

        Args:
            selector: a tag, a digest, or ``None`` for the only image of the store; usually
                `Reference.selector`.
            will_read: whether `manifest` is called next, so that a registry may return the manifest
                at once, with one request for both.

        Raises:
            NotFoundError: the image does not exist, or there are several and no selector.
        """
        ...

    def tags(self) -> list[str]:
        """Return all tags, sorted."""
        ...

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or image index after verifying its size and digest.

        Raises:
            NotFoundError: the manifest does not exist.
            VerificationError: the stored bytes have a different size or digest.
            FormatError: the manifest is larger than `go_json.MAX_SIZE`.
        """
        ...

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob in pieces of about `window.PIECE_SIZE` bytes.

        Size and digest are verified during streaming: an error is raised before the last piece is
        yielded, so a blob that arrived completely is correct. Closing the iterator early releases
        the source.

        Args:
            descriptor: descriptor of the blob; only the digest and size are used.
            verify: whether to verify the digest; the size is always verified. ``False`` is for
                consumers that verify the digest themselves, as `LayerIndexer` does.

        Raises:
            NotFoundError: the blob does not exist.
            VerificationError: its size or digest differs.
        """
        ...

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return exactly the bytes ``[start, end)`` of a blob, **unverified**.

        Raises:
            ValueError: the range is not within the descriptor's size.
            NotFoundError: the blob does not exist.
            VerificationError: the blob ends before `end`.
        """
        ...

    def referrers(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return the manifests that refer to `subject`, in the order of the store.

        As in the registry API, each descriptor has the `artifact_type` (or the config's media type
        if the manifest has none) and the annotations of its manifest.

        Args:
            subject: digest of a manifest.
            artifact_type: artifact type to filter by; ``None`` for any.
            lenient: treat a registry that refuses the request as one without referrers, and log a
                warning. Readers that can work without referrers set this; writers need the real
                list.
        """
        ...

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob or manifest with this digest and size exists; does not read it."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The sink has the blob; nothing else needs to be done."""


@dataclass(frozen=True, slots=True)
class MustStream:
    """The blob has to be streamed with `Sink.put_blob`."""


class MustVerify(ABC):
    """The sink can take the blob over once its bytes have been verified in the source."""

    @abstractmethod
    def prepare(self) -> None:
        """Do the slow work that does not need verified bytes; never raises.

        May be called from another thread while the blob is read.
        """

    @abstractmethod
    def finish(self) -> TakenOver | MustStream:
        """Take the blob over; the caller has read all of it and verified its digest."""

    @abstractmethod
    def verify_and_finish(self) -> TakenOver | MustStream:
        """Read and verify the blob, then take it over.

        Raises:
            VerificationError: the bytes do not match the descriptor.
        """


Takeover = TakenOver | MustVerify | MustStream
"""How a sink gets a blob from another store."""


class Sink(Source, Protocol):
    """A store that images are written to, and that can also be read.

    Operations that a sink does not support raise `UnsupportedError`. Leaving a ``with`` block
    normally commits and closes; leaving it with an exception closes without committing.
    """

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Store a blob and return its descriptor.

        An iterable is always read to its end, even if the blob already exists, since it may have
        another consumer. Nothing is stored if the iterable raises, or if digest or size differ.

        Args:
            source: the bytes.
            digest: expected digest, if known; verified. Uploads to some registries are faster
                if it is known.
            size: expected size, if known; verified.
            media_type: media type of the returned descriptor.

        Raises:
            VerificationError: the bytes have a different digest or size.
            OSError: the store cannot be written; ``filename`` is the path.
        """
        ...

    def take_over(self, descriptor: Descriptor, origin: BlobOrigin) -> Takeover:
        """Take a blob over from another store without streaming it through this process.

        This does not read the blob, so it can be called before the blob is read for another
        purpose: a blob that has to be streamed can then be streamed in the same pass.

        Args:
            descriptor: descriptor of the blob.
            origin: origin of the source, which must stay open until `commit`.
        """
        ...

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Store a manifest or image index, and tag it if `tag` is given.

        Its children must be stored first. If it has a `subject`, `referrers` lists it afterwards.
        """
        ...

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Tag a stored manifest, moving the tag if it exists."""
        ...

    def delete(self, descriptor: Descriptor) -> None:
        """Remove a manifest and all its tags, but not its children.

        Raises:
            NotFoundError: the manifest does not exist.
        """
        ...

    def commit(self) -> None:
        """Make all changes visible and durable.

        An archive is written only now. Other stores apply each change at once and do nothing here.
        """
        ...


def read_blob(store: Source, descriptor: Descriptor, *, max_size: int) -> bytes:
    """Return the verified bytes of a small blob.

    Raises:
        FormatError: the blob is larger than `max_size` bytes; `what` is ``blob.size``.
    """
    if descriptor.size > max_size:
        raise FormatError(
            f"{store.name}: blob {descriptor.digest}: too large (found {descriptor.size} bytes, "
            f"expected at most {max_size})",
            what="blob.size",
        )
    return b"".join(store.blob(descriptor))
