"""A namespace of containerd, for reading."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.manifest import Manifest, parse_manifest, sniff_media_type
from tocsin.quoting import shown
from tocsin.stores.containerd.client import Client
from tocsin.stores.containerd.labels import SOCI_INDEXES, referrer_in
from tocsin.stores.origins import ContainerdOrigin
from tocsin.stores.verification import size_error, verified

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tocsin.containerd_api.messages_pb2 import ContentInfo, Image
    from tocsin.model.manifest import ImageIndex

_PART_SIZE = 4 << 20
"""Bytes of one request: few enough to be in memory while the caller is slow."""
_DOCKER_HUB = "docker.io/"
_OFFICIAL = "docker.io/library/"
_MAX_NAMES_SHOWN = 3
_FETCH_ALL = (
    "Fetch all of it with ctr content fetch --all-platforms, or choose a platform that was pulled."
)


class ContainerdSource:
    """A namespace of containerd; see `Source` for the contract of each method.

    Tags are the full names of images.

    Args:
        name: name in messages.
        address: path of containerd's socket.
        namespace: the namespace.
    """

    def __init__(self, name: str, address: str, namespace: str) -> None:
        self._name = name
        self._address = address
        self._namespace = namespace
        self._client = Client(name, address, namespace)

    @property
    def name(self) -> str:
        """Name in messages."""
        return self._name

    @property
    def origin(self) -> ContainerdOrigin:
        """The daemon and the namespace."""
        return ContainerdOrigin(self._address, self._namespace)

    def resolve(self, selector: str | Digest | None, *, will_read: bool = False) -> Descriptor:
        """Return the target of an image.

        Images that ``ctr`` made may have names without ``docker.io/library/`` or the tag
        ``latest``; they are found too.
        """
        if isinstance(selector, Digest):
            return self._by_digest(selector)
        if selector is None:
            images = self._client.images()
            if len(images) != 1:
                raise NotFoundError(
                    f"{self._name}: expected the name of an image (found {len(images)} images)"
                )
            return self._target(images[0])
        for name in _spellings(selector):
            image = self._client.image(name)
            if image is not None:
                return self._target(image)
        raise self._no_image(selector)

    def tags(self) -> list[str]:
        """Return the names of all images, sorted."""
        return sorted(image.name for image in self._client.images())

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
        place = self._place(descriptor.digest)
        size = self._existing(descriptor.digest).size
        if size != descriptor.size:
            raise size_error(place, expected=descriptor.size, actual=str(size))
        yield from verified(
            self._pieces(descriptor),
            place=place,
            digest=descriptor.digest if verify else None,
            size=descriptor.size,
        )

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a blob, unverified."""
        place = self._place(descriptor.digest)
        if not 0 <= start <= end <= descriptor.size:
            raise ValueError(
                f"{place}: range [{start}, {end}) is out of bounds (the blob has "
                f"{descriptor.size} bytes)"
            )
        if start == end:
            return b""
        data = b"".join(self._read(descriptor.digest, start, end))
        if len(data) != end - start:
            raise size_error(
                f"{place}: range [{start}, {end})", expected=end - start, actual=str(len(data))
            )
        return data

    def referrers(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return the manifests that refer to `subject`, oldest first.

        containerd has no list of referrers. Those of tocsin are in labels of the subject, which
        keep them as long as the image; those of ``soci create`` are found by
        labels that it sets.
        """
        labelled = self._client.content(subject)
        if labelled is None:
            return []
        candidates = {info.digest: info for info in self._client.list_content(SOCI_INDEXES)}
        for name in labelled.labels:
            digest = referrer_in(name)
            info = None if digest is None else self._client.content(digest)
            if info is not None:
                candidates[info.digest] = info
        found = []
        for info in sorted(candidates.values(), key=_age):
            referrer = self._referrer(info, subject)
            if referrer is not None and artifact_type in (None, referrer.artifact_type):
                found.append(referrer)
        return found

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob with this digest and size exists."""
        info = self._client.content(descriptor.digest)
        return info is not None and info.size == descriptor.size

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def _place(self, digest: Digest) -> str:
        return f"{self._name}: blob {digest}"

    def _pieces(self, descriptor: Descriptor) -> Iterator[bytes]:
        for start in range(0, descriptor.size, _PART_SIZE):
            end = min(start + _PART_SIZE, descriptor.size)
            yield from self._read(descriptor.digest, start, end)

    def _read(self, digest: Digest, start: int, end: int) -> list[bytes]:
        place = self._place(digest)
        try:
            return self._client.read(digest, start, end, place=place)
        except NotFoundError:
            raise self._missing(digest) from None

    def _existing(self, digest: Digest) -> ContentInfo:
        info = self._client.content(digest)
        if info is None:
            raise self._missing(digest)
        return info

    def _missing(self, digest: Digest) -> NotFoundError:
        return NotFoundError(
            f"{self._place(digest)}: not found; its platform was not pulled, or containerd did not"
            " keep the layers",
            hint=_FETCH_ALL,
        )

    def _by_digest(self, digest: Digest) -> Descriptor:
        named = self._client.images(f"target.digest=={digest}")
        if named:
            return self._target(named[0])
        info = self._client.content(digest)
        if info is None:
            raise NotFoundError(f"{self._place(digest)}: not found")
        data = self.manifest(Descriptor("", digest, info.size))
        return Descriptor(sniff_media_type(data), digest, info.size)

    def _target(self, image: Image) -> Descriptor:
        target = image.target
        return Descriptor(target.media_type, Digest.parse(target.digest), target.size)

    def _referrer(self, info: ContentInfo, subject: Digest) -> Descriptor | None:
        """Return the descriptor of a manifest if it refers to `subject`."""
        try:
            digest = Digest.parse(info.digest)
            document, media_type = self._document(Descriptor("", digest, info.size))
        except (FormatError, NotFoundError, UnsupportedError, VerificationError):
            return None  # another program may set the same labels, or have deleted the manifest
        if document.subject is None or document.subject.digest != subject:
            return None
        return Descriptor(
            media_type,
            digest,
            info.size,
            annotations=document.annotations,
            artifact_type=document.kind,
        )

    def _document(self, entry: Descriptor) -> tuple[Manifest | ImageIndex, str]:
        data = self.manifest(entry)
        media_type = sniff_media_type(data)
        return parse_manifest(data, media_type), media_type

    def _no_image(self, name: str) -> NotFoundError:
        """Return the error for a missing image, with where it is or what is similar."""
        elsewhere = [
            namespace
            for namespace in self._client.namespaces()
            if namespace != self._namespace and self._is_in(namespace, name)
        ]
        if elsewhere:
            return NotFoundError(
                f"{self._name}: image {shown(name)} not found, but it is in the namespace "
                f"{_listed(elsewhere)}",
                hint="Write containerd:NAMESPACE/IMAGE, or set CONTAINERD_NAMESPACE.",
            )
        similar = get_close_matches(name, self.tags(), n=_MAX_NAMES_SHOWN)
        near = f" (similar: {_listed(similar)})" if similar else ""
        return NotFoundError(
            f"{self._name}: image {shown(name)} not found{near}",
            hint="List the images of a namespace with ctr --namespace NAMESPACE image ls.",
        )

    def _is_in(self, namespace: str, name: str) -> bool:
        client = Client(self._name, self._address, namespace)
        try:
            return any(client.image(spelling) is not None for spelling in _spellings(name))
        finally:
            client.close()


def _spellings(name: str) -> list[str]:
    """Return a full name, and the names that are short for it."""
    names = [name]
    if name.startswith(_OFFICIAL):
        names.append(name.removeprefix(_OFFICIAL))
    elif name.startswith(_DOCKER_HUB):
        names.append(name.removeprefix(_DOCKER_HUB))
    return names + [short for full in names if (short := full.removesuffix(":latest")) != full]


def _listed(names: list[str]) -> str:
    return ", ".join(shown(name, limit=100) for name in names[:_MAX_NAMES_SHOWN])


def _age(info: ContentInfo) -> tuple[int, int, str]:
    return info.created_at.seconds, info.created_at.nanos, info.digest
