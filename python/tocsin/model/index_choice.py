"""The choice of SOCI indexes for reading an image: ``--index`` and ``index=``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tocsin.errors import FormatError
from tocsin.model.digest import Digest


class IndexKind(StrEnum):
    """How the indexes are chosen.

    Attributes:
        AUTO: the index named by the image's manifest (version 2) and, for an image selected by
            tag, also the indexes that refer to the manifest (version 1). An image selected by
            digest uses only the index covered by that digest.
        NONE: no index; every layer is read in full and verified against its digest.
        V2: only the index named by the manifest.
        V1: only indexes that refer to the manifest; anyone with push access can add them.
        DIGEST: one index that the caller trusts.
    """

    AUTO = "auto"
    NONE = "none"
    V2 = "v2"
    V1 = "v1"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """The choice of SOCI indexes for reading an image.

    Attributes:
        kind: how the indexes are chosen.
        digest: digest of the index if `kind` is ``digest``.
    """

    kind: IndexKind = IndexKind.AUTO
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> IndexChoice:
        """Parse ``auto``, ``none``, ``v2``, ``v1`` or the digest of an index.

        Raises:
            FormatError: `text` is something else; `what` is ``index``.
        """
        for kind in (IndexKind.AUTO, IndexKind.NONE, IndexKind.V2, IndexKind.V1):
            if text == kind:
                return cls(kind)
        try:
            return cls(IndexKind.DIGEST, Digest.parse(text))
        except FormatError as error:
            raise FormatError(
                f"index {text[:80]!r}: expected auto, none, v2, v1 or a digest: {error}",
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
