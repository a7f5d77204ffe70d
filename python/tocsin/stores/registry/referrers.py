"""What refers to a manifest: the referrers API, or the tag that stands in for it.

Without the API, clients keep the list themselves, in an image index at the tag ``sha256-<hex>``.
Registries offer no way to change a tag only if nobody else did, so it is read, merged, written,
and, after every other writer who had read the old list must have written, read again; who finds its
entry gone starts over. Where the registry gives and honours entity tags, it refuses the write of
the later one instead (``If-Match``); others ignore the header. A registry whose tags cannot be
replaced refuses with the same status; there the list is the same after the refusal as before.

The tag is kept where the registry does not answer a put with ``OCI-Subject``; whatever is put is
looked for where readers look, and an error if it is not found.

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
"""Times a writer starts over before it says that others keep replacing the list."""

SHORTEST_SETTLE = 0.1
LONGEST_SETTLE = 2.0
SETTLE_FACTOR = 8.0
"""Seconds to wait before reading again: so many times what our own read and write took."""

_NO_API = frozenset({400, NOT_FOUND, 405, 406, 410, 501})
"""What registries without the API answer; all but 404 were seen, not specified."""

_PRECONDITION_FAILED = 412
_CONFLICT = 409

_ALLOW_TAGS = (
    "Allow tags sha256-* to be overwritten in this registry, which has no referrers API and keeps "
    "the list of referrers there."
)
_CONVERT = (
    "Make an image with its indexes inside, which needs no list of referrers, with tocsin convert, "
    "or allow tags sha256-* to be overwritten in this registry."
)
_CONVERT_ONLY = (
    "Make an image with its indexes inside, which needs no list of referrers, with tocsin convert."
)

_NO_INDEXES = "Use a registry that has the referrers API, or one that accepts image indexes."
"""Hint for a registry that rejects the document, not the tag."""


class Referrers:
    """The lists of one repository; may be used by several threads.

    Args:
        endpoint: of the repository.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._api_fails = False

    def find(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return what refers to `subject`, in the registry's order.

        Args:
            subject: a manifest.
            artifact_type: of those wanted; ``None`` for any.
            lenient: for readers, who can do without. An API that fails is like none; a list that
                cannot be had is empty, with a warning in the log.

        Raises:
            RegistryError, FormatError, ConflictError: no list can be had.
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
            subject: it refers to this manifest.
            referrer: as the list is to have it.
            acknowledged: whether the registry answered with ``OCI-Subject``. Without that, clients
                must keep the tag, even if there is an API.

        Raises:
            RegistryError: it is not listed, because the registry does not do this or other writers
                kept replacing the list.
            ConflictError: the tag is used for something else.
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
                return  # the API lists it all the same
        if from_api is not None and not holds(from_api):
            self._wait_for_api(subject, holds)

    def remove(self, subject: Digest, referrer: Digest) -> bool:
        """Take `referrer`, which is about to be deleted, off the tag; ``False`` if it is not on it.

        Raises:
            RegistryError: the registry refuses, or other writers kept replacing the list.
            ConflictError: the tag is used for something else.
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
            return False  # the API is what counts, and it needs no help

    def _from_any_api(
        self, subject: Digest, artifact_type: str | None, *, lenient: bool
    ) -> list[Descriptor] | None:
        """Return what the API lists; ``None`` when there is none, or it failed a lenient caller."""
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
        if not self._api_fails:  # or it was said already
            LOG.warning("%s; going on without indexes that refer to the image", error.message)

    def _from_api(self, subject: Digest, artifact_type: str | None) -> list[Descriptor] | None:
        """Return what the API lists, ``None`` when the registry has none."""
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
        """Return once the API lists what was put; some registries do so a little later."""
        clock = self._endpoint.clock
        for failures in range(1, MAX_TRIES + 1):
            clock.sleep(clock.backoff(failures))
            if holds(self._from_api(subject, None) or ()):
                return
        raise RegistryError(
            f"{self._endpoint.name}: the manifest was stored, but the registry does not list it "
            f"among the referrers of {subject}, so nobody would find it",
            hint=_CONVERT_ONLY,
        )

    def _from_tag(self, subject: Digest) -> tuple[list[Descriptor], str | None]:
        """Return the entries at the tag, and its entity tag; none and ``None`` if there is none."""
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
        # Some registries serve every manifest as text/plain or JSON; then the document tells.
        if answer.media_type not in INDEXES and sniff_media_type(data) not in INDEXES:
            raise ConflictError(
                f"{self._endpoint.name}: tag {_tag(subject)} is no list of referrers, it has media "
                f"type {shown(answer.media_type, limit=80)}"
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
        """Change the list at the tag; ``False`` if it was right already.

        Args:
            subject: whose list.
            change: makes the new list of the old one.
            holds: tells whether a list is right.
            hint: what to do when the registry does not let the tag be replaced.
        """
        clock = self._endpoint.clock
        wrote = False
        conditional = True
        refused: tuple[list[Descriptor], str | None] | None = None
        for failures in range(1, MAX_ROUNDS + 1):
            begun = clock.monotonic()
            entries, entity_tag = self._from_tag(subject)
            if holds(entries):
                return wrote
            wanted = change(entries)
            condition = _condition(entity_tag) if conditional else {}
            refusal = self._write(subject, wanted, condition, hint=hint)
            if refusal is None:
                wrote = True
                settle = SETTLE_FACTOR * (clock.monotonic() - begun)
                if self._stays(subject, wanted, holds, settle):
                    return True
            elif refused != (entries, entity_tag):
                refused = entries, entity_tag  # perhaps another writer came first
            elif condition:
                conditional = (
                    False  # nobody else wrote; perhaps it is the condition that is refused
                )
            else:
                raise refusal
            clock.sleep(clock.backoff(failures))
        raise RegistryError(
            f"{self._endpoint.name}: tag {_tag(subject)}: others kept replacing the list of "
            f"referrers, {MAX_ROUNDS} times",
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
        """Return whether the list is still right after others had time to write theirs.

        A list that is no longer quite what we wrote shows that others are at work; then one look
        is not enough.
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
        """Write the list; return the refusal of a registry that says another writer came first.

        So it may be, or the tag is immutable: the status is the same.
        """
        self._check_count(subject, len(entries))
        data = ImageIndex(tuple(entries)).to_json()
        if len(data) > MAX_SIZE:
            raise FormatError(
                f"{self._endpoint.name}: tag {_tag(subject)}: the list of referrers would have "
                f"{len(data)} bytes, at most {MAX_SIZE} allowed",
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
            error.hint = hint  # whoever gets here has just put a manifest, so may push
            if error.status not in (_CONFLICT, _PRECONDITION_FAILED):
                raise
            return error
        return None

    def _tag_url(self, subject: Digest) -> str:
        return self._endpoint.url("manifests", _tag(subject))

    def _check_count(self, subject: Digest, count: int) -> None:
        if count > MAX_ENTRIES:
            raise FormatError(
                f"{self._endpoint.name}: {subject}: has more than {MAX_ENTRIES} referrers",
                what="referrers",
            )


def _condition(entity_tag: str | None) -> dict[str, str]:
    """Return the header that makes a write fail when another one came since the list was read."""
    if entity_tag is None:
        return {"If-None-Match": "*"}
    return {"If-Match": entity_tag} if entity_tag else {}


def _tag(subject: Digest) -> str:
    return f"{subject.algorithm}-{subject.hex}"
