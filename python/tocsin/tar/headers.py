"""The headers of a tar entry and of a gzip member, parsed by the core.

The core follows Go's ``archive/tar``: the reference uses it to build zTOCs, and containerd uses it
to unpack layers. A different parser would sometimes see different files.
"""

from tocsin._core import EntryHeaders, gzip_header_len, read_headers

__all__ = ["BLOCK_SIZE", "EntryHeaders", "gzip_header_len", "read_headers"]

BLOCK_SIZE = 512
"""Bytes per tar block: headers consist of whole blocks, and data is padded to whole blocks."""
