"""OCI layouts on disk, read independently of tocsin with ``json`` and ``hashlib``."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

REF_NAME = "org.opencontainers.image.ref.name"
JsonObject = dict[str, Any]


class LayoutFiles:
    """A layout directory; a missing one is treated as empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def entries(self) -> list[JsonObject]:
        """The entries of ``index.json``; empty if it is missing."""
        file = self.path / "index.json"
        if not file.exists():
            return []
        entries = json.loads(file.read_bytes())["manifests"]
        assert isinstance(entries, list)
        return entries

    @property
    def tags(self) -> dict[str, JsonObject]:
        """Tags and the entries they name."""
        return {
            entry["annotations"][REF_NAME]: entry
            for entry in self.entries
            if REF_NAME in entry.get("annotations", {})
        }

    def blob(self, digest: str) -> bytes:
        """Return a blob, whose content must match its name."""
        data = (self.path / "blobs" / digest.replace(":", "/")).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
        return data

    def document(self, digest: str) -> JsonObject:
        """Return a manifest or image index."""
        document = json.loads(self.blob(digest))
        assert isinstance(document, dict)
        return document

    def image(self, tag: str) -> JsonObject:
        """Return the manifest or image index that a tag names."""
        return self.document(self.tags[tag]["digest"])

    def referrers(self, subject: str) -> list[JsonObject]:
        """Return the listed manifests that refer to `subject`."""
        documents = [self.document(entry["digest"]) for entry in self.entries]
        return [d for d in documents if d.get("subject", {}).get("digest") == subject]

    def whole(self, descriptor: JsonObject) -> set[str]:
        """Return the digests of a manifest and its descendants; all must exist and be intact."""
        data = self.blob(descriptor["digest"])
        assert len(data) == descriptor["size"]
        found = {descriptor["digest"]}
        media_type = descriptor.get("mediaType", "")
        if "manifest" in media_type or "image.index" in media_type:
            document = json.loads(data)
            below = [*document.get("manifests", []), *document.get("layers", [])]
            for child in below + [document[key] for key in ("config",) if key in document]:
                found |= self.whole(child)
        return found

    @property
    def blobs(self) -> set[str]:
        """The digests of all existing blobs."""
        return {f"sha256:{file.name}" for file in self.path.glob("blobs/sha256/*")}

    def snapshot(self) -> dict[str, bytes]:
        """Return all files with their content."""
        return {
            str(file.relative_to(self.path)): file.read_bytes()
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
        }


def digest_of(data: bytes) -> str:
    """Return the digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def compact(document: JsonObject) -> bytes:
    """Encode JSON as Go does, for text that needs no escapes."""
    return json.dumps(document, separators=(",", ":")).encode()


def descriptor_of(data: bytes, media_type: str) -> JsonObject:
    """Return the plain descriptor of `data`."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def soci_index(
    ztocs: list[JsonObject],
    *,
    subject: JsonObject | None = None,
    prefetches: tuple[JsonObject, ...] = (),
) -> bytes:
    """Return a SOCI index according to docs/format.md, implemented independently of tocsin."""
    version = 2 if subject is None else 1
    return compact(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": f"application/vnd.amazon.soci.index.v{version}+json",
                "digest": digest_of(b"{}"),
                "size": 2,
            },
            "layers": [*ztocs, *prefetches],
            **({"subject": subject} if subject else {}),
            "annotations": {"com.amazon.soci.build-tool-identifier": "AWS SOCI CLI v0.2"},
        }
    )


def ztoc_entry(case: JsonObject, media_type: str, *, disable_xattrs: bool = False) -> JsonObject:
    """Return the entry of a SOCI index for the reference's zTOC of a golden layer."""
    return {
        "mediaType": "application/octet-stream",
        "digest": case["ztoc_digest"],
        "size": case["ztoc_size"],
        "annotations": {
            **({"com.amazon.soci.disable-xattrs": "true"} if disable_xattrs else {}),
            "com.amazon.soci.image-layer-digest": case["layer_digest"],
            "com.amazon.soci.image-layer-mediaType": media_type,
            "com.amazon.soci.span-size": str(case["span_size"]),
        },
    }
