"""The headers of one entry, and of a gzip member, as the core reads them.

The dialect of tar is that of Go's ``archive/tar``, which makes zTOCs in the reference and unpacks
layers in containerd. Whatever else read headers would at times see another file.
"""

from tocsin._core import EntryHeaders, gzip_header_len, read_headers

__all__ = ["BLOCK_SIZE", "EntryHeaders", "gzip_header_len", "read_headers"]

BLOCK_SIZE = 512
"""Bytes of a block: headers are blocks, and data is padded to whole ones."""
