"""Links between an image and its SOCI indexes: annotations, subject, media types and sizes.

This reads only manifests and configs, no zTOCs and no layers.

Source: docs/format.md#the-soci-index; docs/format.md#go-exact-json;
docs/format.md#converted-images; docs/format.md#how-an-index-is-found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tocsin.images.soci_indexes import PROBLEMS, soci_indexes_of
from tocsin.model.descriptor import Descriptor
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
    is_go_exact,
    is_soci_entry,
)
from tocsin.quoting import shown
from tocsin.stores.base import read_blob
from tocsin.verifying.findings import note, warning
from tocsin.verifying.seek import SeekTableCheck, seek_table_checks
from tocsin.verifying.unreadable import bad_annotation, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tocsin.images.selection import PlatformImage
    from tocsin.images.soci_indexes import FoundIndex
    from tocsin.model.digest import Digest
    from tocsin.model.soci_index import SociIndex
    from tocsin.stores.base import Source


@dataclass(slots=True)
class LinkedIndex:
    """A SOCI index of an image; it may be missing or unreadable.

    Attributes:
        version: 2 if the image's manifest names the index, 1 if the index refers to the manifest.
        digest: digest of the index.
        descriptor: descriptor of the index; ``None`` if it is missing.
        soci_index: the parsed index; ``None`` if it cannot be read.
        findings: findings about the index.
    """

    version: int
    digest: Digest
    descriptor: Descriptor | None = None
    soci_index: SociIndex | None = None
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """One platform's image, its SOCI indexes and its seek tables.

    Attributes:
        image: the image.
        findings: findings about its manifest and config.
        indexes: its SOCI indexes, in the order in which readers try them.
        diff_ids: diff IDs of the layers in the config; ``None`` if it cannot be read.
        seek_tables: its seek tables.
    """

    image: PlatformImage
    findings: tuple[Finding, ...]
    indexes: tuple[LinkedIndex, ...]
    diff_ids: tuple[Digest, ...] | None
    seek_tables: tuple[SeekTableCheck, ...] = ()


def entries_of(store: Source, target: Descriptor) -> tuple[Descriptor, ...]:
    """Return the entries of the image index `target`; empty for a manifest."""
    if not is_index(target.media_type):
        return ()
    return ImageIndex.from_json(store.manifest(target)).manifests or ()


def stray_entries(
    store: Source, entries: Sequence[Descriptor], linked: Iterable[LinkedImage]
) -> Iterator[Finding]:
    """Yield the SOCI indexes in an image index that are missing or not named by a manifest."""
    manifests = {entry.digest for entry in entries}
    named = {index.digest for one in linked for index in one.indexes}
    for entry in entries:
        if not is_soci_entry(entry) or entry.digest in named:
            continue
        owner = entry.annotations.get(IMAGE_MANIFEST_DIGEST)
        if owner in {str(digest) for digest in manifests} and store.has_blob(entry):
            continue  # it belongs to a platform that is not verified
        yield warning(
            "index.stray",
            f"index {entry.digest}: listed in the image index for manifest {_shown(owner)}, which "
            "does not refer to it",
        )


def link(store: Source, image: PlatformImage, entries: Sequence[Descriptor]) -> LinkedImage:
    """Find the SOCI indexes and seek tables of one platform's image and check their links.

    Args:
        store: store that contains the image.
        image: the image.
        entries: entries of the image index that lists the image; empty for a single manifest.
    """
    findings: list[Finding] = []
    diff_ids = _diff_ids(store, image, findings)
    annotation = bad_annotation(image, INDEX_DIGEST, "index")
    if annotation is not None:
        findings.append(annotation)
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
    seek_tables, seek_findings = seek_table_checks(store, image, entries)
    findings += seek_findings
    return LinkedImage(image, tuple(findings), tuple(indexes), diff_ids, tuple(seek_tables))


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
                f"config {config.digest}: {len(diff_ids)} diff IDs, but the manifest has {count} "
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
    """Check an index that is named by the image's manifest."""
    digest = index.digest
    if found.descriptor is None and found.error is not None:
        missing = unreadable(found.error, "index", str(digest))
        named = f"{missing.message}, named by manifest {image.descriptor.digest}"
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
                f"index {digest}: version is 1 (expected 2, since manifest "
                f"{image.descriptor.digest} names it)",
            )
        )
        _check_subject(index, image)
    elif index.soci_index.subject is not None:
        subject = index.soci_index.subject.digest
        index.findings.append(
            warning(
                "index.subject",
                f"index {digest}: subject is {subject}, but version 2 must not have a subject",
            )
        )


def _check_bytes(store: Source, index: LinkedIndex, found: FoundIndex) -> None:
    """Check the encoding, media type and config of an index."""
    if found.error is not None:
        index.findings.append(unreadable(found.error, "index", str(index.digest)))
        return
    data = found.data
    assert data is not None  # noqa: S101 (set unless there is an error)
    assert index.descriptor is not None  # noqa: S101 (the same)
    place = f"index {index.digest}"
    if not is_go_exact(data):
        index.findings.append(
            Finding(
                "index.bytes",
                f"{place}: not encoded exactly as Go does, so soci-snapshotter re-encodes it to a "
                "different digest and rejects it",
            )
        )
    manifest = Manifest.from_json(data)
    for name, media_type in (
        ("mediaType", manifest.media_type),
        ("media type of the descriptor", index.descriptor.media_type),
    ):
        if media_type not in ("", OCI_MANIFEST):
            index.findings.append(
                Finding(
                    "index.media_type",
                    f"{place}: {name} is {shown(media_type)}, expected {OCI_MANIFEST}",
                    expected=OCI_MANIFEST,
                    actual=media_type,
                )
            )
    expected = Descriptor.of(CONFIG_BLOB, manifest.config.media_type)
    if (manifest.config.digest, manifest.config.size) != (expected.digest, expected.size):
        index.findings.append(
            warning(
                "index.config",
                f"{place}: config is {manifest.config.digest} ({manifest.config.size} bytes), "
                f"expected {expected.digest} ({expected.size} bytes)",
            )
        )
    elif not store.has_blob(expected):
        index.findings.append(
            warning("index.config", f"{place}: config {expected.digest} is missing")
        )


def _check_subject(index: LinkedIndex, image: PlatformImage) -> None:
    if index.soci_index is None:
        return
    subject = index.soci_index.subject
    manifest = image.descriptor
    if index.soci_index.version != 1:
        index.findings.append(
            Finding(
                "index.version",
                f"index {index.digest}: version 2, but refers to manifest {manifest.digest}",
            )
        )
    elif subject is None:
        index.findings.append(Finding("index.subject", f"index {index.digest}: missing subject"))
    elif (subject.digest, subject.size) != (manifest.digest, manifest.size):
        index.findings.append(
            Finding(
                "index.subject",
                f"index {index.digest}: subject is {subject.digest} ({subject.size} bytes), "
                f"expected {manifest.digest} ({manifest.size} bytes)",
                expected=str(manifest.digest),
                actual=str(subject.digest),
            )
        )
    elif subject.media_type != manifest.media_type:
        index.findings.append(
            Finding(
                "index.subject",
                f"index {index.digest}: media type of subject {subject.digest} is "
                f"{shown(subject.media_type)}, expected {shown(manifest.media_type)}",
                expected=manifest.media_type,
                actual=subject.media_type,
            )
        )


def _check_entry(index: LinkedIndex, image: PlatformImage, entries: Sequence[Descriptor]) -> None:
    """Check the entry of a version 2 index in the image index.

    The entry keeps registries from deleting the SOCI index as an unreferenced manifest.
    """
    listed = [entry for entry in entries if entry.digest == index.digest]
    if not listed:
        index.findings.append(
            warning(
                "index.unlisted",
                f"index {index.digest}: not listed in an image index, so a registry may delete it",
            )
        )
        return
    entry = listed[0]
    place = f"index {index.digest}"
    if index.descriptor is not None and entry.size != index.descriptor.size:
        index.findings.append(
            Finding(
                "index.size",
                f"{place}: size is {index.descriptor.size}, but {entry.size} in the image index",
                expected=str(index.descriptor.size),
                actual=str(entry.size),
            )
        )
    if entry.media_type != OCI_MANIFEST:
        index.findings.append(
            Finding(
                "index.media_type",
                f"{place}: media type in the image index is {shown(entry.media_type)}, expected "
                f"{OCI_MANIFEST}",
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
                f"{place}: listed in the image index for manifest {_shown(owners[0])}, but named "
                f"by {manifest}",
                expected=manifest,
                actual=owners[0],
            )
        )
    if entry.artifact_type != SOCI_INDEX_V2:
        index.findings.append(
            note("index.artifact_type", f"{place}: artifact type is missing in the image index")
        )


def _entries(soci_index: SociIndex, digest: Digest, manifest: Manifest) -> Iterator[Finding]:
    """Check the entries of zTOCs and prefetch artifacts in an index."""
    layers = {str(layer.digest): layer for layer in manifest.layers or ()}
    for entry in soci_index.layers:
        what = "prefetch" if entry.media_type == PREFETCH else "ztoc"
        place = f"index {digest}: {what} {entry.digest}"
        named = entry.annotations.get(IMAGE_LAYER_DIGEST)
        if entry.media_type not in (OCTET_STREAM, PREFETCH):
            yield Finding(
                "ztoc.media_type",
                f"{place}: media type is {_shown(entry.media_type)}, expected {OCTET_STREAM}",
                expected=OCTET_STREAM,
                actual=entry.media_type,
            )
        layer = layers.get(named or "")
        if layer is None:
            yield Finding(
                f"{what}.layer",
                f"{place}: belongs to layer {_shown(named)}, which is not in the image",
                actual=named,
            )
            continue
        media_type = entry.annotations.get(IMAGE_LAYER_MEDIA_TYPE)
        if what == "ztoc" and media_type != layer.media_type:
            yield Finding(
                "ztoc.layer_media_type",
                f"{place}: media type of layer {layer.digest} is {_shown(media_type)}, but "
                f"{shown(layer.media_type)} in the manifest",
                expected=layer.media_type,
                actual=media_type,
            )
    if not soci_index.layers:
        yield warning("index.empty", f"index {digest}: does not list any zTOC")


def _shown(text: str | None) -> str:
    return shown(text) if text else "none"
