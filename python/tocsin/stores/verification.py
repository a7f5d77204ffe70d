"""Verification of the size and digest of blobs while they are streamed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tocsin.errors import VerificationError
from tocsin.model.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def verified(
    pieces: Iterable[bytes],
    *,
    place: str,
    digest: Digest | None,
    size: int | None,
) -> Iterator[bytes]:
    """Yield `pieces`, but the last one only after verifying all of them.

    Args:
        pieces: the bytes of one blob.
        place: name of the blob in messages.
        digest: expected digest; ``None`` skips the check.
        size: expected size; ``None`` skips the check.

    Raises:
        VerificationError: too many bytes (raised immediately), too few, or a wrong digest.
    """
    hasher = hashlib.sha256() if digest is not None else None
    held = b""
    seen = 0
    for piece in pieces:
        seen += len(piece)
        if size is not None and seen > size:
            raise size_error(place, expected=size, actual=f"more than {size}")
        if held:
            yield held
        held = piece
        if hasher is not None:
            hasher.update(piece)
    if size is not None and seen != size:
        raise size_error(place, expected=size, actual=str(seen))
    if hasher is not None and digest is not None and hasher.hexdigest() != digest.hex:
        raise digest_error(place, expected=digest, actual=Digest(hasher.hexdigest()))
    if held:
        yield held


def check(data: bytes, *, place: str, digest: Digest | None, size: int | None) -> bytes:
    """Return `data` after verifying it.

    Raises:
        VerificationError: the size or digest differs.
    """
    return b"".join(verified((data,), place=place, digest=digest, size=size))


def size_error(place: str, *, expected: int, actual: str) -> VerificationError:
    """Return the error for a wrong size; both sizes are in bytes."""
    return VerificationError(
        f"{place}: wrong size (found {actual} bytes, expected {expected})",
        expected=str(expected),
        actual=actual,
    )


def digest_error(place: str, *, expected: Digest, actual: Digest) -> VerificationError:
    """Return the error for a wrong digest."""
    return VerificationError(
        f"{place}: wrong digest (found {actual}, expected {expected})",
        expected=str(expected),
        actual=str(actual),
    )
