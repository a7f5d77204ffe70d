"""The SOCI index and the converted image, as values and pure functions; nothing is fetched here.

The snapshotter decodes what it fetched and stores it re-serialised under the digest it asked for,
so every byte must be what Go would write.

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
"""Bytes of a zTOC accepted; the reference writes none larger. Source: docs/format.md#limits."""

CONFIG_BLOB = b"{}"
"""The config blob of every SOCI index; it must be stored beside the index."""

BUILD_TOOL_IDENTIFIER = "com.amazon.soci.build-tool-identifier"
DISABLE_XATTRS = "com.amazon.soci.disable-xattrs"
IMAGE_LAYER_DIGEST = "com.amazon.soci.image-layer-digest"
IMAGE_LAYER_MEDIA_TYPE = "com.amazon.soci.image-layer-mediaType"
SPAN_SIZE = "com.amazon.soci.span-size"
INDEX_DIGEST = "com.amazon.soci.index-digest"
"""On a converted image manifest: its SOCI index. The only binding used at run time."""
IMAGE_MANIFEST_DIGEST = "com.amazon.soci.image-manifest-digest"
"""On the SOCI index's entry in the converted image index: its image manifest."""

_WHAT = "soci_index"


@dataclass(frozen=True, slots=True)
class IndexedLayer:
    """A layer of an image and the zTOC that was made, or found, for it.

    Attributes:
        layer: as in the image's manifest.
        ztoc: digest and size of the zTOC blob; its other fields are not used.
        span_size: uncompressed bytes between checkpoints that the zTOC was made with.
        disable_xattrs: no entry of the layer needs extended attributes; only said when the
            optimisation ``xattr`` was asked for.
        prefetch: digest and size of the layer's prefetch artifact.
    """

    layer: Descriptor
    ztoc: Descriptor
    span_size: int
    disable_xattrs: bool = False
    prefetch: Descriptor | None = None

    @property
    def ztoc_descriptor(self) -> Descriptor:
        """The zTOC as a SOCI index lists it."""
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
        """The prefetch artifact as a SOCI index lists it."""
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
        version: 1 refers to the image by `subject`; 2 is referred to by the image.
        layers: zTOC descriptors in layer order, then prefetch descriptors in layer order.
        subject: the image's manifest; only and always in version 1.
        annotations: mostly just `BUILD_TOOL_IDENTIFIER`.
    """

    version: int
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(
        default_factory=lambda: {BUILD_TOOL_IDENTIFIER: BUILD_TOOL}, hash=False
    )

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the SOCI index in `data`.

        Raises:
            FormatError: it is no manifest, or no SOCI index; `what` is ``manifest`` or
                ``soci_index``.
        """
        manifest = Manifest.from_json(data)
        version = {SOCI_INDEX_V1: 1, SOCI_INDEX_V2: 2}.get(manifest.config.media_type)
        if version is None:
            raise FormatError(
                f"soci index: config.mediaType is {quoted(manifest.config.media_type)}, "
                f"wanted {SOCI_INDEX_V1} or {SOCI_INDEX_V2}",
                what=_WHAT,
            )
        return cls(version, manifest.layers or (), manifest.subject, manifest.annotations)

    def to_json(self) -> bytes:
        """Return the bytes the reference writes."""
        return Manifest(
            config=Descriptor.of(CONFIG_BLOB, self.media_type),
            layers=self.layers,
            media_type=OCI_MANIFEST,
            subject=self.subject,
            annotations=self.annotations,
        ).to_json()

    def to_dict(self) -> Document:
        """Return the index as OCI names its fields: what ``tocsin index info --json`` prints."""
        return decode_object(self.to_json(), what=_WHAT)

    @property
    def media_type(self) -> str:
        """The artifact type of this version; the ``config.mediaType``."""
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
        """Return the zTOC of a layer, if there is one made with `span_size`."""
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
    """Return the index of an image.

    Args:
        indexed: in the order of the image's manifest; skipped layers leave no gap, a layer that
            occurs twice is given twice.
        subject: the image's manifest for version 1; ``None`` for version 2.
    """
    indexed = tuple(indexed)
    ztocs = tuple(layer.ztoc_descriptor for layer in indexed)
    # One artifact a layer, however often the layer occurs.
    prefetches = {
        layer.layer.digest: found for layer in indexed if (found := layer.prefetch_descriptor)
    }
    return SociIndex(
        version=2 if subject is None else 1,
        layers=(*ztocs, *prefetches.values()),
        subject=None if subject is None else subject.plain(),
    )


def is_faithful(data: bytes) -> bool:
    """Return whether the snapshotter can store `data`, a SOCI index, under its own digest.

    It writes what it decoded once more, so pretty-printed or extended JSON never mounts.
    Source: docs/format.md#go-exact-json.

    Raises:
        FormatError: `data` is no SOCI index.
    """
    SociIndex.from_json(data)
    return Manifest.from_json(data).to_json() == data


# Converting an image, by the steps of docs/format.md#converted-images.


@dataclass(frozen=True, slots=True)
class PlatformIndex:
    """A version 2 SOCI index that was made for one platform of an image.

    Attributes:
        platform: **as it was requested**; for all platforms, as in the image's entry.
        manifest: digest of the image manifest it was made from, before any rewriting.
        soci_index: digest and size of the SOCI index.
    """

    platform: Platform | None
    manifest: Digest
    soci_index: Descriptor


@dataclass(frozen=True, slots=True)
class ConvertedImage:
    """A converted image; its parts are to be stored before it.

    Attributes:
        index: the image index.
        manifests: the rewritten manifests it lists, as bytes.
    """

    index: ImageIndex
    manifests: tuple[bytes, ...]


def convert_image(
    index: ImageIndex,
    made: Sequence[PlatformIndex],
    load: Callable[[Descriptor], bytes | None],
) -> ConvertedImage:
    """Return the converted image (steps 2 and 3).

    Entries that are SOCI indexes, nested image indexes or of unknown type are carried through
    untouched (the reference damages the first and flattens the second), as are entries that
    `load` does not have.

    Args:
        index: as `start_index` gives it.
        made: the SOCI indexes, in the order the platforms were asked for.
        load: from an entry to its manifest's bytes; ``None`` when it is not there.

    Raises:
        NotFoundError: a manifest that a SOCI index was made for is not there.
    """
    soci_indexes = {found.manifest: found.soci_index.digest for found in made}
    rewritten: dict[Digest, Digest] = {}
    manifests: dict[Digest, bytes] = {}
    entries = []
    for entry in index.manifests or ():
        data = load(entry) if is_manifest(entry.media_type) and not is_soci_entry(entry) else None
        if data is None:
            if entry.digest in soci_indexes:
                raise NotFoundError(f"manifest {entry.digest}: is not there, cannot convert it")
            entries.append(entry)
            continue
        manifest = rewrite_manifest(Manifest.from_json(data), soci_indexes.get(entry.digest))
        new = rewrite_entry(entry, manifest)
        rewritten[entry.digest] = new.digest
        manifests[new.digest] = manifest.to_json()
        entries.append(new)
    converted = replace(index, manifests=tuple(entries))
    for found in made:
        if found.manifest not in rewritten:
            raise NotFoundError(f"manifest {found.manifest}: the image index does not list it")
        entry = soci_entry(found.soci_index, rewritten[found.manifest], found.platform)
        converted = place_soci_entry(converted, entry)
    return ConvertedImage(converted, tuple(manifests.values()))


def start_index(target: bytes, descriptor: Descriptor, platform: Platform | None) -> ImageIndex:
    """Return the image index a conversion starts from (step 1).

    Args:
        target: the image's manifest or image index.
        descriptor: of `target`.
        platform: of a single manifest, as its config says, normalised; a descriptor that has one
            keeps it. Not used for an index.
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


def rewrite_manifest(manifest: Manifest, soci_index: Digest | None = None) -> Manifest:
    """Return the manifest as ``convert`` stores it (step 2); `to_json` gives its bytes.

    Media types become OCI's, but the layers' stay. **Every** entry of an index is treated so,
    attestations and platforms without a SOCI index too: that is what the reference does.

    Args:
        manifest: of the source image.
        soci_index: the digest to be found at run time; ``None`` leaves annotations as they are.
    """
    annotations = dict(manifest.annotations)
    if soci_index is not None:
        annotations[INDEX_DIGEST] = str(soci_index)
    return replace(
        manifest,
        media_type=OCI_MANIFEST,
        config=replace(manifest.config, media_type=OCI_CONFIG),
        annotations=annotations,
    )


def rewrite_entry(entry: Descriptor, manifest: Manifest) -> Descriptor:
    """Return an entry of the image index for its rewritten manifest (step 2).

    Its annotations are replaced by the manifest's; platform, urls and artifact type stay. The
    reference also keeps `data`, the old manifest's bytes; we drop them, since they would be wrong.
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
        platform: **as it was requested**; for all platforms, as in the image's entry.
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
    """Return the image index with the entry of a SOCI index (step 3).

    It takes the place of the first SOCI entry for the same platform, else comes last.
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
    """Return whether an entry of an image index is a SOCI index, not an image.

    skopeo 1.9 (Debian 12) loses the artifact type in an index it copies, so the annotation
    counts as well; the reference looks only at the artifact type and would damage such an entry.
    """
    return entry.artifact_type == SOCI_INDEX_V2 or IMAGE_MANIFEST_DIGEST in entry.annotations


def _same_platform(asked: Platform | None, there: Platform | None) -> bool:
    if asked is None or there is None:
        return asked is there
    return asked.matches(there)
