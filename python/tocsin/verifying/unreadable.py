"""Findings for blobs, manifests and annotations that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.digest import Digest
from tocsin.model.finding import Finding

if TYPE_CHECKING:
    from tocsin.images.selection import PlatformImage
    from tocsin.model.descriptor import Descriptor

_NAMES = {
    "seek": "seek table",
    "seek_layer": "seek blob",
    "file_list": "file list",
    "pack_index": "pack index",
}
"""Names of objects in messages, if they differ from those in kinds."""


def missing(what: str, blob: Descriptor) -> Finding:
    """Return the finding for a blob that does not exist, or that has another size.

    Args:
        what: as for `unreadable`.
        blob: descriptor of the blob.
    """
    name = f"{_NAMES.get(what, what)} {blob.digest}"
    return Finding(f"{what}.missing", f"{name}: missing, or its size is not {blob.size} bytes")


def unreadable(error: Exception, what: str, digest: str) -> Finding:
    """Return the finding for a blob or manifest that cannot be read.

    Args:
        error: the exception raised while reading.
        what: ``ztoc``, ``layer``, ``index`` and so on; the first part of the finding's kind.
        digest: the expected digest.
    """
    name = f"{_NAMES.get(what, what)} {digest}"
    match error:
        case VerificationError(expected=expected, actual=actual):
            # The exception is the same for a wrong digest and a wrong size.
            part = "digest" if expected.startswith("sha256:") else "size"
            message = f"{name}: {part} is {actual}, expected {expected}"
            return Finding(f"{what}.{part}", message, expected=expected, actual=actual)
        case NotFoundError():
            return Finding(f"{what}.missing", f"{name}: not found")
        case _:
            return Finding(f"{what}.format", f"{name}: {error}")


def bad_annotation(image: PlatformImage, key: str, what: str) -> Finding | None:
    """Return the finding for an annotation of an image's manifest that is not a digest.

    Args:
        image: the image.
        key: name of the annotation.
        what: ``index`` or ``seek``; the first part of the finding's kind.
    """
    named = image.manifest.annotations.get(key)
    if named is None:
        return None
    try:
        Digest.parse(named)
    except (FormatError, UnsupportedError) as error:
        message = f"manifest {image.descriptor.digest}: annotation {key}: {error.message}"
        return Finding(f"{what}.annotation", message, actual=named[:120])
    return None
