"""The common part of stores in local files: every blob is a window of a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError, NotFoundError, UnsupportedError
from tocsin.model.descriptor import Descriptor
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.manifest import ImageIndex, Manifest, parse_manifest, sniff_media_type
from tocsin.model.media_types import INDEXES, MANIFESTS
from tocsin.stores.verification import size_error, verified
from tocsin.stores.window import holds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tocsin.model.digest import Digest
    from tocsin.stores.layout_index import LayoutIndex
    from tocsin.stores.origins import ArchiveOrigin, LayoutOrigin
    from tocsin.stores.window import Window


class FileSource(ABC):
    """A source in local files; see `Source` for the contract of each method.

    Subclasses locate their blobs (`origin`, `_window`) and read their index (`_index`).
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Name in messages."""
        return self._name

    @property
    @abstractmethod
    def origin(self) -> LayoutOrigin | ArchiveOrigin:
        """Location of the blobs."""

    @abstractmethod
    def _window(self, digest: Digest) -> Window:
        """Open a blob.

        Raises:
            FileNotFoundError: the blob does not exist.
        """

    @abstractmethod
    def _index(self) -> LayoutIndex:
        """Return the current index."""

    def resolve(
        self,
        selector: str | Digest | None,
        *,
        will_read: bool = False,
    ) -> Descriptor:
        """Return the descriptor of the image that `selector` names."""
        index = self._index()
        found = index.select(selector, place=self._name, is_image=self._is_image)
        if found is not None:
            return found
        assert not isinstance(selector, str | None)  # noqa: S101 (select returns None for digests only)
        return self._descriptor_of(selector)

    def tags(self) -> list[str]:
        """Return all tags, sorted."""
        return self._index().tags

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or image index, verified."""
        if descriptor.size > MAX_SIZE:
            raise FormatError(
                f"{self._place(descriptor.digest)}: manifest too large (found {descriptor.size} "
                f"bytes, expected at most {MAX_SIZE})",
                what="manifest",
            )
        return b"".join(self.blob(descriptor))

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob, verified."""
        with self._open(descriptor.digest) as window:
            if window.size != descriptor.size:
                raise size_error(
                    self._place(descriptor.digest),
                    expected=descriptor.size,
                    actual=str(window.size),
                )
            yield from verified(
                window.pieces(),
                place=self._place(descriptor.digest),
                digest=descriptor.digest if verify else None,
                size=descriptor.size,
            )

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a blob, unverified."""
        if not 0 <= start <= end <= descriptor.size:
            raise ValueError(
                f"{self._place(descriptor.digest)}: range [{start}, {end}) is out of bounds "
                f"(the blob has {descriptor.size} bytes)"
            )
        with self._open(descriptor.digest) as window:
            data = window.read(start, end)
        if len(data) != end - start:
            raise size_error(
                f"{self._place(descriptor.digest)}: range [{start}, {end})",
                expected=end - start,
                actual=str(len(data)),
            )
        return data

    def referrers(
        self,
        subject: Digest,
        artifact_type: str | None = None,
        *,
        lenient: bool = False,
    ) -> list[Descriptor]:
        """Return the manifests that refer to `subject`."""
        index = self._index()
        found: dict[Digest, Descriptor] = {}
        for entry in index.entries:
            document = self._document(entry)
            if document and document.subject and document.subject.digest == subject:
                found.setdefault(entry.digest, _as_referrer(entry, document))
        fallback = index.fallback(subject)
        listed = self._document(fallback) if fallback else None
        if isinstance(listed, ImageIndex):
            for entry in listed.manifests or ():
                found.setdefault(entry.digest, entry)
        return [d for d in found.values() if artifact_type in (None, d.artifact_type)]

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob with this digest and size exists."""
        return holds(self._window, descriptor)

    @abstractmethod
    def close(self) -> None:
        """Release open files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, digest: Digest) -> Window:
        try:
            return self._window(digest)
        except FileNotFoundError:
            raise NotFoundError(f"{self._place(digest)}: not found") from None

    def _place(self, digest: Digest) -> str:
        return f"{self._name}: blob {digest}"

    def _read_only(self) -> UnsupportedError:
        return UnsupportedError(f"{self._name}: not opened for writing")

    def _descriptor_of(self, digest: Digest) -> Descriptor:
        with self._open(digest) as window:
            size = window.size
        data = self.manifest(Descriptor("", digest, size))
        return Descriptor(sniff_media_type(data), digest, size)

    def _is_image(self, entry: Descriptor) -> bool:
        if entry.artifact_type:
            return False
        document = self._document(entry)
        return document is None or document.subject is None

    def _document(self, entry: Descriptor) -> Manifest | ImageIndex | None:
        """Return a manifest of the index; ``None`` if it is missing or its type is unknown."""
        if entry.media_type not in MANIFESTS | INDEXES or not self.has_blob(entry):
            return None
        return parse_manifest(self.manifest(entry), entry.media_type)


def manifest_descriptor(data: bytes, media_type: str, *, place: str) -> tuple[Descriptor, bool]:
    """Return the index entry for a manifest to be stored, and whether it is a referrer.

    Raises:
        FormatError: not a manifest, or larger than other tools accept.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(
            f"{place}: manifest too large (found {len(data)} bytes, expected at most {MAX_SIZE})",
            what="manifest",
        )
    document = parse_manifest(data, media_type)
    descriptor = Descriptor.of(data, media_type)
    if document.subject is None:
        return descriptor, False
    return replace(descriptor, artifact_type=document.kind), True


def _as_referrer(entry: Descriptor, document: Manifest | ImageIndex) -> Descriptor:
    return Descriptor(
        entry.media_type,
        entry.digest,
        entry.size,
        annotations=document.annotations,
        artifact_type=document.kind,
    )
