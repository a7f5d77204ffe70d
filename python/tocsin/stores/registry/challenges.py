"""``WWW-Authenticate``: what a server wants to see before it answers. Source: RFC 9110, 11.6.1."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_LEN = 16 << 10
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (RFC 9110's word for a name)
_PARAMETER = re.compile(
    rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|({_TOKEN}))'
    # A blank in place of the comma is against the RFC, but skopeo and crane take it.
    rf"(?:\s*(?:,|$)|\s+(?={_TOKEN}\s*=))"
)
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|,|$)")
_TOKEN68 = re.compile(r"\s*[A-Za-z0-9._~+/-]+=*\s*(?:,|$)")
_ESCAPE = re.compile(r"\\(.)")
_SEPARATORS = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate.

    Attributes:
        scheme: lower case, such as ``bearer``.
        parameters: by lower-case name.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges in the value of one header, or several joined by commas.

    What follows a syntax error is left out; servers that send one offer nothing usable there.
    """
    header = header[:_MAX_LEN]
    found: list[Challenge] = []
    at = _skip(header, 0)
    while at < len(header) and (scheme := _SCHEME.match(header, at)):
        if "," in scheme[0]:
            at = scheme.end()
            parameters: dict[str, str] = {}
        else:
            parameters, at = _parameters(header, scheme.end())
        found.append(Challenge(scheme[1].lower(), parameters))
        at = _skip(header, at)
    return found


def _parameters(header: str, at: int) -> tuple[dict[str, str], int]:
    parameters: dict[str, str] = {}
    while match := _PARAMETER.match(header, at):
        quoted, plain = match[2], match[3]
        value = plain if quoted is None else _ESCAPE.sub(r"\1", quoted)
        parameters.setdefault(match[1].lower(), value)
        at = _skip(header, match.end())
    if not parameters and (token68 := _TOKEN68.match(header, at)):
        at = token68.end()
    return parameters, at


def _skip(header: str, at: int) -> int:
    match = _SEPARATORS.match(header, at)
    return at if match is None else match.end()
