"""Manifests of single images, and image indexes that list several.

OCI and Docker schema 2 documents are parsed into the same two classes. Encoding writes the known
fields exactly as Go does, like the reference. **Unknown fields are lost**, so code that does not
change a manifest must pass on the original bytes.

Source: OCI image-spec 1.1.1, manifest.md; OCI image-spec 1.1.1, image-index.md;
docs/format.md#go-exact-json.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.descriptor import Descriptor, read_descriptor, write_descriptor
from tocsin.model.fields import Fields
from tocsin.model.go_json import decode_object, encode, omit_empty, sorted_map
from tocsin.model.media_types import INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, SCHEMA1_MANIFESTS
from tocsin.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.model.go_json import Json

_WHAT = "manifest"
_SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one platform's image or of an artifact.

    Attributes:
        config: the config blob.
        layers: bottom layer first; ``None`` is Go's nil slice, written as ``null``.
        media_type: the document's ``mediaType``; empty in umoci's manifests.
        artifact_type: the document's ``artifactType``.
        subject: the manifest that this one refers to.
        annotations: arbitrary text by key.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...] | None
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse an image manifest.

        Raises:
            FormatError: `data` is not a manifest; `what` is ``manifest``.
            UnsupportedError: Docker schema 1, or a digest other than sha256.
        """
        return cls._from_fields(_document(data))

    @classmethod
    def _from_fields(cls, fields: Fields) -> Self:
        if "manifests" in fields:
            raise fields.error("manifests", "not allowed in an image manifest")
        config = fields.child("config")
        if config is None:
            raise fields.error("config", "missing, expected a descriptor")
        return cls(
            config=read_descriptor(config),
            layers=_descriptors(fields, "layers"),
            media_type=fields.text("mediaType"),
            artifact_type=fields.text("artifactType"),
            subject=_subject(fields),
            annotations=fields.text_map("annotations"),
        )

    def to_json(self) -> bytes:
        """Return the bytes that Go's ``json.Marshal`` writes for this manifest."""
        return _encode(
            {
                "schemaVersion": _SCHEMA_VERSION,
                "mediaType": self.media_type,
                "artifactType": self.artifact_type,
                "config": write_descriptor(self.config),
                "layers": _structs(self.layers),
                "subject": _struct(self.subject),
                "annotations": sorted_map(self.annotations) or None,
            }
        )

    @property
    def kind(self) -> str:
        """The artifact type in the referrers API: ``artifactType``, or the config's media type."""
        return self.artifact_type or self.config.media_type


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """A list of manifests, usually one per platform.

    Attributes:
        manifests: the entries in order; ``None`` is Go's nil slice, written as ``null``.
        media_type: the document's ``mediaType``.
        artifact_type: the document's ``artifactType``.
        subject: the manifest that this index refers to.
        annotations: arbitrary text by key.
    """

    manifests: tuple[Descriptor, ...] | None
    media_type: str = OCI_INDEX
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse an image index.

        Raises:
            FormatError: `data` is not an image index; `what` is ``manifest``.
            UnsupportedError: a digest other than sha256.
        """
        return cls._from_fields(_document(data))

    @classmethod
    def _from_fields(cls, fields: Fields) -> Self:
        for name in ("config", "layers"):
            if name in fields:
                raise fields.error(name, "not allowed in an image index")
        return cls(
            manifests=_descriptors(fields, "manifests"),
            media_type=fields.text("mediaType"),
            artifact_type=fields.text("artifactType"),
            subject=_subject(fields),
            annotations=fields.text_map("annotations"),
        )

    def to_json(self) -> bytes:
        """Return the bytes that Go's ``json.Marshal`` writes for this index."""
        return _encode(
            {
                "schemaVersion": _SCHEMA_VERSION,
                "mediaType": self.media_type,
                "artifactType": self.artifact_type,
                "manifests": _structs(self.manifests),
                "subject": _struct(self.subject),
                "annotations": sorted_map(self.annotations) or None,
            }
        )

    @property
    def kind(self) -> str:
        """The artifact type in the referrers API."""
        return self.artifact_type


def parse_manifest(data: bytes, media_type: str = "") -> Manifest | ImageIndex:
    """Parse an image manifest or an image index.

    Args:
        data: the whole document.
        media_type: media type in the descriptor of the document; empty if unknown. It must be
            consistent with the ``mediaType`` in the document. Without either, the fields of the
            document decide.

    Raises:
        FormatError: `data` is neither, or inconsistent with `media_type`; `what` is ``manifest``.
        UnsupportedError: Docker schema 1, another media type, or a digest other than sha256.
    """
    _refuse_foreign_type(media_type)
    fields = _document(data)
    inside = fields.text("mediaType")
    if inside and media_type and (inside in INDEXES) != (media_type in INDEXES):
        raise fields.error("mediaType", f"found {inside}, but the descriptor has {media_type}")
    if (inside or media_type or sniff_media_type(data)) in INDEXES:
        return ImageIndex._from_fields(fields)
    return Manifest._from_fields(fields)


def sniff_media_type(data: bytes) -> str:
    """Return the ``mediaType`` in a manifest or, if missing, guess it from the other fields.

    Raises:
        FormatError: `data` is not a manifest; `what` is ``manifest``.
    """
    fields = Fields(decode_object(data, what=_WHAT), what=_WHAT)
    inside = fields.text("mediaType")
    if inside:
        return inside
    if "manifests" in fields:
        return OCI_INDEX
    if "config" in fields:
        return OCI_MANIFEST
    raise FormatError(
        "not an image manifest: mediaType, config and manifests are missing",
        what=_WHAT,
    )


def _refuse_foreign_type(media_type: str) -> None:
    if media_type in SCHEMA1_MANIFESTS:
        raise UnsupportedError(
            "manifest: unsupported Docker schema 1 (expected schema 2 or OCI)",
            hint="Copy the image with skopeo or push it again to convert it to OCI.",
        )
    if media_type and media_type not in MANIFESTS | INDEXES:
        raise UnsupportedError(f"manifest: media type {shown(media_type)} is not that of an image")


def _document(data: bytes) -> Fields:
    fields = Fields(decode_object(data, what=_WHAT), what=_WHAT)
    _refuse_foreign_type(fields.text("mediaType"))
    version = fields.integer("schemaVersion")
    if version == 1:
        _refuse_foreign_type(min(SCHEMA1_MANIFESTS))
    if version != _SCHEMA_VERSION:
        raise fields.error("schemaVersion", f"found {version}, expected {_SCHEMA_VERSION}")
    return fields


def _descriptors(fields: Fields, name: str) -> tuple[Descriptor, ...] | None:
    children = fields.children(name)
    return None if children is None else tuple(map(read_descriptor, children))


def _subject(fields: Fields) -> Descriptor | None:
    child = fields.child("subject")
    return None if child is None else read_descriptor(child)


def _struct(descriptor: Descriptor | None) -> Json:
    return None if descriptor is None else write_descriptor(descriptor)


def _structs(descriptors: tuple[Descriptor, ...] | None) -> list[Any] | None:
    return None if descriptors is None else [write_descriptor(d) for d in descriptors]


def _encode(struct: dict[str, Json]) -> bytes:
    return encode(omit_empty(struct, "mediaType", "artifactType", "subject", "annotations"))
