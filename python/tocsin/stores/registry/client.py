"""`RegistryStore`: one repository of a registry, as a source and a sink.

`push` uploads blobs; `referrers` reads and writes lists of referrers.

Source: OCI distribution-spec 1.1, "Endpoints"; distribution/distribution, docs/content/spec/api.md.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError, NotFoundError, RegistryError, UnsupportedError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.manifest import parse_manifest, sniff_media_type
from tocsin.model.media_types import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
    SCHEMA1_MANIFESTS,
)
from tocsin.quoting import shown
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.file_store import manifest_descriptor
from tocsin.stores.http.download import Download
from tocsin.stores.http.refusal import Refusal
from tocsin.stores.http.status import (
    ACCEPTED,
    CREATED,
    FORBIDDEN,
    NO_CONTENT,
    NOT_FOUND,
    OK,
    UNSUPPORTED_MEDIA_TYPE,
)
from tocsin.stores.origins import RepositoryOrigin
from tocsin.stores.registry.endpoint import DELETE, PUSH
from tocsin.stores.registry.names import Names
from tocsin.stores.registry.pages import pages
from tocsin.stores.registry.push import BlobPush
from tocsin.stores.registry.referrers import Referrers
from tocsin.stores.registry.upload_session import UploadSession
from tocsin.stores.verification import check, digest_error, verified

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from types import TracebackType

    from tocsin.stores.http.answer import Answer
    from tocsin.stores.origins import BlobOrigin
    from tocsin.stores.registry.endpoint import Endpoint

ACCEPT = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))
MAX_TAGS = 1_000_000
_PAGE_SIZE = "1000"
_BAD_REQUEST = 400
_MAX_DIGEST_RETRIES = 4
"""Maximum retries after DIGEST_INVALID; see `RegistryStore._put_manifest`."""
_UNLISTED = (
    "Check that deletion is enabled in this registry. The manifest was removed from the list of "
    "referrers, so clients no longer find it."
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class RegistryStore:
    """One repository of a registry; see `Sink` for the contract of each method.

    Args:
        endpoint: endpoint of the repository; `close` closes it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._push = BlobPush(endpoint)
        self._referrers = Referrers(endpoint)
        self._kept_manifest: tuple[Digest, bytes] | None = None
        """The manifest that was resolved last, which is usually read next, sometimes twice."""

    @property
    def name(self) -> str:
        """Name in messages."""
        return self._endpoint.name

    @property
    def origin(self) -> RepositoryOrigin:
        """The registry and the repository."""
        return RepositoryOrigin(self._endpoint.origin, self._endpoint.repository)

    def resolve(self, selector: str | Digest | None, *, will_read: bool = False) -> Descriptor:
        """Return the descriptor of the image that `selector` names.

        Sends HEAD, which some registries do not count towards rate limits. If HEAD is refused for
        any reason, or its response is incomplete, the manifest is read. If the manifest will be
        read anyway, HEAD would only be another round trip.
        """
        if selector is None:
            selector = self._only_tag()
        if will_read:
            return self._resolve_by_reading(selector, keep=True)
        url = self._endpoint.url("manifests", str(selector))
        answer = self._endpoint.attempt("HEAD", url, expect={OK}, headers={"Accept": ACCEPT})
        if answer is None:
            return self._resolve_by_reading(selector)
        answer.discard()
        digest = self._named_digest(answer, selector)
        size = None if answer.is_encoded else answer.content_length
        if digest is None or not size or not _is_manifest(answer.media_type):
            return self._resolve_by_reading(selector)
        return Descriptor(answer.media_type, digest, size)

    def _absent(self, selector: str | Digest, reason: str) -> NotFoundError:
        message = f"{self._endpoint.name}: {_what(selector)}: not found: {reason}"
        if isinstance(selector, str):
            return NotFoundError(
                message, hint=f"List the tags with skopeo list-tags {self._endpoint.name}."
            )
        return NotFoundError(message)

    def tags(self) -> list[str]:
        """Return all tags, sorted; empty if the repository does not exist yet."""
        found = Names(self.name, "tags", "tags", "tag", _TAG, MAX_TAGS)
        for answer, data in self._tag_pages():
            if answer.status == NOT_FOUND:
                break
            found.add(data)
        return found.sorted()

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or image index, verified."""
        place = self._endpoint.place("manifest", descriptor.digest)
        if descriptor.size > MAX_SIZE:
            raise FormatError(
                f"{place}: too large (found {descriptor.size} bytes, expected at most {MAX_SIZE})",
                what="manifest",
            )
        kept = self._kept_manifest
        if kept is not None and kept[0] == descriptor.digest:
            return check(kept[1], place=place, digest=descriptor.digest, size=descriptor.size)
        data = self._read_manifest(descriptor.digest, descriptor.media_type)[0]
        return check(data, place=place, digest=descriptor.digest, size=descriptor.size)

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob, verified; a lost connection is resumed."""
        place = self._endpoint.place("blob", descriptor.digest)
        if descriptor.size == 0 and not self.has_blob(descriptor):
            raise self._endpoint.missing(f"blob {descriptor.digest}")
        with closing(self._download(descriptor, 0, descriptor.size)) as pieces:
            yield from verified(
                pieces,
                place=place,
                digest=descriptor.digest if verify else None,
                size=descriptor.size,
            )

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a blob, unverified."""
        if not 0 <= start <= end <= descriptor.size:
            raise ValueError(
                f"{self._endpoint.place('blob', descriptor.digest)}: range [{start}, {end}) is out "
                f"of bounds (the blob has {descriptor.size} bytes)"
            )
        return b"".join(self._download(descriptor, start, end))

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob or manifest with this digest and size exists."""
        accept = {"Accept": ACCEPT} if _is_manifest(descriptor.media_type) else {}
        return self._endpoint.has(self._blob_url(descriptor), descriptor.size, accept)

    def referrers(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return the manifests that refer to `subject`, in the registry's order."""
        return self._referrers.find(subject, artifact_type, lenient=lenient)

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Upload a blob unless it exists.

        If the registry loses an upload or refuses its method, the upload is repeated, unless
        `source` can be read only once.
        """
        return Descriptor(media_type, *self._push.put(source, digest, size))

    def put_new_blob(self, data: bytes, *, media_type: str = OCTET_STREAM) -> Descriptor:
        """Upload a blob that is probably missing, without asking whether it exists."""
        return Descriptor(media_type, *self._push.put(data, None, None, is_new=True))

    def take_over(self, descriptor: Descriptor, origin: BlobOrigin) -> TakenOver | MustStream:
        """Mount a blob from another repository; after a refusal, no more mounts are requested."""
        if not self.origin.takes_from(origin) or not self._push.may_mount(origin.repository):
            return MustStream()
        if origin.repository == self._endpoint.repository:
            mounted = self.has_blob(descriptor)
        else:
            mounted = self._push.mount(descriptor, origin.repository)
        return TakenOver() if mounted else MustStream()

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Store a manifest or image index, and list it as a referrer if it has a subject."""
        descriptor, refers = manifest_descriptor(data, media_type, place=self.name)
        answer = self._put_manifest(data, descriptor, tag)
        answer.discard()
        if refers:
            document = parse_manifest(data, media_type)
            assert document.subject is not None  # noqa: S101 (since `refers` is true)
            subject = document.subject.digest
            entry = replace(descriptor, annotations=document.annotations)
            acknowledged = answer.header("OCI-Subject").strip() == str(subject)
            self._referrers.add(subject, entry, acknowledged=acknowledged)
        return descriptor

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Tag a stored manifest, moving the tag if it exists."""
        data = self.manifest(descriptor)
        self._put_manifest(data, descriptor, tag).discard()

    def delete(self, descriptor: Descriptor) -> None:
        """Remove a manifest and all its tags, but not its children.

        It is removed from the list of referrers first, so that lists never name missing manifests.

        Raises:
            NotFoundError: the manifest does not exist.
            RegistryError: the registry does not support or allow this.
        """
        document = parse_manifest(self.manifest(descriptor), descriptor.media_type)
        subject, digest = document.subject, descriptor.digest
        unlisted = subject is not None and self._referrers.remove(subject.digest, digest)
        try:
            self._delete(self._endpoint.url("manifests", str(digest)), f"manifest {digest}")
        except RegistryError as error:
            if unlisted and not error.temporary:
                error.hint = _UNLISTED
            raise

    def delete_tag(self, tag: str) -> None:
        """Remove a tag, but not its manifest.

        Raises:
            NotFoundError: the tag does not exist.
            RegistryError: the registry does not support or allow this.
        """
        self._delete(self._endpoint.url("manifests", tag), f"tag {tag}")

    def delete_blob(self, descriptor: Descriptor) -> None:
        """Remove a blob from the repository.

        Raises:
            NotFoundError: the blob does not exist.
            RegistryError: the registry does not support or allow this.
        """
        digest = descriptor.digest
        self._delete(self._endpoint.url("blobs", str(digest)), f"blob {digest}")

    def check_push(self) -> None:
        """Start an upload and cancel it, to find out whether pushing is allowed.

        Raises:
            RegistryError: it is not; `AuthError` if permission is missing.
        """
        UploadSession.start(self._endpoint).cancel()

    def commit(self) -> None:
        """Do nothing: writes are visible at once."""

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RegistryStore {self.name}>"

    def _only_tag(self) -> str:
        tags = self.tags()
        if len(tags) == 1:
            return tags[0]
        raise NotFoundError(
            f"{self.name}: contains {len(tags)} tags, but no tag or digest was given",
            hint="Add a tag or digest to the reference.",
        )

    def _tag_pages(self) -> Iterator[tuple[Answer, bytes]]:
        try:
            yield from pages(self._tags_url({"n": _PAGE_SIZE}), self._tag_page)
        except RegistryError as error:
            if error.status != _BAD_REQUEST:
                raise
            # The registry refuses the page size. Tags that were already read are not duplicated.
            yield from pages(self._tags_url(None), self._tag_page)

    def _tags_url(self, query: dict[str, str] | None) -> str:
        return self._endpoint.url("tags", "list", query=query)

    def _tag_page(self, url: str) -> tuple[Answer, bytes]:
        return self._endpoint.fetch(
            url, doing="list tags", expect={OK, NOT_FOUND}, limit=MAX_SIZE, what="tags"
        )

    def _named_digest(self, answer: Answer, selector: str | Digest) -> Digest | None:
        """Return the digest of a manifest according to a response; ``None`` if it is unknown.

        Raises:
            VerificationError: it is not the requested digest.
        """
        text = answer.header("Docker-Content-Digest")
        try:
            digest = Digest.parse(text)
        except (FormatError, UnsupportedError):
            return selector if isinstance(selector, Digest) and not text else None
        if isinstance(selector, Digest) and digest != selector:
            raise digest_error(f"{self.name}: {_what(selector)}", expected=selector, actual=digest)
        return digest

    def _resolve_by_reading(self, selector: str | Digest, *, keep: bool = False) -> Descriptor:
        data, media_type, named = self._read_manifest(selector)
        expected = selector if isinstance(selector, Digest) else named
        digest = Digest.of(data)
        if expected is not None and digest != expected:
            raise digest_error(f"{self.name}: {_what(selector)}", expected=expected, actual=digest)
        if not _is_manifest(media_type):
            media_type = sniff_media_type(data)
        if keep:
            self._kept_manifest = (digest, data)
        return Descriptor(media_type, digest, len(data))

    def _read_manifest(
        self, selector: str | Digest, media_type: str = ""
    ) -> tuple[bytes, str, Digest | None]:
        """Return an unverified manifest, and the media type and digest in the response."""
        known = not media_type or media_type in MANIFESTS | INDEXES
        answer, data = self._endpoint.fetch(
            self._endpoint.url("manifests", str(selector)),
            doing=f"get {_what(selector)}",
            expect={OK, NOT_FOUND},
            limit=MAX_SIZE,
            what="manifest",
            headers={"Accept": ACCEPT if known else f"{media_type}, {ACCEPT}"},
        )
        if answer.status == NOT_FOUND:
            raise self._absent(selector, Refusal(answer, data).text)
        return data, answer.media_type, self._named_digest(answer, selector)

    def _download(
        self, descriptor: Descriptor, start: int, end: int
    ) -> Generator[bytes, None, None]:
        yield from Download(
            self._endpoint,
            self._blob_url(descriptor),
            what=f"blob {descriptor.digest}",
            place=self._endpoint.place("blob", descriptor.digest),
            size=descriptor.size,
            start=start,
            end=end,
        )

    def _blob_url(self, descriptor: Descriptor) -> str:
        kind = "manifests" if _is_manifest(descriptor.media_type) else "blobs"
        return self._endpoint.url(kind, str(descriptor.digest))

    def _put_manifest(self, data: bytes, descriptor: Descriptor, tag: str | None) -> Answer:
        """Put a manifest; the request is repeated if the registry responds with DIGEST_INVALID.

        docker-registry does so for valid digests if another client is storing a blob that the
        manifest lists: it reads the link of the blob before the link is written.
        """
        for failures in range(1, _MAX_DIGEST_RETRIES + 1):
            try:
                return self._put_manifest_once(data, descriptor, tag)
            except RegistryError as error:
                if error.code != "DIGEST_INVALID":
                    error.hint = _hint_for(error, descriptor)
                    raise
            self._endpoint.clock.sleep(self._endpoint.clock.backoff(failures))
        return self._put_manifest_once(data, descriptor, tag)

    def _put_manifest_once(self, data: bytes, descriptor: Descriptor, tag: str | None) -> Answer:
        digest = descriptor.digest
        answer = self._endpoint.send(
            "PUT",
            self._endpoint.url("manifests", tag or str(digest)),
            doing=f"put manifest {digest}{f' as tag {tag}' if tag else ''} ({_kind(descriptor)})",
            expect={OK, CREATED, ACCEPTED, NO_CONTENT},
            actions=PUSH,
            headers={"Content-Type": descriptor.media_type},
            body=data,
            hint=_manifest_hint(descriptor),
        )
        self._named_digest(answer, digest)
        return answer

    def _delete(self, url: str, what: str) -> None:
        answer = self._endpoint.send(
            "DELETE",
            url,
            doing=f"delete {what}",
            expect={OK, ACCEPTED, NO_CONTENT, NOT_FOUND},
            actions=DELETE,
            hint="Check that deletion is enabled in this registry.",
        )
        answer.discard()
        if answer.status == NOT_FOUND:
            raise self._endpoint.missing(what)


def _hint_for(error: RegistryError, descriptor: Descriptor) -> str | None:
    """Return a hint that fits the reason why a registry rejected a manifest."""
    if error.status == FORBIDDEN:
        # The login is rarely the cause: usually, the blobs have already been pushed.
        kind = "the type of this artifact" if descriptor.artifact_type else "this kind of manifest"
        return f"Check that this registry allows {kind}, and that your login may push there."
    if error.status == UNSUPPORTED_MEDIA_TYPE and not descriptor.artifact_type:
        return "Use a registry that accepts manifests of this media type."
    if descriptor.artifact_type and error.hint is not None and not error.temporary:
        return f"{error.hint} If the registry does not accept artifacts, use tocsin convert."
    return error.hint


def _what(selector: str | Digest) -> str:
    return f"manifest {selector}" if isinstance(selector, Digest) else f"tag {selector}"


def _kind(descriptor: Descriptor) -> str:
    if descriptor.artifact_type:
        return f"artifact of type {shown(descriptor.artifact_type)}"
    return shown(descriptor.media_type)


def _manifest_hint(descriptor: Descriptor) -> str:
    kind = "artifacts" if descriptor.artifact_type else "manifests"
    return (
        f"Check that this registry accepts such {kind}, and that every blob and manifest listed "
        "in this one exists there."
    )


def _is_manifest(media_type: str) -> bool:
    return media_type in MANIFESTS | INDEXES | SCHEMA1_MANIFESTS
