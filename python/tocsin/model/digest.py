"""Content digests: the names of blobs.

A digest becomes part of file names and URLs, so one is only ever made from text that is exactly
``sha256:`` and 64 lower-case hexadecimal digits. Source: OCI image-spec 1.1.1, descriptor.md.
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
                f"sha256 digest: got {quoted(self.hex, limit=80)}, wanted 64 lower-case "
                "hexadecimal digits",
                what="digest",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest that `text` spells.

        Raises:
            FormatError: `text` is not a digest at all (path tricks, upper case, wrong length).
            UnsupportedError: a well-formed digest of another algorithm, such as sha512.
        """
        algorithm, colon, value = text.partition(":")
        if algorithm == "sha256" and colon:
            return cls(value)
        if _OTHER.fullmatch(text):
            raise UnsupportedError(
                f"digest {shown(text, limit=80)}: got {shown(algorithm, limit=80)}, only "
                "sha256 is done here"
            )
        raise FormatError(
            f"digest: got {quoted(text, limit=80)}, wanted sha256: and 64 hexadecimal digits",
            what="digest",
        )

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the digest of `data`."""
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def algorithm(self) -> str:
        """The algorithm's registered name."""
        return "sha256"

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


def digest_of(given: str | Digest) -> Digest:
    """Return a digest that was given as such or as text; errors as `Digest.parse`."""
    return given if isinstance(given, Digest) else Digest.parse(given)
