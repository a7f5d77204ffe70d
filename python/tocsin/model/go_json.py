r"""JSON as read and written by Go's ``encoding/json``.

The digests of manifests depend on their bytes, and the SOCI snapshotter re-encodes what it fetches.
So the output must equal Go's, byte for byte: compact; ``<``, ``>`` and ``&`` as ``\u003c``,
``\u003e`` and ``\u0026``; U+2028 and U+2029 escaped, everything else unescaped; maps sorted by key,
structs in declaration order. Callers pass structs as dictionaries in that order, and maps through
`sorted_map`; `omit_empty` corresponds to ``omitempty``.

Input is limited in size and depth. As in Go, the last of several equal keys wins, and lone
surrogates and bytes that are not UTF-8 become one U+FFFD each.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from tocsin.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json] | None"

MAX_SIZE = 4 << 20
"""Maximum size of a manifest in bytes, the same as in registries and oras."""

MAX_DEPTH = 64
"""Maximum nesting depth; image manifests need five levels."""

_GO_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_SURROGATE = re.compile("[\ud800-\udfff]")
# An unterminated string also matches, up to the end of the text. Otherwise, the search would start
# again at every escaped quote in it, which takes quadratic time.
_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)


def encode(value: Json) -> bytes:
    """Encode `value` as ``json.Marshal`` does; dictionaries keep their order."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _SURROGATE.sub("\ufffd", text).translate(_GO_ESCAPES).encode()


def sorted_map(mapping: Mapping[str, str]) -> dict[str, str]:
    """Return `mapping` in the order in which Go writes a map: sorted by the bytes of the keys."""
    return dict(sorted(mapping.items()))  # code point order is UTF-8 byte order


def omit_empty(struct: dict[str, Json], *names: str) -> dict[str, Json]:
    """Return `struct` without the fields in `names` whose value Go considers empty.

    An empty dictionary is kept, like a pointer to a struct in Go. Callers pass an empty map as
    ``None``.
    """
    return {k: v for k, v in struct.items() if k not in names or not _is_empty(v)}


def _is_empty(value: Json) -> bool:
    return value is None or value is False or value in (0, "", (), [])


def decode_object(data: bytes, *, what: str, max_size: int = MAX_SIZE) -> dict[str, Any]:
    """Decode a JSON object.

    Args:
        data: the whole document in UTF-8.
        what: name of the document in messages, and `FormatError.what`.
        max_size: maximum size of `data` in bytes.

    Raises:
        FormatError: `data` is not JSON, not an object, too large or nested too deeply.
    """
    if len(data) > max_size:
        raise FormatError(
            f"{what}: too large (found {len(data)} bytes, expected at most {max_size})", what=what
        )
    text = _decode_utf8(data)
    _check_depth(text, what)
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{what}: invalid JSON at character {error.pos}: {error.msg.lower()}",
            what=what,
            offset=f"character {error.pos}",
        ) from None
    except _ConstantError as error:
        raise FormatError(f"{what}: invalid JSON: found {error.name}", what=what) from None
    except (ValueError, RecursionError):
        raise FormatError(
            f"{what}: invalid JSON: a number has too many digits", what=what
        ) from None
    if not isinstance(value, dict):
        raise FormatError(f"{what}: found a JSON {kind_of(value)}, expected an object", what=what)
    return value


def clean_text(text: str) -> str:
    """Replace lone surrogates, which JSON escapes can express, as Go does."""
    return _SURROGATE.sub("\ufffd", text)


def kind_of(value: object) -> str:
    """Return the name of the JSON type of `value`."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


class _ConstantError(ValueError):
    """A number such as ``NaN``, which Python accepts but JSON does not allow."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _reject_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


def _check_depth(text: str, what: str) -> None:
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        if match[1]:
            depth += 1
            if depth > MAX_DEPTH:
                raise FormatError(
                    f"{what}: nested deeper than {MAX_DEPTH} levels at character {match.start()}",
                    what=what,
                    offset=f"character {match.start()}",
                )
        elif match[2]:
            depth -= 1


def _decode_utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    # Go writes one U+FFFD per invalid byte, Python one per invalid sequence. "surrogateescape" maps
    # each invalid byte to one lone surrogate.
    return clean_text(data.decode(errors="surrogateescape"))
