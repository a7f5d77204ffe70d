"""SOCI indexes and converted images, as values and pure functions without I/O.

The snapshotter decodes an index, encodes it again and stores the result under the original digest.
So every byte must be exactly what Go writes.

Source: docs/format.md#the-soci-index; docs/format.md#go-exact-json;
docs/format.md#converted-images.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError, NotFoundError
from tocsin.model.descriptor import Descriptor
from tocsin.model.go_json import decode_object
from tocsin.model.manifest import ImageIndex, Manifest, parse_manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, OCTET_STREAM, is_manifest
from tocsin.model.seek_manifest import (
    SEEK_IMAGE_DIGEST,
    SEEK_TABLE_DIGEST,
    is_seek_entry,
    seek_entry,
)
from tocsin.model.ztoc_defaults import BUILD_TOOL
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.platform import Platform

SOCI_INDEX_V1 = "application/vnd.amazon.soci.index.v1+json"
SOCI_INDEX_V2 = "application/vnd.amazon.soci.index.v2+json"
PREFETCH = "application/vnd.amazon.soci.prefetch.v1+json"

MAX_ZTOC_SIZE = 1 << 30
"""Maximum bytes of a zTOC; the reference writes no larger ones. Source: docs/format.md#limits."""

CONFIG_BLOB = b"{}"
"""The config blob of every SOCI index; it must be stored along with the index."""

BUILD_TOOL_IDENTIFIER = "com.amazon.soci.build-tool-identifier"
DISABLE_XATTRS = "com.amazon.soci.disable-xattrs"
IMAGE_LAYER_DIGEST = "com.amazon.soci.image-layer-digest"
IMAGE_LAYER_MEDIA_TYPE = "com.amazon.soci.image-layer-mediaType"
SPAN_SIZE = "com.amazon.soci.span-size"
INDEX_DIGEST = "com.amazon.soci.index-digest"
"""Annotation of a converted image manifest: its SOCI index. The only link used at run time."""
IMAGE_MANIFEST_DIGEST = "com.amazon.soci.image-manifest-digest"
"""Annotation of the SOCI index's entry in the converted image index: its image manifest."""

_WHAT = "soci_index"


@dataclass(frozen=True, slots=True)
class IndexedLayer:
    """A layer of an image and its zTOC.

    Attributes:
        layer: descriptor in the image's manifest.
        ztoc: digest and size of the zTOC blob; other fields are ignored.
        span_size: the span size with which the zTOC was built.
        disable_xattrs: whether no entry of the layer needs extended attributes; set only with the
            optimization ``xattr``.
        prefetch: digest and size of the layer's prefetch artifact.
    """

    layer: Descriptor
    ztoc: Descriptor
    span_size: int
    disable_xattrs: bool = False
    prefetch: Descriptor | None = None

    @property
    def ztoc_descriptor(self) -> Descriptor:
        """The entry of the zTOC in a SOCI index."""
        annotations = {
            IMAGE_LAYER_DIGEST: str(self.layer.digest),
            IMAGE_LAYER_MEDIA_TYPE: self.layer.media_type,
            SPAN_SIZE: str(self.span_size),
        }
        if self.disable_xattrs:
            annotations[DISABLE_XATTRS] = "true"
        return Descriptor(OCTET_STREAM, self.ztoc.digest, self.ztoc.size, annotations=annotations)

    @property
    def prefetch_descriptor(self) -> Descriptor | None:
        """The entry of the prefetch artifact in a SOCI index."""
        if self.prefetch is None:
            return None
        return Descriptor(
            PREFETCH,
            self.prefetch.digest,
            self.prefetch.size,
            annotations={IMAGE_LAYER_DIGEST: str(self.layer.digest)},
        )


@dataclass(frozen=True, slots=True)
class SociIndex:
    """The manifest that lists the zTOCs of one platform's image.

    Attributes:
        version: 1 if the index refers to the image with `subject`; 2 if the image refers to it.
        layers: zTOC descriptors in layer order, then prefetch descriptors in layer order.
        subject: the image's manifest; always set in version 1, never in version 2.
        annotations: usually only `BUILD_TOOL_IDENTIFIER`.
    """

    version: int
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(
        default_factory=lambda: {BUILD_TOOL_IDENTIFIER: BUILD_TOOL}, hash=False
    )

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse a SOCI index.

        Raises:
            FormatError: `data` is not a manifest or not a SOCI index; `what` is ``manifest`` or
                ``soci_index``.
        """
        manifest = Manifest.from_json(data)
        version = {SOCI_INDEX_V1: 1, SOCI_INDEX_V2: 2}.get(manifest.config.media_type)
        if version is None:
            raise FormatError(
                f"not a SOCI index: config.mediaType is {quoted(manifest.config.media_type)}, "
                f"expected {SOCI_INDEX_V1} or {SOCI_INDEX_V2}",
                what=_WHAT,
            )
        return cls(version, manifest.layers or (), manifest.subject, manifest.annotations)

    def to_json(self) -> bytes:
        """Return the same bytes as the reference writes."""
        return Manifest(
            config=Descriptor.of(CONFIG_BLOB, self.media_type),
            layers=self.layers,
            media_type=OCI_MANIFEST,
            subject=self.subject,
            annotations=self.annotations,
        ).to_json()

    def to_dict(self) -> Document:
        """Return the index with OCI field names, as printed by ``tocsin index info --json``."""
        return decode_object(self.to_json(), what=_WHAT)

    @property
    def media_type(self) -> str:
        """The artifact type of this version, which is ``config.mediaType``."""
        return SOCI_INDEX_V1 if self.version == 1 else SOCI_INDEX_V2

    @property
    def ztocs(self) -> tuple[Descriptor, ...]:
        """The entries that are zTOCs."""
        return tuple(d for d in self.layers if d.media_type == OCTET_STREAM)

    @property
    def prefetches(self) -> tuple[Descriptor, ...]:
        """The entries that are prefetch artifacts."""
        return tuple(d for d in self.layers if d.media_type == PREFETCH)

    def ztoc_of(self, layer: str | Digest, *, span_size: int | None = None) -> Descriptor | None:
        """Return the zTOC of a layer, if the index lists one with this `span_size`."""
        for found in self.ztocs:
            annotations = found.annotations
            if annotations.get(IMAGE_LAYER_DIGEST) == str(layer) and (
                span_size is None or annotations.get(SPAN_SIZE) == str(span_size)
            ):
                return found
        return None


def make_soci_index(
    indexed: Iterable[IndexedLayer], *, subject: Descriptor | None = None
) -> SociIndex:
    """Return the SOCI index of an image.

    Args:
        indexed: layers in the order of the image's manifest, without those that were skipped. A
            layer that occurs twice is included twice.
        subject: the image's manifest for version 1; ``None`` for version 2.
    """
    indexed = tuple(indexed)
    ztocs = tuple(layer.ztoc_descriptor for layer in indexed)
    # A layer that occurs several times has only one prefetch artifact.
    prefetches = {
        layer.layer.digest: found for layer in indexed if (found := layer.prefetch_descriptor)
    }
    return SociIndex(
        version=2 if subject is None else 1,
        layers=(*ztocs, *prefetches.values()),
        subject=None if subject is None else subject.plain(),
    )


def is_go_exact(data: bytes) -> bool:
    """Return whether a SOCI index has exactly the bytes that Go writes.

    The snapshotter decodes and re-encodes the index, so pretty-printed or extended JSON gets
    another digest and is never mounted. Source: docs/format.md#go-exact-json.

    Raises:
        FormatError: `data` is not a SOCI index.
    """
    SociIndex.from_json(data)
    return Manifest.from_json(data).to_json() == data


# Converting an image. The steps are those of docs/format.md#converted-images.


@dataclass(frozen=True, slots=True)
class PlatformIndex:
    """What is new for one platform of an image: its version 2 SOCI index, its seek table, or both.

    Attributes:
        platform: platform **as requested by the user**; without a request, as in the image index.
        manifest: digest of the original image manifest, before it is rewritten.
        soci_index: digest and size of the SOCI index, if there is one.
        seek_table: digest and size of the seek manifest, if there is one.
    """

    platform: Platform | None
    manifest: Digest
    soci_index: Descriptor | None
    seek_table: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class ConvertedImage:
    """A converted image.

    Attributes:
        index: the image index, which must be stored after `manifests`.
        manifests: the rewritten manifests that it lists, as bytes.
    """

    index: ImageIndex
    manifests: tuple[bytes, ...]


def convert_image(
    index: ImageIndex,
    made: Sequence[PlatformIndex],
    load: Callable[[Descriptor], bytes | None],
) -> ConvertedImage:
    """Return the converted image (steps 2 and 3).

    Entries are copied unchanged if they are SOCI indexes, nested image indexes, of an unknown type,
    or missing from the store. The reference damages SOCI indexes and flattens nested indexes. Seek
    tables are copied too, and their entries follow the manifests that name them.

    Args:
        index: the image index returned by `start_index`.
        made: the new SOCI indexes, in the order in which the platforms were requested.
        load: returns the bytes of an entry's manifest, or ``None`` if the store has no such blob.

    Raises:
        NotFoundError: the manifest of a new SOCI index is missing.
    """
    new_of = {found.manifest: found for found in made}
    rewritten: dict[Digest, Digest] = {}
    manifests: dict[Digest, bytes] = {}
    entries = []
    for entry in index.manifests or ():
        is_index = is_soci_entry(entry) or is_seek_entry(entry)
        data = load(entry) if is_manifest(entry.media_type) and not is_index else None
        if data is None:
            if entry.digest in new_of:
                raise NotFoundError(f"manifest {entry.digest}: not found, cannot convert it")
            entries.append(entry)
            continue
        new_indexes = new_of.get(entry.digest)
        manifest = rewrite_manifest(
            Manifest.from_json(data),
            None if new_indexes is None else _digest(new_indexes.soci_index),
            None if new_indexes is None else _digest(new_indexes.seek_table),
        )
        new = rewrite_entry(entry, manifest)
        rewritten[entry.digest] = new.digest
        manifests[new.digest] = manifest.to_json()
        entries.append(new)
    converted = replace(index, manifests=tuple(entries))
    for found in made:
        if found.manifest not in rewritten:
            raise NotFoundError(f"manifest {found.manifest}: not listed in the image index")
        if found.soci_index is not None:
            entry = soci_entry(found.soci_index, rewritten[found.manifest], found.platform)
            converted = place_soci_entry(converted, entry)
    converted = _place_seek_entries(converted, made, rewritten)
    return ConvertedImage(converted, tuple(manifests.values()))


def _digest(descriptor: Descriptor | None) -> Digest | None:
    return None if descriptor is None else descriptor.digest


def _place_seek_entries(
    index: ImageIndex, made: Sequence[PlatformIndex], rewritten: Mapping[Digest, Digest]
) -> ImageIndex:
    """Return the image index with the entries of new seek tables, which replace earlier ones.

    Other entries follow the manifests that name them, which have new digests.
    """
    now = {str(before): after for before, after in rewritten.items()}
    replaced = {str(found.manifest) for found in made if found.seek_table is not None}
    entries = []
    for entry in index.manifests or ():
        before = entry.annotations.get(SEEK_IMAGE_DIGEST)
        if before is None:
            entries.append(entry)
        elif before not in replaced:
            after = str(now.get(before, before))
            annotations = {**entry.annotations, SEEK_IMAGE_DIGEST: after}
            entries.append(replace(entry, annotations=annotations))
    entries += [
        seek_entry(found.seek_table, rewritten[found.manifest])
        for found in made
        if found.seek_table is not None
    ]
    return replace(index, manifests=tuple(entries))


def start_index(target: bytes, descriptor: Descriptor, platform: Platform | None) -> ImageIndex:
    """Return the image index that a conversion starts from (step 1).

    Args:
        target: the image's manifest or image index.
        descriptor: descriptor of `target`; its platform, if any, is kept.
        platform: for a single manifest, the normalized platform in its config. Unused for an image
            index.
    """
    document = parse_manifest(target, descriptor.media_type)
    if isinstance(document, ImageIndex):
        return replace(document, media_type=OCI_INDEX)
    entry = Descriptor(
        descriptor.media_type or document.media_type or OCI_MANIFEST,
        descriptor.digest,
        descriptor.size,
        platform=descriptor.platform or platform,
    )
    return ImageIndex((entry,))


def rewrite_manifest(
    manifest: Manifest, soci_index: Digest | None = None, seek_table: Digest | None = None
) -> Manifest:
    """Return the manifest as stored by ``convert`` (step 2).

    Media types other than those of layers are replaced with OCI's. As in the reference, **every**
    manifest in an image index is rewritten, including attestations and platforms without a SOCI
    index.

    Args:
        manifest: manifest of the source image.
        soci_index: digest of the SOCI index to use at run time; ``None`` keeps its annotation.
        seek_table: digest of the seek manifest to use; ``None`` keeps its annotation.
    """
    annotations = dict(manifest.annotations)
    if soci_index is not None:
        annotations[INDEX_DIGEST] = str(soci_index)
    if seek_table is not None:
        annotations[SEEK_TABLE_DIGEST] = str(seek_table)
    return replace(
        manifest,
        media_type=OCI_MANIFEST,
        config=replace(manifest.config, media_type=OCI_CONFIG),
        annotations=annotations,
    )


def rewrite_entry(entry: Descriptor, manifest: Manifest) -> Descriptor:
    """Return the entry of the image index for a rewritten manifest (step 2).

    The annotations are those of the manifest; platform, urls and artifact type are kept. The
    reference also keeps `data`, which contains the old manifest; tocsin removes it.
    """
    stored = Descriptor.of(manifest.to_json(), OCI_MANIFEST)
    return replace(
        entry,
        media_type=stored.media_type,
        digest=stored.digest,
        size=stored.size,
        annotations=manifest.annotations,
        data=b"",
    )


def soci_entry(
    soci_index: Descriptor, image_manifest: Digest, platform: Platform | None
) -> Descriptor:
    """Return the entry of a SOCI index in the converted image index (step 3).

    Args:
        soci_index: digest and size of the SOCI index.
        image_manifest: digest of the rewritten image manifest.
        platform: platform **as requested by the user**; without a request, as in the image index.
    """
    return Descriptor(
        OCI_MANIFEST,
        soci_index.digest,
        soci_index.size,
        annotations={IMAGE_MANIFEST_DIGEST: str(image_manifest)},
        platform=platform,
        artifact_type=SOCI_INDEX_V2,
    )


def place_soci_entry(index: ImageIndex, entry: Descriptor) -> ImageIndex:
    """Return the image index with the entry of a SOCI index added (step 3).

    The entry replaces the first SOCI entry for the same platform; otherwise it is appended.
    """
    manifests = list(index.manifests or ())
    for at, other in enumerate(manifests):
        if is_soci_entry(other) and _same_platform(entry.platform, other.platform):
            manifests[at] = entry
            break
    else:
        manifests.append(entry)
    return replace(index, manifests=tuple(manifests))


def is_soci_entry(entry: Descriptor) -> bool:
    """Return whether an entry of an image index is a SOCI index.

    skopeo 1.9 (Debian 12) drops the artifact type when it copies an image index, so the annotation
    is sufficient too. The reference checks only the artifact type and damages such entries.
    """
    return entry.artifact_type == SOCI_INDEX_V2 or IMAGE_MANIFEST_DIGEST in entry.annotations


def _same_platform(requested: Platform | None, existing: Platform | None) -> bool:
    if requested is None or existing is None:
        return requested is existing
    return requested.matches(existing)
