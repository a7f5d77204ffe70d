"""The only door bytes of a blob pass: size and digest are checked while they flow."""

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
    """Hand on `pieces`, the last one only when all of them were what was promised.

    Args:
        pieces: the bytes of one blob.
        place: where they come from, for messages.
        digest: promised; ``None`` is not checked.
        size: promised, in bytes; ``None`` is not checked.

    Raises:
        VerificationError: too many bytes (as soon as seen), too few, or another digest.
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
    """Return `data` when it is what was promised.

    Raises:
        VerificationError: its size or digest differs.
    """
    return b"".join(verified((data,), place=place, digest=digest, size=size))


def size_error(place: str, *, expected: int, actual: str) -> VerificationError:
    """Return the error of a blob of another size than promised, both in bytes."""
    return VerificationError(
        f"{place}: got {actual} bytes, wanted {expected}", expected=str(expected), actual=actual
    )


def digest_error(place: str, *, expected: Digest, actual: Digest) -> VerificationError:
    """Return the error of a blob of another digest than promised."""
    return VerificationError(
        f"{place}: digest is {actual}, wanted {expected}",
        expected=str(expected),
        actual=str(actual),
    )
