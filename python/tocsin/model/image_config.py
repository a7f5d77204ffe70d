"""The few fields of an image's config that indexing needs.

Docker's config has the same fields. Source: OCI image-spec 1.1.1, config.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tocsin.model.digest import Digest
from tocsin.model.fields import Fields
from tocsin.model.go_json import decode_object
from tocsin.model.platform import Platform, read_platform

_WHAT = "config"

MAX_CONFIG_SIZE = 8 << 20
"""Bytes of a config accepted; the history of many layers makes some hundred KiB."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image's config says about where it runs and what its layers are.

    Attributes:
        platform: as written; `Platform.normalized` is what ``convert`` records.
        diff_ids: digests of the uncompressed layers, from the lowest up.
    """

    platform: Platform
    diff_ids: tuple[Digest, ...]

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the config in `data`.

        Raises:
            FormatError: not a config; `what` is ``config``.
        """
        fields = Fields(decode_object(data, what=_WHAT, max_size=MAX_CONFIG_SIZE), what=_WHAT)
        rootfs = fields.child("rootfs")
        diff_ids = () if rootfs is None else rootfs.texts("diff_ids")
        return cls(read_platform(fields), tuple(map(Digest.parse, diff_ids)))
