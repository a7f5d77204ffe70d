"""Lists of referrers: the referrers API, or the referrers tag.

Without the API, clients maintain the list in an image index with the tag ``sha256-<hex>``. Most
registries cannot update a tag conditionally, so concurrent clients may overwrite each other's
lists. Therefore the list is read, merged and written, and read again after a wait in which other
clients can finish their writes. If the entry is missing, the client starts over. Registries that
support entity tags refuse the later write instead (``If-Match``); others ignore the header. A
registry with immutable tags refuses the write with the same status, but its list has not changed.

The tag is written unless the registry acknowledges a put with ``OCI-Subject``. A put fails if
readers would not find the entry.

Source: OCI distribution-spec 1.1, "Listing referrers", "Referrers tag schema".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import (
    ConflictError,
    FormatError,
    RegistryError,
    TocsinError,
    UnsupportedError,
)
from tocsin.log import LOG
from tocsin.model.fields import MAX_ENTRIES
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.manifest import ImageIndex, sniff_media_type
from tocsin.model.media_types import INDEXES, OCI_INDEX
from tocsin.quoting import shown
from tocsin.stores.http.status import ACCEPTED, CREATED, NO_CONTENT, NOT_FOUND, OK
from tocsin.stores.http.transport import MAX_TRIES
from tocsin.stores.registry.endpoint import PUSH, PUSH_AGAIN
from tocsin.stores.registry.pages import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.stores.http.answer import Answer
    from tocsin.stores.registry.endpoint import Endpoint

MAX_ROUNDS = 12
"""Maximum attempts to change a list that other clients keep replacing."""

SETTLE_FACTOR = 8.0
"""Wait before the list is read again, as a multiple of the time our own read and write took."""
SHORTEST_SETTLE = 0.1
"""Minimum time to wait before the list is read again, in seconds."""
LONGEST_SETTLE = 2.0
"""Maximum time to wait before the list is read again, in seconds."""

_NO_API = frozenset({400, NOT_FOUND, 405, 406, 410, 501})
"""Statuses of registries without the API; only 404 is specified, the others were observed."""

_PRECONDITION_FAILED = 412
_CONFLICT = 409

_ALLOW_TAGS = (
    "Allow tags sha256-* to be overwritten in this registry, which has no referrers API and stores "
    "lists of referrers as such tags."
)
_CONVERT = (
    "Allow tags sha256-* to be overwritten in this registry, or use tocsin convert: a converted "
    "image contains its indexes and does not need a list of referrers."
)
_CONVERT_ONLY = (
    "Use tocsin convert: a converted image contains its indexes and does not need a list of "
    "referrers."
)

_NO_INDEXES = "Use a registry that has the referrers API, or one that accepts image indexes."
"""Hint for a registry that rejects the document, not the tag."""


class Referrers:
    """The lists of referrers of one repository; may be used by several threads.

    Args:
        endpoint: endpoint of the repository.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._api_fails = False

    def find(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return the manifests that refer to `subject`, in the registry's order.

        Args:
            subject: digest of a manifest.
            artifact_type: artifact type to filter by; ``None`` for any.
            lenient: treat an API that fails as missing, and a list that cannot be read as empty,
                and log a warning. Readers that can work without referrers set this.

        Raises:
            RegistryError, FormatError, ConflictError: the list cannot be read.
        """
        try:
            found = self._from_any_api(subject, artifact_type, lenient=lenient)
            if found is None:
                found = self._from_tag(subject)[0]
        except TocsinError as error:
            if not lenient:
                raise
            self._warn(error)
            found = []
        unique = {descriptor.digest: descriptor for descriptor in reversed(found)}
        return [
            descriptor
            for descriptor in reversed(unique.values())
            if artifact_type in (None, descriptor.artifact_type)
        ]

    def add(self, subject: Digest, referrer: Descriptor, *, acknowledged: bool) -> None:
        """Make sure that `referrer`, which was just put, is listed.

        Args:
            subject: digest of the manifest that it refers to.
            referrer: entry for the list.
            acknowledged: whether the response had ``OCI-Subject``; if not, clients must maintain
                the tag, even if the registry has the API.

        Raises:
            RegistryError: the registry does not support or allow this, or other clients kept
                replacing the list.
            ConflictError: the tag is not a list of referrers.
        """

        def holds(entries: Sequence[Descriptor]) -> bool:
            return any(entry.digest == referrer.digest for entry in entries)

        def change(entries: list[Descriptor]) -> list[Descriptor]:
            return [*(e for e in entries if e.digest != referrer.digest), referrer]

        from_api = self._from_api(subject, None)
        if from_api is None or not acknowledged:
            try:
                self._change_tag(subject, change, holds, hint=_CONVERT)
            except (RegistryError, ConflictError) as error:
                if from_api is None or not holds(from_api):
                    if isinstance(error, RegistryError) and error.code == "MANIFEST_INVALID":
                        error.hint = _NO_INDEXES
                    raise
                return  # the API lists it
        if from_api is not None and not holds(from_api):
            self._wait_for_api(subject, holds)

    def remove(self, subject: Digest, referrer: Digest) -> bool:
        """Remove `referrer`, which will be deleted, from the tag; return whether the tag changed.

        Raises:
            RegistryError: the registry refuses, or other clients kept replacing the list.
            ConflictError: the tag is not a list of referrers.
        """
        try:
            return self._change_tag(
                subject,
                lambda entries: [e for e in entries if e.digest != referrer],
                lambda entries: all(e.digest != referrer for e in entries),
                hint=_ALLOW_TAGS,
            )
        except (RegistryError, ConflictError, FormatError):
            if self._from_api(subject, None) is None:
                raise
            return False  # clients use the API, which the registry maintains

    def _from_any_api(
        self, subject: Digest, artifact_type: str | None, *, lenient: bool
    ) -> list[Descriptor] | None:
        """Return the API's list; ``None`` if the API is missing, or fails and `lenient` is set."""
        if not lenient:
            return self._from_api(subject, artifact_type)
        if self._api_fails:
            return None
        try:
            return self._from_api(subject, artifact_type)
        except TocsinError as error:
            self._warn(error)
            self._api_fails = True
            return None

    def _warn(self, error: TocsinError) -> None:
        if not self._api_fails:  # otherwise the warning has already been logged
            LOG.warning("%s; continuing without indexes that refer to the image", error.message)

    def _from_api(self, subject: Digest, artifact_type: str | None) -> list[Descriptor] | None:
        """Return the list from the API; ``None`` if the registry does not have the API."""
        query = {"artifactType": artifact_type} if artifact_type else None
        found: list[Descriptor] = []
        first = self._endpoint.url("referrers", str(subject), query=query)
        for answer, data in pages(first, self._page):
            if answer.status in _NO_API or answer.media_type not in INDEXES:
                return None
            found += self._entries(f"referrers of {subject}", data)
            self._check_count(subject, len(found))
        return found

    def _entries(self, what: str, data: bytes) -> tuple[Descriptor, ...]:
        try:
            return ImageIndex.from_json(data).manifests or ()
        except (FormatError, UnsupportedError) as error:
            raise FormatError(
                f"{self._endpoint.name}: {what}: {error.message}", what="referrers"
            ) from None

    def _page(self, url: str) -> tuple[Answer, bytes]:
        return self._endpoint.fetch(
            url,
            doing="list referrers",
            expect={OK, *_NO_API},
            limit=MAX_SIZE,
            what="referrers",
            headers={"Accept": OCI_INDEX},
        )

    def _wait_for_api(self, subject: Digest, holds: Callable[[Sequence[Descriptor]], bool]) -> None:
        """Wait until the API lists the new manifest; some registries take a moment."""
        clock = self._endpoint.clock
        for failures in range(1, MAX_TRIES + 1):
            clock.sleep(clock.backoff(failures))
            if holds(self._from_api(subject, None) or ()):
                return
        raise RegistryError(
            f"{self._endpoint.name}: the manifest was stored, but clients will not find it: the "
            f"registry does not list it among the referrers of {subject}",
            hint=_CONVERT_ONLY,
        )

    def _from_tag(self, subject: Digest) -> tuple[list[Descriptor], str | None]:
        """Return the entries and entity tag of the referrers tag; ``[], None`` if it is missing."""
        answer, data = self._endpoint.fetch(
            self._tag_url(subject),
            doing=f"get tag {_tag(subject)}",
            expect={OK, NOT_FOUND},
            limit=MAX_SIZE,
            what="referrers",
            headers={"Accept": OCI_INDEX},
        )
        if answer.status == NOT_FOUND:
            return [], None
        # Some registries serve all manifests as text/plain or JSON, so the document is checked too.
        if answer.media_type not in INDEXES and sniff_media_type(data) not in INDEXES:
            raise ConflictError(
                f"{self._endpoint.name}: tag {_tag(subject)}: not a list of referrers (found media "
                f"type {shown(answer.media_type, limit=80)}, expected an image index)"
            )
        entries = list(self._entries(f"tag {_tag(subject)}", data))
        self._check_count(subject, len(entries))
        return entries, answer.header("ETag")

    def _change_tag(
        self,
        subject: Digest,
        change: Callable[[list[Descriptor]], list[Descriptor]],
        holds: Callable[[Sequence[Descriptor]], bool],
        *,
        hint: str,
    ) -> bool:
        """Change the list of the tag; return ``False`` if no change was needed.

        Args:
            subject: digest of the subject of the list.
            change: returns the new list for an old one.
            holds: returns whether a list needs no change.
            hint: hint for a registry that does not allow the tag to be replaced.
        """
        clock = self._endpoint.clock
        wrote = False
        conditional = True
        refused: tuple[list[Descriptor], str | None] | None = None
        for failures in range(1, MAX_ROUNDS + 1):
            started = clock.monotonic()
            entries, entity_tag = self._from_tag(subject)
            if holds(entries):
                return wrote
            changed = change(entries)
            condition = _condition(entity_tag) if conditional else {}
            refusal = self._write(subject, changed, condition, hint=hint)
            if refusal is None:
                wrote = True
                settle = SETTLE_FACTOR * (clock.monotonic() - started)
                if self._stays(subject, changed, holds, settle):
                    return True
            elif refused != (entries, entity_tag):
                refused = entries, entity_tag  # another client may have written first
            elif condition:
                conditional = False  # nothing has changed, so the condition itself may be refused
            else:
                raise refusal
            clock.sleep(clock.backoff(failures))
        raise RegistryError(
            f"{self._endpoint.name}: tag {_tag(subject)}: other clients replaced the list of "
            f"referrers {MAX_ROUNDS} times",
            temporary=True,
            hint=PUSH_AGAIN,
        )

    def _stays(
        self,
        subject: Digest,
        written: list[Descriptor],
        holds: Callable[[Sequence[Descriptor]], bool],
        settle: float,
    ) -> bool:
        """Return whether the list is still correct after other clients had time to write theirs.

        If the list differs from what was written, other clients are active, and it is read again.
        """
        for _ in range(MAX_ROUNDS):
            self._endpoint.clock.sleep(min(max(SHORTEST_SETTLE, settle), LONGEST_SETTLE))
            entries = self._from_tag(subject)[0]
            if not holds(entries):
                return False
            if entries == written:
                break
            written = entries
        return True

    def _write(
        self, subject: Digest, entries: list[Descriptor], condition: Mapping[str, str], *, hint: str
    ) -> RegistryError | None:
        """Write the list; return the error if the registry refuses because of a conflict.

        Either another client has written first, or the tag is immutable; the status is the same.
        """
        self._check_count(subject, len(entries))
        data = ImageIndex(tuple(entries)).to_json()
        if len(data) > MAX_SIZE:
            raise FormatError(
                f"{self._endpoint.name}: tag {_tag(subject)}: the list of referrers would be too "
                f"large (found {len(data)} bytes, expected at most {MAX_SIZE})",
                what="referrers",
            )
        try:
            self._endpoint.send(
                "PUT",
                self._tag_url(subject),
                doing=f"put the list of referrers as tag {_tag(subject)}",
                expect={OK, CREATED, ACCEPTED, NO_CONTENT},
                actions=PUSH,
                headers={"Content-Type": OCI_INDEX, **condition},
                body=data,
            ).discard()
        except RegistryError as error:
            if error.status is None or error.temporary:
                raise
            error.hint = hint  # a manifest has just been put, so pushing is allowed
            if error.status not in (_CONFLICT, _PRECONDITION_FAILED):
                raise
            return error
        return None

    def _tag_url(self, subject: Digest) -> str:
        return self._endpoint.url("manifests", _tag(subject))

    def _check_count(self, subject: Digest, count: int) -> None:
        if count > MAX_ENTRIES:
            raise FormatError(
                f"{self._endpoint.name}: {subject}: more than {MAX_ENTRIES} referrers",
                what="referrers",
            )


def _condition(entity_tag: str | None) -> dict[str, str]:
    """Return the header that makes a write fail if the list has changed since it was read."""
    if entity_tag is None:
        return {"If-None-Match": "*"}
    return {"If-Match": entity_tag} if entity_tag else {}


def _tag(subject: Digest) -> str:
    return f"{subject.algorithm}-{subject.hex}"
