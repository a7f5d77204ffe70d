"""The protocols of places that hold images: a `Source` is read from, a `Sink` written to as well.

One store is one repository: a set of blobs named by digest, and tags. Bytes that come out are
checked against the descriptor they were asked by; bytes that go in are checked as they flow.

Stores never ask each other what they are. How a blob gets from one to another follows from the
source's `origin`, a value, and from what `Sink.take_over` makes of it.
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
    """A place that images are read from.

    Methods may be called from several threads. Leaving a ``with`` block closes.

    Attributes:
        name: how messages call the place, such as ``oci:some/dir``.
        origin: where its blobs lie, for a sink to compare with its own place.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 (in the class docstring)

    @property
    def origin(self) -> BlobOrigin: ...  # noqa: D102 (in the class docstring)

    def resolve(self, selector: str | Digest | None) -> Descriptor:
        """Return the descriptor of the image that `selector` names.

        Args:
            selector: a tag, a digest, or ``None`` for the only image there is; it is what
                `Reference.selector` gives.

        Raises:
            NotFoundError: there is no such image, or several and no selector.
        """
        ...

    def tags(self) -> list[str]:
        """Return the tags there are, sorted."""
        ...

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or image index, its size and digest verified.

        Raises:
            NotFoundError: it is not there.
            VerificationError: what is there has another size or digest.
            FormatError: it is larger than `go_json.MAX_SIZE`.
        """
        ...

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob in pieces of about `window.PIECE_SIZE` bytes.

        Size and digest are checked as it flows: a bad blob raises before its last piece is handed
        on, so what arrived whole was right. Closing the iterator early releases the source.

        Args:
            descriptor: digest and size are used.
            verify: ``False`` leaves out the digest, never the size; only for a consumer that
                checks the digest itself, as `LayerIndexer` does.

        Raises:
            NotFoundError: it is not there.
            VerificationError: its size or digest differs.
        """
        ...

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a blob, exactly so many, **unverified**.

        Raises:
            ValueError: the range does not lie within the descriptor's size.
            NotFoundError: the blob is not there.
            VerificationError: the blob ends before `end`.
        """
        ...

    def referrers(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return the manifests that refer to `subject`, in the place's own order.

        As with the registry API, each descriptor has the `artifact_type` (the config's media type
        where a manifest names none) and the annotations of its manifest.

        Args:
            subject: a manifest.
            artifact_type: of those wanted; ``None`` for any.
            lenient: for readers, who can do without: a registry that refuses is taken for one that
                lists nothing, with a warning in the log. Writers must know.
        """
        ...

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob, or manifest, of this digest and size is there; reads no bytes."""
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
    """The sink has the blob; nothing is left to do."""


@dataclass(frozen=True, slots=True)
class MustStream:
    """The sink gets the blob only by `Sink.put_blob`."""


class MustVerify(ABC):
    """The sink can take the blob over once its bytes have been verified where they lie."""

    @abstractmethod
    def prepare(self) -> None:
        """Do what takes long and needs no verified bytes; never raises.

        May be called from another thread while the blob is read.
        """

    @abstractmethod
    def finish(self) -> TakenOver | MustStream:
        """Take the blob over; the caller has read all of it and found its digest right."""

    @abstractmethod
    def verify_and_finish(self) -> TakenOver | MustStream:
        """Read the blob, and take it over.

        Raises:
            VerificationError: its bytes are not what the descriptor says.
        """


Takeover = TakenOver | MustVerify | MustStream
"""How a sink gets a blob that another place has."""


class Sink(Source, Protocol):
    """A place that images are written to; what is there can be read.

    What a sink cannot do raises `UnsupportedError`. Leaving a ``with`` block normally commits and
    closes; leaving it by an exception only closes, and what was not committed is forgotten.
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

        An iterable is always read to its end, also when the blob is there already, so that it may
        have another consumer. Nothing is kept if it raises, or if digest or size differ.

        Args:
            source: the bytes.
            digest: promised; checked. Some registries are faster when it is known.
            size: promised, in bytes; checked.
            media_type: of the returned descriptor.

        Raises:
            VerificationError: the bytes differ from what was promised.
            OSError: of the place; its ``filename`` says where.
        """
        ...

    def take_over(self, descriptor: Descriptor, origin: BlobOrigin) -> Takeover:
        """Take a blob over from another place without streaming it through here, where possible.

        No byte is read, so this may come before the blob is read for another purpose: whatever has
        to be streamed can then be streamed in the same pass.

        Args:
            descriptor: of the blob.
            origin: of the source that has it; the source must stay open until `commit`.
        """
        ...

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Store a manifest or image index, and its tag if given; its children come before it.

        A manifest with a `subject` is found by `referrers` from then on.
        """
        ...

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Let `tag` name a stored manifest, instead of what it named before."""
        ...

    def delete(self, descriptor: Descriptor) -> None:
        """Remove a manifest and every tag that names it; what it lists stays.

        Raises:
            NotFoundError: it is not there.
        """
        ...

    def commit(self) -> None:
        """Make what was put visible and durable, where that did not happen at once.

        An archive is written here; elsewhere it does nothing.
        """
        ...


def read_blob(store: Source, descriptor: Descriptor, *, max_size: int) -> bytes:
    """Return a small blob whole, verified.

    Raises:
        FormatError: it is larger than `max_size` bytes; `what` is ``blob.size``.
    """
    if descriptor.size > max_size:
        raise FormatError(
            f"{store.name}: blob {descriptor.digest}: got {descriptor.size} bytes, "
            f"at most {max_size} allowed here",
            what="blob.size",
        )
    return b"".join(store.blob(descriptor))
