"""Default settings for building zTOCs.

Separate from `soci_index`, so that building a single zTOC does not import the model of images.
"""

from __future__ import annotations

BUILD_TOOL = "AWS SOCI CLI v0.2"
"""Build tool written by the reference. It affects the digests, so tocsin writes the same."""

DEFAULT_SPAN_SIZE = 4 << 20
"""Minimum uncompressed bytes between checkpoints (the default of the reference)."""
