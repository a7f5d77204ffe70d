"""A small image with a SOCI index and a zTOC, some of them damaged, all with correct digests.

Documents with a wrong digest are rejected before they are parsed. So a hostile registry that wants
to reach the parsers uses correct digests, like this image.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import tocsin
from support.hostile_json import spoil

if TYPE_CHECKING:
    from support.instructions import Instructions

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCTETS = "application/octet-stream"
_SOCI_V1 = "application/vnd.amazon.soci.index.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_SOCI = "com.amazon.soci."


@dataclass(frozen=True, slots=True)
class HostileImage:
    """The content of a registry.

    Attributes:
        tag: digest of the manifest or image index that the tag names.
        referrers: the referrers list of the image's manifest.
        documents: media type and bytes of each document, by digest.
    """

    tag: str
    referrers: bytes
    documents: dict[str, tuple[str, bytes]] = field(repr=False)


SUBJECT = "sha256:" + "1" * 64
"""Digest of the manifest that `REFERRER` refers to."""
REFERRER = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/x", "digest": "sha256:" + "2" * 64, "size": 2},
        "layers": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": SUBJECT, "size": 5},
    }
).encode()
"""A manifest that tests push; an honest registry then lists it."""


def digest_of(data: bytes) -> str:
    """Return a digest as OCI writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@cache
def layer_and_ztoc() -> tuple[bytes, bytes]:
    """Return a small layer and its zTOC."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, data in [("etc/os-release", b"ID=test\n"), ("srv/data", bytes(70_000))]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    layer = gzip.compress(tar.getvalue(), mtime=0)
    return layer, tocsin.build_ztoc(layer, span_size=32 << 10).to_bytes()


def make_image(instructions: Instructions) -> HostileImage:
    """Return an image; if all instructions are zero, a correct one."""
    documents: dict[str, tuple[str, bytes]] = {}

    def put(data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
        documents[digest_of(data)] = media_type, data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **fields}

    def put_json(document: Any, media_type: str, **fields: Any) -> dict[str, Any]:
        spoiled = instructions.below(4) == 3
        data = spoil(document, instructions) if spoiled else json.dumps(document).encode()
        return put(data, media_type, **fields)

    layer_bytes, ztoc_bytes = layer_and_ztoc()
    if instructions.below(4) == 3:
        damaged = bytearray(ztoc_bytes)
        for _ in range(1 + instructions.below(4)):
            damaged[instructions.below(1 << 16) % len(damaged)] = instructions.byte()
        ztoc_bytes = bytes(damaged)
    layer = put(layer_bytes, _LAYER_TYPE)
    config = put_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(gzip.decompress(layer_bytes))]},
        },
        "application/vnd.oci.image.config.v1+json",
    )
    manifest = put_json(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]},
        OCI_MANIFEST,
    )
    ztoc = put(ztoc_bytes, OCTETS)
    ztoc["annotations"] = {
        f"{_SOCI}image-layer-digest": layer["digest"],
        f"{_SOCI}image-layer-mediaType": _LAYER_TYPE,
        f"{_SOCI}span-size": "32768",
    }
    soci = put_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": _SOCI_V1,
            "config": put(b"{}", _SOCI_V1),
            "layers": [ztoc],
            "subject": manifest,
        },
        OCI_MANIFEST,
        artifactType=_SOCI_V1,
    )
    pushed = {"mediaType": OCI_MANIFEST, "digest": digest_of(REFERRER), "size": len(REFERRER)}
    referrers = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [soci, pushed]}
    tag = manifest
    if instructions.below(2):
        manifest["platform"] = {"architecture": "amd64", "os": "linux"}
        tag = put_json(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [manifest]}, OCI_INDEX
        )
    return HostileImage(tag["digest"], json.dumps(referrers).encode(), documents)
