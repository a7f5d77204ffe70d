"""Streams of bytes that are written to a store: counted, hashed and verified."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tocsin.model.digest import Digest
from tocsin.stores.verification import digest_error, size_error
from tocsin.stores.window import PIECE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class HashedStream:
    """The pieces of one blob; `digest` and `size` are final after iterating to the end."""

    def __init__(
        self, pieces: Iterable[bytes], place: str, digest: Digest | None, size: int | None
    ) -> None:
        self._pieces = pieces
        self._place = place
        self._expected_digest = digest
        self._expected_size = size
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        """Digest of the bytes read so far."""
        return Digest(self._hasher.hexdigest())

    def drain(self) -> None:
        """Read to the end to verify the bytes, which are discarded."""
        for _ in self:
            pass

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.size += len(piece)
            if self._expected_size is not None and self.size > self._expected_size:
                raise size_error(
                    self._place,
                    expected=self._expected_size,
                    actual=f"more than {self._expected_size}",
                )
            self._hasher.update(piece)
            yield piece
        if self._expected_size is not None and self.size != self._expected_size:
            raise size_error(self._place, expected=self._expected_size, actual=str(self.size))
        if self._expected_digest is not None and self.digest != self._expected_digest:
            raise digest_error(self._place, expected=self._expected_digest, actual=self.digest)


def hashed(
    source: bytes | Iterable[bytes],
    *,
    place: str,
    digest: Digest | None = None,
    size: int | None = None,
) -> HashedStream:
    """Return `source` as a stream that raises `VerificationError` if its digest or size differs.

    Unlike `verification.verified`, it yields the last piece before verifying, so a consumer must
    discard everything if the iteration raises.
    """
    if isinstance(source, bytes):
        view = memoryview(source)
        pieces: Iterable[bytes] = (
            bytes(view[at : at + PIECE_SIZE]) for at in range(0, len(source), PIECE_SIZE)
        )
    else:
        pieces = source
    return HashedStream(pieces, place, digest, size)
