r"""JSON as Go's ``encoding/json`` reads and writes it.

The digests of manifests depend on the bytes, and the SOCI snapshotter re-serialises what it
fetches, so writing must be Go's to the byte: compact, ``<``, ``>`` and ``&`` as ``\u003c``,
``\u003e`` and ``\u0026``, U+2028 and U+2029 escaped, all else raw; maps sorted by key, structs in
declaration order. Callers give structs as dictionaries in that order and maps through
`sorted_map`; `omit_empty` leaves out what ``omitempty`` would.

Reading is bounded in size and depth. Of equal keys the last wins; half surrogates and invalid
UTF-8 become U+FFFD, one for each byte, as in Go.
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
"""Bytes of a manifest accepted; registries and oras refuse larger ones too."""

MAX_DEPTH = 64
"""Levels of nesting accepted; image manifests need five."""

_GO_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")
# A string that does not end matches too, up to the end of the text. If it failed, each quote that
# is escaped in it would be tried as the start of a string: quadratic time.
_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)


def encode(value: Json) -> bytes:
    """Return `value` as ``json.Marshal`` would print it; dictionaries keep their order."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _HALF_SURROGATE.sub("\ufffd", text).translate(_GO_ESCAPES).encode()


def sorted_map(mapping: Mapping[str, str]) -> dict[str, str]:
    """Return `mapping` in the order Go prints a map: by the bytes of its keys."""
    return dict(sorted(mapping.items()))  # code point order is UTF-8 byte order


def omit_empty(struct: dict[str, Json], *names: str) -> dict[str, Json]:
    """Return `struct` without those of `names` whose value Go calls empty.

    An object of no members stays, as a pointer to a struct does in Go; an empty map is given as
    ``None``.
    """
    return {k: v for k, v in struct.items() if k not in names or not _is_empty(v)}


def _is_empty(value: Json) -> bool:
    return value is None or value is False or value in (0, "", (), [])


def decode_object(data: bytes, *, what: str, max_size: int = MAX_SIZE) -> dict[str, Any]:
    """Return the JSON object in `data`.

    Args:
        data: the whole document, UTF-8.
        what: what the document should be; names it in messages and is `FormatError.what`.
        max_size: bytes accepted.

    Raises:
        FormatError: not JSON, not an object, too large or too deep.
    """
    if len(data) > max_size:
        raise FormatError(f"{what}: got {len(data)} bytes, at most {max_size} allowed", what=what)
    text = _decode_utf8(data)
    _refuse_depth(text, what)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{what}: character {error.pos} is not JSON, {error.msg.lower()}",
            what=what,
            offset=f"character {error.pos}",
        ) from None
    except _ConstantError as error:
        raise FormatError(f"{what}: not JSON, got {error.name}", what=what) from None
    except (ValueError, RecursionError):
        raise FormatError(f"{what}: not JSON, got a number of too many digits", what=what) from None
    if not isinstance(value, dict):
        raise FormatError(f"{what}: got a JSON {kind_of(value)}, wanted an object", what=what)
    return value


def clean_text(text: str) -> str:
    """Return `text` with half surrogates, which JSON can spell, replaced as Go replaces them."""
    return _HALF_SURROGATE.sub("\ufffd", text)


def kind_of(value: object) -> str:
    """Return JSON's word for the type of `value`."""
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
    """One of the numbers that Python reads and JSON has not."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


def _refuse_depth(text: str, what: str) -> None:
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        if match[1]:
            depth += 1
            if depth > MAX_DEPTH:
                raise FormatError(
                    f"{what}: character {match.start()} nests deeper than {MAX_DEPTH} levels",
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
    # Go puts one U+FFFD for each bad byte, Python one for each broken sequence; "surrogateescape"
    # maps each bad byte to one half surrogate.
    return clean_text(data.decode(errors="surrogateescape"))
