"""What may be shown of URLs and of texts that came from the far side.

Object stores sign URLs in the query, upload sessions keep state there, proxies have passwords
before the ``@``: only the query values this API itself defines are shown.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import quote, unquote, urlsplit

_SHOWN_VALUES = frozenset(
    {"artifactType", "digest", "from", "last", "mount", "n", "scope", "service"}
)
_MAX_URL_LEN = 500
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\u00ac\u00ae-\u02ff\u0370-\u1fff\u3040-\ud7ff]+")


def redact_url(url: str) -> str:
    """Return `url` without user information, fragment and unknown query values."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(no URL)"
    text = f"{parts.scheme}://{host}{parts.path}" if host else parts.path or f"{parts.scheme}:"
    if parts.query:
        text += "?" + "&".join(map(_redact_parameter, parts.query.split("&")))
    return clean(text, limit=_MAX_URL_LEN)


def clean(text: str, *, limit: int = 200) -> str:
    """Return `text` on one line, without control characters, cut to `limit` characters."""
    one_line = _UNPRINTABLE.sub(" ", text).strip()
    return one_line if len(one_line) <= limit else one_line[: limit - 1] + "…"


def _redact_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if name in _SHOWN_VALUES:
        return f"{name}={quote(unquote(value), safe=':/,')}" if equals else name
    return f"{clean(name, limit=40)}=REDACTED" if equals else "REDACTED"


class _RedactQueries(logging.Filter):
    """urllib3 logs the path of each request at DEBUG, signatures and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                redact_url(arg) if isinstance(arg, str) and "?" in arg else arg
                for arg in record.args
            )
        return True


_REDACT_QUERIES = _RedactQueries()


def silence_signed_urls() -> None:
    """Keep query values out of urllib3's own debug log; may be called often."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_REDACT_QUERIES)
