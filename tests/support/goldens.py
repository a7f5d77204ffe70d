"""Golden layers, for which the zTOCs of the reference are known."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def expected() -> dict[str, Any]:
    """Return the results of the reference for all golden layers."""
    document = json.loads((GOLDEN / "expected.json").read_text())
    assert isinstance(document, dict)
    return document


def layer(name: str) -> bytes:
    """Return a golden layer."""
    return (GOLDEN / "layers" / name).read_bytes()


def case(name: str, span_size: int = 4 << 20) -> dict[str, Any]:
    """Return the result of the reference for one layer and span size."""
    found = [
        case
        for case in expected()["built"]
        if (case["layer"], case["span_size"]) == (name, span_size)
    ]
    (only,) = found
    assert isinstance(only, dict)
    return only
