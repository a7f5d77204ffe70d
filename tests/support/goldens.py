"""Golden layers as layers of images: their zTOCs are known from the reference."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def expected() -> dict[str, Any]:
    """Return what the reference made of every golden layer."""
    document = json.loads((GOLDEN / "expected.json").read_text())
    assert isinstance(document, dict)
    return document


def layer(name: str) -> bytes:
    """Return a golden layer."""
    return (GOLDEN / "layers" / name).read_bytes()


def case(name: str, span_size: int = 4 << 20) -> dict[str, Any]:
    """Return what the reference made of one layer at one span size."""
    found = [
        case
        for case in expected()["built"]
        if (case["layer"], case["span_size"]) == (name, span_size)
    ]
    (only,) = found
    assert isinstance(only, dict)
    return only
