"""What a zTOC is made with unless someone asks otherwise.

Apart from `soci_index`, so that building one zTOC does not import the model of whole images.
"""

from __future__ import annotations

BUILD_TOOL = "AWS SOCI CLI v0.2"
"""What the reference calls itself; written by us too, since it is part of the digests."""

DEFAULT_SPAN_SIZE = 4 << 20
"""Least uncompressed bytes between checkpoints (the reference's default)."""
