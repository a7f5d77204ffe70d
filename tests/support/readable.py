"""Images for lazy reading: layers from tar entries, converted with ``convert``."""

from __future__ import annotations

import gzip
import random
from typing import TYPE_CHECKING

import tocsin
from support.images import image_of
from tocsin.model.media_types import OCI_LAYER, OCI_LAYER_GZIP
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from pathlib import Path

SPAN = 64 << 10
OPTIONS = tocsin.IndexingOptions(span_size=SPAN, min_layer_size=0, jobs=1)


def put_image(directory: Path, *tars: bytes, compress: bool = True, tag: str = "plain") -> str:
    """Put an image with these layers into a layout and return its reference."""
    media_type = OCI_LAYER_GZIP if compress else OCI_LAYER
    layers = [(gzip.compress(tar, 6, mtime=0) if compress else tar, media_type) for tar in tars]
    with OciLayout(directory, write=True) as store:
        image_of(*layers).put(store, tag)
    return f"oci:{directory}:{tag}"


def put_indexed(directory: Path, *tars: bytes, compress: bool = True) -> str:
    """Like `put_image`, but convert the image, so that every layer has spans of `SPAN` bytes."""
    plain = put_image(directory, *tars, compress=compress)
    indexed = f"oci:{directory}:soci"
    tocsin.convert(plain, indexed, options=OPTIONS)
    return indexed


def text(size: int, seed: int = 0) -> bytes:
    """Return bytes without long repetitions that compress by a factor of about four."""
    rng = random.Random(seed)  # noqa: S311 (not a secret)
    words = [rng.randbytes(rng.randrange(3, 9)).hex().encode() for _ in range(500)]
    out = bytearray()
    while len(out) < size:
        out += rng.choice(words) + b" "
    return bytes(out[:size])
