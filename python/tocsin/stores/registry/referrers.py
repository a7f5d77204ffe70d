"""What refers to a manifest: the referrers API, or the tag that stands in for it.

Without the API, clients keep the list themselves, in an image index at the tag ``sha256-<hex>``.
Registries offer no way to change a tag only if nobody else did, so it is read, merged, written,
and, after every other writer who had read the old list must have written, read again; who finds its
entry gone starts over. Where the registry gives and honours entity tags, it refuses the write of
the later one instead (``If-Match``); others ignore the header.

Source: OCI distribution-spec 1.1, "Listing referrers", "Referrers tag schema".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import ConflictError, FormatError, RegistryError
from tocsin.model.fields import MAX_ENTRIES
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import INDEXES, OCI_INDEX
from tocsin.quoting import shown
from tocsin.stores.http.status import ACCEPTED, CREATED, NO_CONTENT, NOT_FOUND, OK
from tocsin.stores.registry.endpoint import PUSH, PUSH_AGAIN
from tocsin.stores.registry.pages import pages

if TYPE_CHECKING:
    from collections.abc import Callable

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

_NO_API = frozenset({400, NOT_FOUND, 405, 501})
_PRECONDITION_FAILED = 412
_CONFLICT = 409


class Referrers:
    """The lists of one repository.

    Args:
        endpoint: of the repository.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def find(self, subject: Digest, artifact_type: str | None = None) -> list[Descriptor]:
        """Return what refers to `subject`, in the registry's order."""
        found = self._from_api(subject, artifact_type)
        if found is None:
            found = self._from_tag(subject)[0]
        unique = {descriptor.digest: descriptor for descriptor in reversed(found)}
        return [
            descriptor
            for descriptor in reversed(unique.values())
            if artifact_type in (None, descriptor.artifact_type)
        ]

    def add(self, subject: Digest, referrer: Descriptor) -> None:
        """See to it that `referrer`, which was just put, is listed.

        Raises:
            RegistryError: other writers kept replacing the list.
        """
        if self._from_api(subject, None) is None:
            self._change_tag(
                subject,
                lambda entries: [*(e for e in entries if e.digest != referrer.digest), referrer],
                lambda entries: any(e.digest == referrer.digest for e in entries),
            )

    def remove(self, subject: Digest, referrer: Digest) -> None:
        """See to it that `referrer`, which was just deleted, is no longer listed.

        Raises:
            RegistryError: other writers kept replacing the list.
        """
        if self._from_api(subject, None) is None:
            self._change_tag(
                subject,
                lambda entries: [e for e in entries if e.digest != referrer],
                lambda entries: all(e.digest != referrer for e in entries),
            )

    def _from_api(self, subject: Digest, artifact_type: str | None) -> list[Descriptor] | None:
        """Return what the API lists, ``None`` when the registry has none."""
        query = {"artifactType": artifact_type} if artifact_type else None
        found: list[Descriptor] = []
        first = self._endpoint.url("referrers", str(subject), query=query)
        for answer, data in pages(first, self._page):
            if answer.status in _NO_API or answer.media_type not in INDEXES:
                return None
            found += ImageIndex.from_json(data).manifests or ()
            self._check_count(subject, len(found))
        return found

    def _page(self, url: str) -> tuple[Answer, bytes]:
        return self._endpoint.fetch(
            url,
            doing="list referrers",
            expect={OK, *_NO_API},
            limit=MAX_SIZE,
            what="referrers",
            headers={"Accept": OCI_INDEX},
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
        if answer.media_type not in INDEXES:
            raise ConflictError(
                f"{self._endpoint.name}: tag {_tag(subject)} is no list of referrers, it has media "
                f"type {shown(answer.media_type, limit=80)}"
            )
        entries = list(ImageIndex.from_json(data).manifests or ())
        self._check_count(subject, len(entries))
        return entries, answer.header("ETag")

    def _change_tag(
        self,
        subject: Digest,
        change: Callable[[list[Descriptor]], list[Descriptor]],
        holds: Callable[[list[Descriptor]], bool],
    ) -> None:
        clock = self._endpoint.clock
        for failures in range(1, MAX_ROUNDS + 1):
            begun = clock.monotonic()
            entries, entity_tag = self._from_tag(subject)
            if holds(entries):
                return
            wanted = change(entries)
            if self._write(subject, wanted, entity_tag):
                settle = SETTLE_FACTOR * (clock.monotonic() - begun)
                if self._stays(subject, wanted, holds, settle):
                    return
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
        holds: Callable[[list[Descriptor]], bool],
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

    def _write(self, subject: Digest, entries: list[Descriptor], entity_tag: str | None) -> bool:
        """Write the list; ``False`` when the registry saw that another writer came first."""
        self._check_count(subject, len(entries))
        data = ImageIndex(tuple(entries)).to_json()
        if len(data) > MAX_SIZE:
            raise FormatError(
                f"{self._endpoint.name}: tag {_tag(subject)}: the list of referrers would have "
                f"{len(data)} bytes, at most {MAX_SIZE} allowed",
                what="referrers",
            )
        condition = {"If-None-Match": "*"} if entity_tag is None else {"If-Match": entity_tag}
        answer = self._endpoint.send(
            "PUT",
            self._tag_url(subject),
            doing=f"put tag {_tag(subject)}",
            expect={OK, CREATED, ACCEPTED, NO_CONTENT, _CONFLICT, _PRECONDITION_FAILED},
            actions=PUSH,
            headers={
                "Content-Type": OCI_INDEX,
                **{name: value for name, value in condition.items() if value},
            },
            body=data,
        )
        answer.discard()
        return answer.status not in (_CONFLICT, _PRECONDITION_FAILED)

    def _tag_url(self, subject: Digest) -> str:
        return self._endpoint.url("manifests", _tag(subject))

    def _check_count(self, subject: Digest, count: int) -> None:
        if count > MAX_ENTRIES:
            raise FormatError(
                f"{self._endpoint.name}: {subject}: has more than {MAX_ENTRIES} referrers",
                what="referrers",
            )


def _tag(subject: Digest) -> str:
    return f"{subject.algorithm}-{subject.hex}"
