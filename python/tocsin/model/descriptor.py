"""Descriptors: the media type, digest and size of a blob, with optional metadata.

Fields are written in the order of Go's struct. Source: OCI image-spec 1.1.1, descriptor.md.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from tocsin.model.digest import Digest
from tocsin.model.go_json import omit_empty, sorted_map
from tocsin.model.platform import Platform, read_platform, write_platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.model.document import Document
    from tocsin.model.fields import Fields
    from tocsin.model.go_json import Json


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A description of a blob.

    Attributes:
        media_type: media type; some tools leave it empty.
        digest: digest of the content.
        size: size in bytes.
        urls: alternative download locations, used for foreign layers.
        annotations: arbitrary text by key; the order is not significant.
        data: embedded content of the blob (base64 in JSON).
        platform: platform of the image; set in entries of an image index.
        artifact_type: type of an artifact that is not an image.
    """

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    data: bytes = b""
    platform: Platform | None = None
    artifact_type: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.digest, str):
            object.__setattr__(self, "digest", Digest.parse(self.digest))  # the class is frozen

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Self:
        """Return the descriptor of `data`."""
        return cls(media_type, Digest.of(data), len(data))

    def to_dict(self) -> Document:
        """Return ``media_type``, ``digest`` and ``size``."""
        return {"media_type": self.media_type, "digest": str(self.digest), "size": self.size}

    def plain(self) -> Self:
        """Return only media type, digest and size, as used in a `subject`."""
        return replace(self, urls=(), annotations={}, data=b"", platform=None, artifact_type="")

    def __str__(self) -> str:
        return f"{self.digest} ({self.media_type or 'no media type'}, {self.size} bytes)"


def read_descriptor(fields: Fields) -> Descriptor:
    """Parse a descriptor.

    Raises:
        FormatError: a field has the wrong type, the size is negative, or the digest is missing.
        UnsupportedError: a digest other than sha256.
    """
    size = fields.integer("size")
    if size < 0:
        raise fields.error("size", f"found {size}, expected 0 or more")
    if "digest" not in fields:
        raise fields.error("digest", "missing, expected a digest")
    platform = fields.child("platform")
    return Descriptor(
        media_type=fields.text("mediaType"),
        digest=Digest.parse(fields.text("digest")),
        size=size,
        urls=fields.texts("urls"),
        annotations=fields.text_map("annotations"),
        data=fields.base64("data"),
        platform=None if platform is None else read_platform(platform),
        artifact_type=fields.text("artifactType"),
    )


def write_descriptor(descriptor: Descriptor) -> dict[str, Json]:
    """Return the fields with their OCI names, in the order in which Go writes them."""
    platform = descriptor.platform
    return omit_empty(
        {
            "mediaType": descriptor.media_type,
            "digest": str(descriptor.digest),
            "size": descriptor.size,
            "urls": descriptor.urls,
            "annotations": sorted_map(descriptor.annotations) or None,
            "data": b64encode(descriptor.data).decode(),
            "platform": None if platform is None else write_platform(platform),
            "artifactType": descriptor.artifact_type,
        },
        "urls",
        "annotations",
        "data",
        "platform",
        "artifactType",
    )
