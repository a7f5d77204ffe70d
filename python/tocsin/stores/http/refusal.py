"""Conversion of error responses to exceptions with the server's message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tocsin.errors import AuthError, RegistryError
from tocsin.quoting import escaped, quoted, shown
from tocsin.stores.http.failures import TEMPORARY
from tocsin.stores.http.redaction import redact_url

if TYPE_CHECKING:
    from tocsin.stores.http.answer import Answer

_AUTH = frozenset({401, 403})
_MAX_BODY = 64 << 10
"""Maximum bytes of the body of an error response that are read."""
_MAX_CODE_LEN = 60
"""Maximum characters of an error code; the longest in the specification has 21."""


class Refusal:
    """An error response.

    Attributes:
        status: HTTP status.
        code: error code of the registry, such as ``MANIFEST_UNKNOWN``; ``None`` if it sent none.
        url: URL without secrets.
        text: status, code, and the server's message in quotes.

    Args:
        answer: the response.
        data: body of the response, if it has been read.
    """

    def __init__(self, answer: Answer, data: bytes | None = None) -> None:
        self.status = answer.status
        self.url = redact_url(answer.url)
        self.code, message = _read_error(answer, data)
        code = f" {shown(self.code)}" if self.code else ""
        self.text = f"HTTP {self.status}{code}" + (f": {quoted(message)}" if message else "")
        self._wait = answer.header("Retry-After")

    def error(self, doing: str, *, hint: str | None = None) -> RegistryError:
        """Return an exception; `doing` is the failed action, such as ``push manifest x``."""
        kind = AuthError if self.status in _AUTH else RegistryError
        text = f"{doing}: {self.text}"
        if self._wait and self.status in TEMPORARY:
            text += f" (Retry-After: {shown(self._wait, limit=40)})"
        return kind(
            text,
            hint=hint,
            status=self.status,
            code=self.code,
            url=self.url,
            temporary=self.status in TEMPORARY,
        )


def _read_error(answer: Answer, data: bytes | None) -> tuple[str | None, str]:
    """Return the code and message of the first error in a response.

    Source: OCI distribution-spec 1.1, "Error Codes".
    """
    try:
        if data is None:
            data = answer.read(_MAX_BODY)
        document: Any = json.loads(data[:_MAX_BODY])
    except (RegistryError, ValueError, RecursionError):  # FormatError is a ValueError
        return None, ""
    if not isinstance(document, dict):
        return None, ""
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else document
    if not isinstance(first, dict):
        return None, ""
    code, message = first.get("code"), first.get("message") or first.get("details")
    return (
        escaped(code[:_MAX_CODE_LEN]) if isinstance(code, str) else None,
        message if isinstance(message, str) else "",
    )
