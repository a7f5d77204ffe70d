"""Default settings for seek tables, and their limits."""

DEFAULT_SEEK_SPAN_SIZE = 256 << 10
"""Uncompressed bytes between two checkpoints."""
MIN_SEEK_SPAN_SIZE = 64 << 10
"""Minimum span size in bytes; with smaller spans, windows would be most of the table."""
MAX_SEEK_SPAN_SIZE = 64 << 20
"""Maximum span size in bytes, as in docs/seek-table.md#the-head."""
