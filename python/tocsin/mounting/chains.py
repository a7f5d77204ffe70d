"""Chain IDs: how containerd names layers together with those below them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def chain_ids(diff_ids: Iterable[object]) -> Iterator[str]:
    """Yield the chain IDs of the lowest 1, 2, … layers.

    Args:
        diff_ids: digests of the uncompressed layers, from the lowest up.

    Source: OCI image-spec 1.1.1, config.md, "Layer ChainID".
    """
    chain = ""
    for each in diff_ids:
        if chain:
            pair = f"{chain} {each}".encode("ascii")
            chain = f"sha256:{hashlib.sha256(pair).hexdigest()}"
        else:
            chain = str(each)
        yield chain
