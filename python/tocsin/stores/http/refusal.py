"""From an answer that refuses to an error that says what the server said."""

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
"""Bytes read of a refusal's body."""
_MAX_CODE_LEN = 60
"""Characters kept of a code; the longest of the specification has 21."""


class Refusal:
    """What an answer other than the wanted one says.

    Attributes:
        status: of HTTP.
        code: of the registry, such as ``MANIFEST_UNKNOWN``; ``None`` when it gave none.
        url: without secrets.
        text: status and code, and the server's own words in quotes.

    Args:
        answer: that refuses.
        data: its body, if it has been read.
    """

    def __init__(self, answer: Answer, data: bytes | None = None) -> None:
        self.status = answer.status
        self.url = redact_url(answer.url)
        self.code, message = _read_error(answer, data)
        code = f" {shown(self.code)}" if self.code else ""
        self.text = f"HTTP {self.status}{code}" + (f": {quoted(message)}" if message else "")
        self._wait = answer.header("Retry-After")

    def error(self, doing: str, *, hint: str | None = None) -> RegistryError:
        """Return the error of `doing`, such as ``push manifest x``, having been refused."""
        kind = AuthError if self.status in _AUTH else RegistryError
        text = f"{doing}: {self.text}"
        if self._wait and self.status in TEMPORARY:
            text += f", asked to try again after {shown(self._wait, limit=40)}"
        return kind(
            text,
            hint=hint,
            status=self.status,
            code=self.code,
            url=self.url,
            temporary=self.status in TEMPORARY,
        )


def _read_error(answer: Answer, data: bytes | None) -> tuple[str | None, str]:
    """Return code and message of the first error in an answer.

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
