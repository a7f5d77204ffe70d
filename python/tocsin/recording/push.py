"""``push_access_log``: stores an access log beside its image, where mounts find it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError, RegistryError, UnsupportedError
from tocsin.images.access_logs import PROBLEMS, load_access_log, read_access_log
from tocsin.images.access_logs import referring_access_logs as referring
from tocsin.images.selection import platform_images, platforms_shown, resolve_image
from tocsin.log import LOG
from tocsin.model.access_log import AccessLog
from tocsin.model.access_log_manifest import EMPTY, blob_descriptor, compress, manifest_of
from tocsin.model.digest import Digest
from tocsin.model.document import text_of
from tocsin.model.media_types import OCI_EMPTY, OCI_MANIFEST
from tocsin.model.platform import platform_of
from tocsin.stores.opening import open_sink
from tocsin.stores.places import reference_of

if TYPE_CHECKING:
    from tocsin.images.access_logs import FoundAccessLog
    from tocsin.images.selection import PlatformImage
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document
    from tocsin.model.platform import Platform
    from tocsin.model.reference import ReferenceLike
    from tocsin.stores.base import Sink
    from tocsin.stores.registry import RegistryOptions


@dataclass(frozen=True, slots=True)
class PushedAccessLog:
    """An access log that was stored beside its image.

    Attributes:
        image: reference of the image.
        subject: the image's manifest, to which the log refers.
        platform: platform of the image; ``None`` if unknown.
        manifest: manifest of the log.
        blob: the log, compressed.
        log: the log itself, with what earlier ones listed.
        removed: manifests of earlier logs that were removed.
        kept: manifests of earlier logs that the store does not let remove; mounts use the newest.
        unchanged: whether the image had the same log before, so that nothing was written.
    """

    image: str
    subject: Descriptor
    platform: Platform | None
    manifest: Descriptor
    blob: Descriptor
    log: AccessLog
    removed: tuple[Descriptor, ...] = ()
    kept: tuple[Descriptor, ...] = ()
    unchanged: bool = False

    def to_dict(self) -> Document:
        """Return what ``tocsin record --push --json`` prints for it."""
        return {
            "image": self.image,
            "subject": self.subject.to_dict(),
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "size": self.blob.size,
            "removed": [each.to_dict() for each in self.removed],
            "kept": [each.to_dict() for each in self.kept],
            "unchanged": self.unchanged,
        }


def push_access_log(
    image: ReferenceLike,
    log: AccessLog,
    *,
    platform: str | Platform | None = None,
    replace: bool = False,
    registry: RegistryOptions | None = None,
) -> PushedAccessLog:
    """Store an access log beside its image, so that mounts load first what it lists.

    The image does not change. The log is merged with earlier ones, which are then removed.

    Args:
        image: reference of the image.
        log: the log.
        platform: platform of the image that the log is for; by default, the manifest on which it
            was recorded, or else the platform of the log, or the only one.
        replace: drop what earlier logs list instead of merging.
        registry: options for access to a registry.

    Raises:
        NotFoundError: the image does not exist, or has no such platform.
        UnsupportedError: the log does not say for which platform it is, or the store cannot be
            written.
        RegistryError: the registry rejected a request or could not be reached.
        OSError: a local file cannot be read or written.
    """
    reference = reference_of(image)
    asked = None if platform is None else platform_of(platform)
    with open_sink(reference, registry=registry) as sink:
        target = resolve_image(sink, reference.selector)
        found = _image_of(sink, target, log, asked)
        subject = found.descriptor
        earlier = [load_access_log(sink, each) for each in referring(sink, subject.digest)]
        whole = AccessLog.merged([log] if replace else [*_logs_in(sink, earlier), log])
        data = compress(whole)
        digest = Digest.of(data)
        for each in earlier:
            if each.blob is not None and each.blob.digest == digest:
                manifest, unchanged = each.descriptor, True
                blob = each.blob
                break
        else:
            unchanged = False
            sink.put_blob(EMPTY, media_type=OCI_EMPTY)
            blob = blob_descriptor(data)
            sink.put_blob(data, digest=blob.digest, size=blob.size)
            text = manifest_of(blob, subject, _later_than(earlier))
            manifest = sink.put_manifest(text, OCI_MANIFEST)
        others = [each.descriptor for each in earlier if each.digest != manifest.digest]
        removed, kept = _remove(sink, others)
    return PushedAccessLog(
        str(reference),
        subject.plain(),
        found.platform,
        manifest.plain(),
        blob.plain(),
        whole,
        tuple(removed),
        tuple(kept),
        unchanged,
    )


def _image_of(
    sink: Sink, target: Descriptor, log: AccessLog, asked: Platform | None
) -> PlatformImage:
    """Return the image that a log is for."""
    if asked is not None:
        return platform_images(sink, target, [asked])[0]
    images = platform_images(sink, target, None)
    for image in images:
        if image.descriptor.digest == log.image:
            return image
    if len(images) == 1:
        return images[0]
    if log.platform is not None:
        return platform_images(sink, target, [log.platform])[0]
    available = platforms_shown([image.platform for image in images])
    raise UnsupportedError(
        f"{sink.name}: the access log does not say for which platform it is (available: "
        f"{available})",
        hint="Name the platform with --platform (platform=).",
    )


def _later_than(earlier: list[FoundAccessLog]) -> datetime:
    """Return the time of now, or one after all earlier logs if another clock is ahead."""
    found = datetime.now(UTC)
    for each in earlier:
        with suppress(ValueError, TypeError, OverflowError):
            before = datetime.fromisoformat(each.created).astimezone(UTC)
            found = max(found, before + timedelta(microseconds=1))
    return found


def _logs_in(sink: Sink, earlier: list[FoundAccessLog]) -> list[AccessLog]:
    """Return the logs that can be read; the others are replaced."""
    logs = []
    for each in reversed(earlier):
        try:
            logs.append(read_access_log(sink, each))
        except PROBLEMS as error:
            LOG.warning("access log %s: %s", each.digest, error.message)
    return logs


def _remove(sink: Sink, manifests: list[Descriptor]) -> tuple[list[Descriptor], list[Descriptor]]:
    """Remove manifests, and return those that were removed and those that were not.

    Many registries do not support it. Mounts use the newest log, so that others do no harm.
    """
    removed, kept = [], []
    for each in manifests:
        try:
            sink.delete(each)
        except NotFoundError:
            continue
        except (UnsupportedError, RegistryError) as error:
            LOG.warning("access log %s: %s", each.digest, error.message)
            kept.append(each.plain())
        else:
            removed.append(each.plain())
    return removed, kept
