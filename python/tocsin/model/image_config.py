"""The fields of an image config that indexing needs.

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
"""Maximum bytes of a config; a long history takes a few hundred KiB."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The platform and the layers in an image config.

    Attributes:
        platform: platform without normalization; ``convert`` stores the normalized form.
        diff_ids: digests of the uncompressed layers, bottom layer first.
    """

    platform: Platform
    diff_ids: tuple[Digest, ...]

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse an image config.

        Raises:
            FormatError: `data` is not an image config; `what` is ``config``.
        """
        fields = Fields(decode_object(data, what=_WHAT, max_size=MAX_CONFIG_SIZE), what=_WHAT)
        rootfs = fields.child("rootfs")
        diff_ids = () if rootfs is None else rootfs.texts("diff_ids")
        return cls(read_platform(fields), tuple(map(Digest.parse, diff_ids)))
