"""The choice of indexes for reading an image: ``--index`` and ``index=``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tocsin.errors import FormatError
from tocsin.model.digest import Digest


class IndexKind(StrEnum):
    """How the indexes are chosen.

    Attributes:
        AUTO: the seek table or else the SOCI index (version 2) named by the image's manifest and,
            for an image selected by tag, also seek tables and SOCI indexes (version 1) that refer
            to the manifest. An image selected by digest uses only what that digest covers.
        NONE: no index; every layer is read in full and verified against its digest.
        SEEK: only a seek table, named by the manifest or referring to it.
        V2: only the SOCI index named by the manifest.
        V1: only SOCI indexes that refer to the manifest; anyone with push access can add them.
        DIGEST: one SOCI index or seek table that the caller trusts.
    """

    AUTO = "auto"
    NONE = "none"
    SEEK = "seek"
    V2 = "v2"
    V1 = "v1"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """The choice of indexes for reading an image.

    Attributes:
        kind: how the indexes are chosen.
        digest: digest of the index if `kind` is ``digest``.
    """

    kind: IndexKind = IndexKind.AUTO
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> IndexChoice:
        """Parse ``auto``, ``none``, ``seek``, ``v2``, ``v1`` or the digest of an index.

        Raises:
            FormatError: `text` is something else; `what` is ``index``.
        """
        for kind in (IndexKind.AUTO, IndexKind.NONE, IndexKind.SEEK, IndexKind.V2, IndexKind.V1):
            if text == kind:
                return cls(kind)
        try:
            return cls(IndexKind.DIGEST, Digest.parse(text))
        except FormatError as error:
            raise FormatError(
                f"index {text[:80]!r}: expected auto, none, seek, v2, v1 or a digest: {error}",
                what="index",
            ) from None

    @classmethod
    def of(cls, choice: str | Digest | IndexChoice) -> IndexChoice:
        """Return a choice given as an `IndexChoice`, the digest of an index, or text."""
        if isinstance(choice, IndexChoice):
            return choice
        if isinstance(choice, Digest):
            return cls(IndexKind.DIGEST, choice)
        return cls.parse(choice)

    def __str__(self) -> str:
        return str(self.digest or self.kind)
