"""Redaction of secrets in URLs.

The query contains signatures of object stores and state of upload sessions, and the URLs of proxies
contain passwords before the ``@``. Only query values that the distribution API defines are shown.
Characters that are invalid in a URL, such as blanks, are percent-encoded, so that a URL is one word
in a message.
"""

from __future__ import annotations

import logging
from urllib.parse import quote, unquote, urlsplit

from tocsin.model.user_info import without_user_info

_SHOWN_VALUES = frozenset(
    {"artifactType", "digest", "from", "last", "mount", "n", "ns", "scope", "service"}
)
_MAX_URL_LEN = 500
_MAX_NAME_LEN = 40
_URL_CHARACTERS = "%:/?#[]@!$&'()*+,;=~"
"""Valid characters of a URL besides letters, digits and ``-._``."""


def redact_url(url: str) -> str:
    """Return `url` without user information, fragment and unknown query values."""
    try:
        # Removed first, since a password may contain delimiters of URLs.
        parts = urlsplit(without_user_info(url))
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(invalid URL)"
    text = f"{parts.scheme}://{host}{parts.path}" if host else parts.path or f"{parts.scheme}:"
    if parts.query:
        text += "?" + "&".join(map(_redact_parameter, parts.query.split("&")))
    word = quote(text[: _MAX_URL_LEN + 1], safe=_URL_CHARACTERS, errors="replace")
    return word if len(word) <= _MAX_URL_LEN else f"{word[: _MAX_URL_LEN - 1]}…"


def _redact_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if name in _SHOWN_VALUES:
        return f"{name}={quote(unquote(value), safe=':/,')}" if equals else name
    return f"{name[:_MAX_NAME_LEN]}=REDACTED" if equals else "REDACTED"


class _RedactQueries(logging.Filter):
    """Redacts the path of each request, which urllib3 logs with signatures at level DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                redact_url(arg) if isinstance(arg, str) and "?" in arg else arg
                for arg in record.args
            )
        return True


_REDACT_QUERIES = _RedactQueries()


def silence_signed_urls() -> None:
    """Redact query values in urllib3's debug log; may be called repeatedly."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_REDACT_QUERIES)
