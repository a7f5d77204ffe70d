"""Default settings for seek tables, and their limits."""

DEFAULT_SEEK_SPAN_SIZE = 256 << 10
"""Uncompressed bytes between two checkpoints."""
MIN_SEEK_SPAN_SIZE = 64 << 10
"""Below it, windows are most of the table."""
MAX_SEEK_SPAN_SIZE = 64 << 20
