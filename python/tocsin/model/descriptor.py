"""Descriptors: a blob's media type, digest and size, with what else is said about it.

Source: OCI image-spec 1.1.1, descriptor.md; the field order is that of its Go struct.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from tocsin.model.digest import Digest
from tocsin.model.go_json import omit_empty, sorted_map
from tocsin.model.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.model.fields import Fields
    from tocsin.model.go_json import Json


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What one blob is.

    Attributes:
        media_type: how to read it; may be empty in sloppy manifests.
        digest: of its bytes.
        size: in bytes.
        urls: other places it can be fetched from; foreign layers have them.
        annotations: free text by key, in no order.
        data: the blob itself, when the descriptor carries it (base64 in JSON).
        platform: which machine the image is for; entries of an image index have it.
        artifact_type: what the artifact is, when it is no image.
    """

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    data: bytes = b""
    platform: Platform | None = None
    artifact_type: str = ""

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Self:
        """Return the descriptor of `data`."""
        return cls(media_type, Digest.of(data), len(data))

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Return the descriptor in `fields`.

        Raises:
            FormatError: a field of a wrong type, a negative size, no digest.
            UnsupportedError: a digest other than sha256.
        """
        size = fields.integer("size")
        if size < 0:
            raise fields.refuse("size", f"got {size}, wanted 0 or more")
        if "digest" not in fields:
            raise fields.refuse("digest", "got nothing, wanted a digest")
        platform = fields.child("platform")
        return cls(
            media_type=fields.text("mediaType"),
            digest=Digest.parse(fields.text("digest")),
            size=size,
            urls=fields.texts("urls"),
            annotations=fields.text_map("annotations"),
            data=fields.base64("data"),
            platform=None if platform is None else Platform.from_fields(platform),
            artifact_type=fields.text("artifactType"),
        )

    def to_struct(self) -> dict[str, Json]:
        """Return the fields in the order Go writes them."""
        return omit_empty(
            {
                "mediaType": self.media_type,
                "digest": str(self.digest),
                "size": self.size,
                "urls": self.urls,
                "annotations": sorted_map(self.annotations) or None,
                "data": b64encode(self.data).decode(),
                "platform": None if self.platform is None else self.platform.to_struct(),
                "artifactType": self.artifact_type,
            },
            "urls",
            "annotations",
            "data",
            "platform",
            "artifactType",
        )

    def plain(self) -> Self:
        """Return only media type, digest and size, as a `subject` has them."""
        return replace(self, urls=(), annotations={}, data=b"", platform=None, artifact_type="")

    def __str__(self) -> str:
        return f"{self.digest} ({self.media_type or 'no media type'}, {self.size} bytes)"
