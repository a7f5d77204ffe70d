"""Finds the access logs that refer to an image.

A log is a hint, so that anyone who may push to the repository may provide it, also for an image
that is given by digest. The newest log that can be read is used.

Source: docs/access-log.md#beside-an-image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.access_log import MAX_SIZE
from tocsin.model.access_log_manifest import ACCESS_LOG, CREATED, AccessLogManifest, decompress
from tocsin.model.digest import Digest
from tocsin.stores.base import read_blob

if TYPE_CHECKING:
    from tocsin.errors import TocsinError
    from tocsin.model.access_log import AccessLog
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document
    from tocsin.stores.base import Source

PROBLEMS = (FormatError, NotFoundError, UnsupportedError, VerificationError)
"""Errors that affect only one log and not the others."""
MAX_TRIED = 4
"""Maximum number of logs that are read to find one that can be used."""


@dataclass(frozen=True, slots=True)
class FoundAccessLog:
    """An access log that refers to an image.

    Attributes:
        descriptor: descriptor of its manifest.
        blob: descriptor of the compressed log, often with its bytes; ``None`` if it is unusable.
        created: time of the push, as written in the manifest; empty if it is missing.
        error: why it cannot be used.
        taken: whether mounts use it by default, which is ``--access-log auto``.
        reason: why it is used or not; empty if this was not determined.
    """

    descriptor: Descriptor
    blob: Descriptor | None = None
    created: str = ""
    error: TocsinError | None = field(default=None, compare=False)
    taken: bool = False
    reason: str = ""

    @property
    def digest(self) -> Digest:
        """Digest of its manifest."""
        return self.descriptor.digest

    @property
    def size(self) -> int:
        """Compressed size of the log in bytes; 0 if it cannot be used."""
        return 0 if self.blob is None else self.blob.size

    @property
    def problem(self) -> str | None:
        """Why the log cannot be used, as text."""
        return None if self.error is None else self.error.message

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for an access log."""
        return {
            "digest": str(self.digest),
            "media_type": self.descriptor.media_type,
            "manifest_size": self.descriptor.size,
            "size": self.size,
            "created": self.created or None,
            "problem": self.problem,
            "taken": self.taken,
            "reason": self.reason,
        }


def referring_access_logs(
    store: Source, subject: Digest, *, lenient: bool = False
) -> list[Descriptor]:
    """Return the access logs that refer to a manifest, the newest first, without reading them.

    A registry may omit the annotations that say which is the newest.

    Args:
        store: store with the logs.
        subject: digest of the manifest.
        lenient: as in `Source.referrers`.
    """
    found = store.referrers(subject, ACCESS_LOG, lenient=lenient)
    return sorted(found, key=lambda each: each.annotations.get(CREATED, ""), reverse=True)


def access_logs_of(store: Source, subject: Digest) -> tuple[FoundAccessLog, ...]:
    """Return the access logs of an image, in the order in which mounts try them.

    Only their manifests are read, so that a damaged log may be reported as used.

    Args:
        store: store with the logs.
        subject: digest of the image's manifest.
    """
    judged: list[FoundAccessLog] = []
    for found in _load_all(store, referring_access_logs(store, subject, lenient=True)):
        if found.error is not None:
            judged.append(replace(found, reason="it cannot be used"))
        elif any(before.taken for before in judged):
            judged.append(replace(found, reason="another access log is newer"))
        else:
            judged.append(replace(found, taken=True, reason="it refers to the image"))
    return tuple(judged)


def newest_access_log(store: Source, subject: Digest) -> tuple[Digest, AccessLog] | None:
    """Return the access log that a mount uses, with the digest of its manifest.

    Args:
        store: store with the logs.
        subject: digest of the image's manifest.

    Raises:
        RegistryError, OSError: the store cannot be read.
    """
    referrers = referring_access_logs(store, subject, lenient=True)[:MAX_TRIED]
    for found in _load_all(store, referrers):
        try:
            log = read_access_log(store, found)
        except PROBLEMS:
            continue
        return found.digest, log
    return None


def read_access_log(store: Source, found: FoundAccessLog) -> AccessLog:
    """Return the log itself.

    Raises:
        FormatError, NotFoundError, UnsupportedError, VerificationError: it cannot be used.
    """
    blob = found.blob
    if blob is None:
        assert found.error is not None  # noqa: S101 (one of the two is known)
        raise found.error
    if len(blob.data) == blob.size and Digest.of(blob.data) == blob.digest:
        return decompress(blob.data)
    return decompress(read_blob(store, blob, max_size=MAX_SIZE))


def load_access_log(store: Source, descriptor: Descriptor) -> FoundAccessLog:
    """Return the access log with a descriptor, or why it cannot be used."""
    try:
        manifest = AccessLogManifest.from_json(store.manifest(descriptor))
    except PROBLEMS as error:
        return FoundAccessLog(descriptor, error=error)
    return FoundAccessLog(descriptor, manifest.blob, manifest.created)


def _load_all(store: Source, descriptors: list[Descriptor]) -> list[FoundAccessLog]:
    """Return logs, the newest first; times of one format sort as text."""
    found = [load_access_log(store, descriptor) for descriptor in descriptors]
    return sorted(found, key=lambda each: each.created, reverse=True)
