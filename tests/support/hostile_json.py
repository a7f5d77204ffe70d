"""JSON documents in which one value is replaced with something that no honest server sends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.instructions import Instructions

_HOLE = "\0hole\0"

VALUES = [
    "null",
    "-1",
    "0",
    "true",
    '""',
    "[]",
    "{}",
    "1e999",
    "-0.0",
    "1.5",
    "NaN",
    "9" * 400,
    "9" * 5000,
    "9223372036854775807",
    "9223372036854775808",
    "1" + "0" * 15,
    '"\\u0000"',
    '"\\ud800"',
    '"\\u202e\\u001b[31m"',
    '"../../etc/passwd"',
    '"sha256:"',
    '"sha256:' + "0" * 64 + '"',
    '"sha512:' + "a" * 128 + '"',
    '"http://user:pw@127.0.0.1:1/"',
    '"' + "x" * 70_000 + '"',
    '"' + '\\"' * 30_000,
    "[" * 70_000,
    '{"a":' * 70 + "1" + "}" * 70,
    "[" + ",".join(["{}"] * 11_000) + "]",
    "[null]",
    '[{"digest":null}]',
    "tru",
    "'x'",
    "\ufeff1",
]
"""Replacements: unusual JSON values, and text that is not valid JSON."""


def spoil(document: Any, instructions: Instructions) -> bytes:
    """Return a JSON document with one value, or the whole document, replaced."""
    value = instructions.pick(VALUES)
    position = instructions.byte()
    count = 0

    def visit(node: Any) -> Any:
        nonlocal count
        count += 1
        if count == position + 1:
            return _HOLE
        if isinstance(node, dict):
            return {key: visit(each) for key, each in node.items()}
        if isinstance(node, list):
            return [visit(each) for each in node]
        return node

    text = json.dumps(visit(document))
    return text.replace(json.dumps(_HOLE), value).encode()
