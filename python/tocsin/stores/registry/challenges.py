"""Parsing of ``WWW-Authenticate``. Source: RFC 9110, 11.6.1."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_LEN = 16 << 10
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (a token in the sense of RFC 9110)
_PARAMETER = re.compile(
    rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|({_TOKEN}))'
    # A blank instead of the comma violates the RFC, but skopeo and crane accept it.
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
        scheme: scheme in lower case, such as ``bearer``.
        parameters: values by name in lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """Parse the value of one header, or of several joined by commas.

    Everything after a syntax error is ignored.
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
