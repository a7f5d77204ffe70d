"""The columns of a zTOC as numpy structured arrays.

A separate module, so that numpy is imported only on access to an array. The rows come from
``rust/py/src/columns.rs``, whose layout must match the one here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FILES_DTYPE = np.dtype(
    [
        ("type", "S8"),
        ("uncompressed_offset", "<i8"),
        ("uncompressed_size", "<i8"),
        ("first_span", "<u4"),
        ("end_span", "<u4"),
        ("mode", "<i8"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("devmajor", "<i8"),
        ("devminor", "<i8"),
        ("mod_time", "<M8[us]"),
    ]
)
"""Columns of ``Ztoc.files``.

``type``: ``reg``, ``hardlink``, ``symlink``, ``char``, ``block``, ``dir`` or ``fifo``.
``uncompressed_offset``, ``uncompressed_size``: bytes in the uncompressed layer.
``first_span``, ``end_span``: the spans with the entry's data, half-open; equal if it has no data.
``mode``, ``uid``, ``gid``, ``devmajor``, ``devminor``: as in the tar header.
``mod_time``: UTC, truncated to microseconds; NaT if missing from the zTOC.
"""

SPANS_DTYPE = np.dtype(
    [
        ("compressed_start", "<u8"),
        ("compressed_end", "<u8"),
        ("uncompressed_start", "<u8"),
        ("uncompressed_end", "<i8"),
        ("bits", "u1"),
        ("sha256", "V32"),
    ]
)
"""Columns of ``Ztoc.spans``; ranges are half-open, in bytes.

``compressed_start``, ``compressed_end``: range to fetch; adjacent spans may share one byte.
``uncompressed_start``, ``uncompressed_end``: range in the uncompressed layer. The end of the last
span of a gzip layer is -1, which means the end of the stream.
``bits``: number of high-order bits of the first byte that belong to the span; 0 for the whole byte.
``sha256``: raw digest of the compressed bytes.
"""


def files_array(rows: bytes) -> np.ndarray[Any, np.dtype[np.void]]:
    """Return entry rows as an array of `FILES_DTYPE`."""
    return np.frombuffer(rows, dtype=FILES_DTYPE)


def spans_array(rows: bytes) -> np.ndarray[Any, np.dtype[np.void]]:
    """Return span rows as an array of `SPANS_DTYPE`."""
    return np.frombuffer(rows, dtype=SPANS_DTYPE)
