"""What binds an image and its SOCI indexes: annotations, subject, media types, sizes, order.

Looks at manifests and configs only; no zTOC and no layer is read.

Source: docs/format.md#the-soci-index; docs/format.md#go-exact-json;
docs/format.md#converted-images; docs/format.md#how-an-index-is-found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, UnsupportedError
from tocsin.images.soci_indexes import PROBLEMS, soci_indexes_of
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.finding import Finding
from tocsin.model.image_config import MAX_CONFIG_SIZE, ImageConfig
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import OCI_MANIFEST, OCTET_STREAM, is_index
from tocsin.model.soci_index import (
    CONFIG_BLOB,
    IMAGE_LAYER_DIGEST,
    IMAGE_LAYER_MEDIA_TYPE,
    IMAGE_MANIFEST_DIGEST,
    INDEX_DIGEST,
    PREFETCH,
    SOCI_INDEX_V2,
    is_faithful,
    is_soci_entry,
)
from tocsin.quoting import shown
from tocsin.stores.base import read_blob
from tocsin.verifying.findings import note, warning
from tocsin.verifying.layers import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tocsin.images.selection import PlatformImage
    from tocsin.images.soci_indexes import FoundIndex
    from tocsin.model.soci_index import SociIndex
    from tocsin.stores.base import Source


@dataclass(slots=True)
class LinkedIndex:
    """A SOCI index that an image has, as far as it can be read.

    Attributes:
        version: 2 when the image's manifest names it, 1 when it refers to the manifest.
        digest: of it.
        descriptor: ``None`` when it is not there.
        soci_index: ``None`` when it cannot be read.
        findings: about it.
    """

    version: int
    digest: Digest
    descriptor: Descriptor | None = None
    soci_index: SociIndex | None = None
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """One platform's image and its SOCI indexes.

    Attributes:
        image: as it is.
        findings: about its manifest and config.
        indexes: in the order a reader tries them.
        diff_ids: of its layers as the config says; ``None`` when that cannot be read.
    """

    image: PlatformImage
    findings: tuple[Finding, ...]
    indexes: tuple[LinkedIndex, ...]
    diff_ids: tuple[Digest, ...] | None


def entries_of(store: Source, target: Descriptor) -> tuple[Descriptor, ...]:
    """Return what the image index `target` lists; nothing for a manifest."""
    if not is_index(target.media_type):
        return ()
    return ImageIndex.from_json(store.manifest(target)).manifests or ()


def stray_entries(
    store: Source, entries: Sequence[Descriptor], linked: Iterable[LinkedImage]
) -> Iterator[Finding]:
    """Yield which SOCI indexes in an image index no manifest in it names, or are not there."""
    manifests = {entry.digest for entry in entries}
    named = {index.digest for one in linked for index in one.indexes}
    for entry in entries:
        if not is_soci_entry(entry) or entry.digest in named:
            continue
        owner = entry.annotations.get(IMAGE_MANIFEST_DIGEST)
        if owner in {str(digest) for digest in manifests} and store.has_blob(entry):
            continue  # of a platform that was not asked for
        yield warning(
            "index.stray",
            f"index {entry.digest}: the image index lists it for manifest {_shown(owner)}, which "
            "does not name it",
        )


def link(store: Source, image: PlatformImage, entries: Sequence[Descriptor]) -> LinkedImage:
    """Find the SOCI indexes of one platform's image and check what binds them.

    Args:
        store: that holds them.
        image: whose.
        entries: of the image index it was found in; none for a single manifest.
    """
    findings: list[Finding] = []
    diff_ids = _diff_ids(store, image, findings)
    named = image.manifest.annotations.get(INDEX_DIGEST)
    if named is not None:
        try:
            Digest.parse(named)
        except (FormatError, UnsupportedError) as error:
            findings.append(
                Finding(
                    "index.annotation",
                    f"manifest {image.descriptor.digest}: annotation {INDEX_DIGEST}: {error}",
                    actual=named[:120],
                )
            )
    indexes = []
    for found in soci_indexes_of(store, image.descriptor, image.manifest, every=True):
        index = LinkedIndex(found.version, found.digest, found.descriptor, found.soci_index)
        if found.version == 1:
            _check_bytes(store, index, found)
            _check_subject(index, image)
        else:
            _check_named(store, index, found, image, entries)
        indexes.append(index)
    for index in indexes:
        if index.soci_index is not None:
            index.findings += _entries(index.soci_index, index.digest, image.manifest)
    return LinkedImage(image, tuple(findings), tuple(indexes), diff_ids)


def _diff_ids(
    store: Source, image: PlatformImage, findings: list[Finding]
) -> tuple[Digest, ...] | None:
    config = image.manifest.config
    try:
        data = read_blob(store, config, max_size=MAX_CONFIG_SIZE)
        diff_ids = ImageConfig.from_json(data).diff_ids
    except PROBLEMS as error:
        findings.append(unreadable(error, "config", str(config.digest)))
        return None
    count = len(image.manifest.layers or ())
    if len(diff_ids) != count:
        findings.append(
            Finding(
                "config.diff_ids",
                f"config {config.digest}: lists {len(diff_ids)} diff ids, the manifest has {count} "
                "layers",
                expected=str(count),
                actual=str(len(diff_ids)),
            )
        )
        return None
    return diff_ids


def _check_named(
    store: Source,
    index: LinkedIndex,
    found: FoundIndex,
    image: PlatformImage,
    entries: Sequence[Descriptor],
) -> None:
    """Check an index that the image's manifest names."""
    digest = index.digest
    if found.descriptor is None and found.error is not None:
        missing = unreadable(found.error, "index", str(digest))
        named = f"{missing.message}, manifest {image.descriptor.digest} names it"
        index.findings.append(Finding(missing.kind, named))
        return
    _check_bytes(store, index, found)
    _check_entry(index, image, entries)
    if index.soci_index is None:
        return
    if index.soci_index.version == 1:
        index.findings.append(
            warning(
                "index.version",
                f"index {digest}: is of version 1, but manifest {image.descriptor.digest} names it "
                "as one of version 2",
            )
        )
        _check_subject(index, image)
    elif index.soci_index.subject is not None:
        subject = index.soci_index.subject.digest
        index.findings.append(
            warning(
                "index.subject", f"index {digest}: refers to {subject}, version 2 has no subject"
            )
        )


def _check_bytes(store: Source, index: LinkedIndex, found: FoundIndex) -> None:
    """Check what an index says of itself, and how it is written."""
    if found.error is not None:
        index.findings.append(unreadable(found.error, "index", str(index.digest)))
        return
    data = found.data
    assert data is not None  # noqa: S101 (without an error there are bytes)
    assert index.descriptor is not None  # noqa: S101 (the same)
    place = f"index {index.digest}"
    if not is_faithful(data):
        index.findings.append(
            Finding(
                "index.bytes",
                f"{place}: is not written as Go writes it, so soci-snapshotter stores other bytes "
                "and refuses them",
            )
        )
    manifest = Manifest.from_json(data)
    for name, media_type in (("it", manifest.media_type), ("its", index.descriptor.media_type)):
        if media_type not in ("", OCI_MANIFEST):
            whose = "calls itself" if name == "it" else "is listed as"
            index.findings.append(
                Finding(
                    "index.media_type",
                    f"{place}: {whose} {shown(media_type)}, wanted {OCI_MANIFEST}",
                    expected=OCI_MANIFEST,
                    actual=media_type,
                )
            )
    wanted = Descriptor.of(CONFIG_BLOB, manifest.config.media_type)
    if (manifest.config.digest, manifest.config.size) != (wanted.digest, wanted.size):
        index.findings.append(
            warning(
                "index.config",
                f"{place}: its config is {manifest.config.digest} of {manifest.config.size} bytes, "
                f"wanted {wanted.digest} of {wanted.size}",
            )
        )
    elif not store.has_blob(wanted):
        index.findings.append(
            warning("index.config", f"{place}: its config {wanted.digest} is not there")
        )


def _check_subject(index: LinkedIndex, image: PlatformImage) -> None:
    if index.soci_index is None:
        return
    subject = index.soci_index.subject
    wanted = image.descriptor
    if index.soci_index.version != 1:
        index.findings.append(
            Finding(
                "index.version",
                f"index {index.digest}: refers to manifest {wanted.digest} but is of version 2",
            )
        )
    elif subject is None:
        index.findings.append(
            Finding("index.subject", f"index {index.digest}: refers to no manifest")
        )
    elif (subject.digest, subject.size) != (wanted.digest, wanted.size):
        index.findings.append(
            Finding(
                "index.subject",
                f"index {index.digest}: refers to manifest {subject.digest} of {subject.size} "
                f"bytes, the image's is {wanted.digest} of {wanted.size}",
                expected=str(wanted.digest),
                actual=str(subject.digest),
            )
        )
    elif subject.media_type != wanted.media_type:
        index.findings.append(
            Finding(
                "index.subject",
                f"index {index.digest}: refers to manifest {subject.digest} as "
                f"{shown(subject.media_type)}, it is {shown(wanted.media_type)}",
                expected=wanted.media_type,
                actual=subject.media_type,
            )
        )


def _check_entry(index: LinkedIndex, image: PlatformImage, entries: Sequence[Descriptor]) -> None:
    """Check how the image index lists a version 2 index: that keeps both together in a registry."""
    listed = [entry for entry in entries if entry.digest == index.digest]
    if not listed:
        index.findings.append(
            warning(
                "index.unlisted",
                f"index {index.digest}: no image index lists it, so a registry may delete it",
            )
        )
        return
    entry = listed[0]
    place = f"index {index.digest}"
    if index.descriptor is not None and entry.size != index.descriptor.size:
        index.findings.append(
            Finding(
                "index.size",
                f"{place}: the image index says {entry.size} bytes, it has {index.descriptor.size}",
                expected=str(index.descriptor.size),
                actual=str(entry.size),
            )
        )
    if entry.media_type != OCI_MANIFEST:
        index.findings.append(
            Finding(
                "index.media_type",
                f"{place}: the image index lists it as {shown(entry.media_type)}, "
                f"wanted {OCI_MANIFEST}",
                expected=OCI_MANIFEST,
                actual=entry.media_type,
            )
        )
    owners = [one.annotations.get(IMAGE_MANIFEST_DIGEST) for one in listed]
    manifest = str(image.descriptor.digest)
    if manifest not in owners:
        index.findings.append(
            Finding(
                "index.annotation",
                f"{place}: the image index lists it for manifest {_shown(owners[0])}, "
                f"but {manifest} names it",
                expected=manifest,
                actual=owners[0],
            )
        )
    if entry.artifact_type != SOCI_INDEX_V2:
        index.findings.append(
            note("index.artifact_type", f"{place}: the image index lists it without artifact type")
        )


def _entries(soci_index: SociIndex, digest: Digest, manifest: Manifest) -> Iterator[Finding]:
    """Check what an index says of the zTOCs and prefetch artifacts it lists."""
    layers = {str(layer.digest): layer for layer in manifest.layers or ()}
    for entry in soci_index.layers:
        what = "prefetch" if entry.media_type == PREFETCH else "ztoc"
        place = f"index {digest}: {what} {entry.digest}"
        named = entry.annotations.get(IMAGE_LAYER_DIGEST)
        if entry.media_type not in (OCTET_STREAM, PREFETCH):
            yield Finding(
                "ztoc.media_type",
                f"{place}: is listed as {_shown(entry.media_type)}, wanted {OCTET_STREAM}",
                expected=OCTET_STREAM,
                actual=entry.media_type,
            )
        layer = layers.get(named or "")
        if layer is None:
            yield Finding(
                f"{what}.layer",
                f"{place}: is said to be of layer {_shown(named)}, which the image does not have",
                actual=named,
            )
            continue
        media_type = entry.annotations.get(IMAGE_LAYER_MEDIA_TYPE)
        if what == "ztoc" and media_type != layer.media_type:
            yield Finding(
                "ztoc.layer_media_type",
                f"{place}: calls layer {layer.digest} {_shown(media_type)}, the manifest "
                f"says {shown(layer.media_type)}",
                expected=layer.media_type,
                actual=media_type,
            )
    if not soci_index.layers:
        yield warning("index.empty", f"index {digest}: lists no zTOC")


def _shown(text: str | None) -> str:
    return shown(text) if text else "none"
