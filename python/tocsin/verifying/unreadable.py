"""The finding for a blob or manifest that cannot be read."""

from __future__ import annotations

from tocsin.errors import NotFoundError, VerificationError
from tocsin.model.finding import Finding

_NAMES = {"seek": "seek table", "seek_layer": "seek blob", "file_list": "file list"}
"""Names of objects in messages, if they differ from those in kinds."""


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
