"""The finding for a blob or manifest that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError, VerificationError
from tocsin.model.finding import Finding

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor

_NAMES = {"seek": "seek table", "seek_layer": "seek blob", "file_list": "file list"}
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
