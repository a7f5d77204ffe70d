"""Content digests, which identify blobs.

Digests are used in file names and URLs, so parsing accepts nothing but ``sha256:`` followed by 64
lower-case hexadecimal digits. Source: OCI image-spec 1.1.1, descriptor.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from tocsin.errors import FormatError, UnsupportedError
from tocsin.quoting import quoted, shown

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_OTHER = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A SHA-256 digest.

    Attributes:
        hex: 64 lower-case hexadecimal digits.
    """

    hex: str

    def __post_init__(self) -> None:
        if not _SHA256_HEX.fullmatch(self.hex):
            raise FormatError(
                f"invalid sha256 digest (found {quoted(self.hex, limit=80)}, expected 64 "
                "lower-case hexadecimal digits)",
                what="digest",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a digest.

        Raises:
            FormatError: `text` is not a digest (path traversal, upper case, wrong length).
            UnsupportedError: `text` is a digest of another algorithm, such as sha512.
        """
        algorithm, colon, value = text.partition(":")
        if algorithm == "sha256" and colon:
            return cls(value)
        if _OTHER.fullmatch(text):
            raise UnsupportedError(
                f"digest {shown(text, limit=80)}: unsupported algorithm (found "
                f"{shown(algorithm, limit=80)}, expected sha256)"
            )
        raise FormatError(
            f"invalid digest (found {quoted(text, limit=80)}, expected sha256: and 64 hexadecimal "
            "digits)",
            what="digest",
        )

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the digest of `data`."""
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def algorithm(self) -> str:
        """The registered name of the algorithm."""
        return "sha256"

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


def digest_of(given: str | Digest) -> Digest:
    """Return a digest given as a `Digest` or as text; raises as `Digest.parse`."""
    return given if isinstance(given, Digest) else Digest.parse(given)
