"""Files of a layer whose data lies completely in given spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.layers.ztoc import Ztoc


def whole_files(ztoc: Ztoc, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """Return the clean paths, without duplicates, of nonempty files that lie in these spans.

    A file counts only if all of its data is in them.

    Args:
        ztoc: zTOC of the layer.
        ranges: first and last span, both included; sorted, neither overlapping nor adjacent.
    """
    if not ranges:
        return []
    starts, ends = np.array(ranges, dtype=np.int64).T
    files = ztoc.files
    # The only range that can hold a file is the last that starts at or before its first span.
    at = starts.searchsorted(files["first_span"], "right") - 1
    has_data = (files["type"] == b"reg") & (files["end_span"] > files["first_span"])
    inside = has_data & (at >= 0) & (files["end_span"] <= ends[at] + 1)
    paths = ztoc.clean_paths()
    return list(dict.fromkeys(paths[row] for row in inside.nonzero()[0].tolist()))
