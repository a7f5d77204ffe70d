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
    """
    chain = ""
    for each in diff_ids:
        chain = chain_id(chain, str(each))
        yield chain


def chain_id(below: str, diff_id: str) -> str:
    """Return the chain ID of a layer.

    Args:
        below: chain ID of the layer below it; empty for the lowest layer.
        diff_id: digest of the uncompressed layer.

    Source: OCI image-spec 1.1.1, config.md, "Layer ChainID".
    """
    if not below:
        return diff_id
    return f"sha256:{hashlib.sha256(f'{below} {diff_id}'.encode('ascii')).hexdigest()}"
