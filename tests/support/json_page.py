"""docs/json.md as a schema: the keys that each command prints, and their types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
_SCALARS = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": type(None),
    "object": dict,
}


def sections() -> dict[str, str]:
    """Return the text below each heading of commands (``tocsin ls``) and shapes (``file``)."""
    parts = re.split(r"^##+ (.+)$", PAGE.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def keys_of(section: str) -> dict[str, str]:
    """Return the type of each key path, including those of the section that this one extends."""
    text = sections()[section]
    keys: dict[str, str] = {}
    if above := re.search(r"As for `(.+?)`, and:|All keys of \*(.+?)\*, and:", text):
        keys |= keys_of(above[1] or above[2])
    for key, kind in re.findall(r"^\| `(.+?)` \| (.+?) \|", text, re.M):
        assert key not in keys, f"{section}: {key} twice"
        keys[key] = kind
    return keys


def problems(section: str, document: object, place: str = "") -> list[str]:
    """Return the differences between a document and its description in the page."""
    return _check_object(_nested(keys_of(section)), document, place or section)


def _nested(keys: dict[str, str]) -> dict[str, Any]:
    """Return the type of each key; objects and lists of objects become nested dictionaries."""
    tree: dict[str, Any] = {}
    for path, kind in keys.items():
        here = tree
        *above, last = path.split(".")
        for name in above:
            here = here.setdefault(name, {})
        here[last] = kind
    return tree


def _check_object(keys: dict[str, Any], value: object, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place}: not an object"]
    plain = {name.removesuffix("[]"): name for name in keys}
    found = [f"{place}: {name} is not documented" for name in value.keys() - plain.keys()]
    found += [f"{place}: {name} is missing" for name in plain.keys() - value.keys()]
    for name in plain.keys() & value.keys():
        inner, below = keys[plain[name]], f"{place}.{name}"
        if isinstance(inner, str):
            found += _check_type(inner, value[name], below)
        elif plain[name].endswith("[]"):
            found += _check_list(inner, value[name], below)
        else:
            found += _check_object(inner, value[name], below)
    return found


def _check_list(inner: str | dict[str, Any], value: object, place: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{place}: not a list"]
    check = _check_type if isinstance(inner, str) else _check_object
    return [
        problem
        for at, each in enumerate(value)
        for problem in check(inner, each, f"{place}[{at}]")  # type: ignore[arg-type]
    ]


def _check_type(kind: str, value: object, place: str) -> list[str]:
    if kind.startswith("list of "):
        return _check_list(kind.removeprefix("list of "), value, place)
    if kind == "map of string":
        right = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        return [] if right else [f"{place}: not a {kind}"]
    for each in kind.split(" or "):
        if each.startswith("*"):
            if value is not None:
                return problems(each.strip("*"), value, place)
        elif isinstance(value, _SCALARS[each]) and isinstance(value, bool) == (each == "boolean"):
            return []
    return [f"{place}: {value!r} is not {kind}"]
