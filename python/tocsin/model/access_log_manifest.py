"""The manifest of an access log that is stored beside an image, and its only blob.

Source: docs/access-log.md#beside-an-image.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError
from tocsin.model.access_log import MAX_SIZE, AccessLog
from tocsin.model.descriptor import Descriptor
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_EMPTY, OCI_MANIFEST
from tocsin.quoting import shown

if TYPE_CHECKING:
    from datetime import datetime

ACCESS_LOG = "application/vnd.tocsin.access-log.v1"
"""Artifact type, by which such a manifest is recognized."""
ACCESS_LOG_GZIP = "application/vnd.tocsin.access-log.v1+gzip"
"""Media type of the blob."""
CREATED = "org.opencontainers.image.created"
"""Annotation with the time of the push. Source: OCI image-spec 1.1.1, annotations.md."""
EMPTY = b"{}"
"""The config. Source: OCI image-spec 1.1.1, manifest.md, "Guidance for an Empty Descriptor"."""

MAX_INLINE_SIZE = 512 << 10
"""Maximum size in bytes of a log that is also embedded in its descriptor, which saves a request;
registries accept manifests of at least 4 MiB."""

_WHAT = "access log"
_LEVEL = 9
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class AccessLogManifest:
    """The manifest of an access log.

    Attributes:
        blob: descriptor of the log, compressed.
        created: time of the push, as written in the manifest; empty if it is missing.
    """

    blob: Descriptor
    created: str = ""

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse the manifest of an access log.

        Raises:
            FormatError: `data` is not such a manifest, or its log is too large.
            UnsupportedError: a digest other than sha256.
        """
        manifest = Manifest.from_json(data)
        if manifest.kind != ACCESS_LOG:
            raise _error(
                f"unexpected artifact type (found {shown(manifest.kind)}, expected {ACCESS_LOG})"
            )
        blobs = manifest.layers or ()
        if len(blobs) != 1:
            raise _error(f"found {len(blobs)} blobs, expected 1")
        if blobs[0].media_type != ACCESS_LOG_GZIP:
            raise _error(
                f"unexpected media type (found {shown(blobs[0].media_type)}, expected "
                f"{ACCESS_LOG_GZIP})"
            )
        if blobs[0].size > MAX_SIZE:
            raise _error(f"too large (found {blobs[0].size} bytes, expected at most {MAX_SIZE})")
        return cls(blobs[0], manifest.annotations.get(CREATED, ""))


def is_access_log(data: bytes) -> bool:
    """Return whether an image manifest is that of an access log.

    Raises:
        FormatError, UnsupportedError: `data` is not an image manifest.
    """
    return Manifest.from_json(data).kind == ACCESS_LOG


def blob_descriptor(data: bytes) -> Descriptor:
    """Return the descriptor of a compressed log, with its bytes unless it is large."""
    found = Descriptor.of(data, ACCESS_LOG_GZIP)
    return replace(found, data=data) if len(data) <= MAX_INLINE_SIZE else found


def manifest_of(blob: Descriptor, subject: Descriptor, created: datetime) -> bytes:
    """Return the manifest of an access log.

    Args:
        blob: descriptor of the log, compressed.
        subject: the image's manifest.
        created: time of the push, in UTC.
    """
    return Manifest(
        config=Descriptor.of(EMPTY, OCI_EMPTY),
        layers=(blob,),
        media_type=OCI_MANIFEST,
        artifact_type=ACCESS_LOG,
        subject=subject.plain(),
        annotations={CREATED: created.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
    ).to_json()


def compress(log: AccessLog) -> bytes:
    """Return a log as its blob; the same log always gives the same bytes."""
    return gzip.compress(log.to_bytes(), _LEVEL, mtime=0)


def decompress(data: bytes) -> AccessLog:
    """Return the log in a blob.

    Raises:
        FormatError: `data` is not a compressed log, or the log is too large.
        UnsupportedError: the version of the log is unknown.
    """
    inflater = zlib.decompressobj(_GZIP)
    try:
        # One byte more than allowed, so that a larger log is rejected before it is inflated.
        text = inflater.decompress(data, MAX_SIZE + 1)
    except zlib.error:
        raise _error("invalid gzip data") from None
    if len(text) > MAX_SIZE:
        raise _error(f"too large (found more than {MAX_SIZE} bytes, expected at most {MAX_SIZE})")
    if not inflater.eof or inflater.unused_data:
        raise _error("found incomplete gzip data, or data after its end")
    return AccessLog.from_bytes(text)


def _error(problem: str) -> FormatError:
    return FormatError(f"{_WHAT}: {problem}", what=_WHAT)
