"""Which indexes an image is read by: ``--index`` and ``index=``, with one meaning everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tocsin.errors import FormatError
from tocsin.model.digest import Digest


class IndexKind(StrEnum):
    """How the indexes are chosen.

    Attributes:
        AUTO: the index that the image's manifest names (version 2); where the image was asked for
            by tag, also those that refer to the manifest (version 1). An image asked for by digest
            is read only by what that digest binds.
        NONE: no index; every layer is read in full and verified by its own digest.
        V2: only the index that the manifest names.
        V1: only indexes that refer to the manifest, which whoever may push to the repository can
            add.
        DIGEST: one index, which the caller vouches for.
    """

    AUTO = "auto"
    NONE = "none"
    V2 = "v2"
    V1 = "v1"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """Which SOCI indexes to read an image by.

    Attributes:
        kind: how they are chosen.
        digest: of the one index, if `kind` is ``digest``.
    """

    kind: IndexKind = IndexKind.AUTO
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> IndexChoice:
        """Return what ``auto``, ``none``, ``v2``, ``v1`` or the digest of an index stands for.

        Raises:
            FormatError: `text` is none of them; `what` is ``index``.
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
        """Return a choice given as a value, the digest of an index, or text."""
        if isinstance(choice, IndexChoice):
            return choice
        if isinstance(choice, Digest):
            return cls(IndexKind.DIGEST, choice)
        return cls.parse(choice)

    def __str__(self) -> str:
        return str(self.digest or self.kind)
