"""Every error tocsin raises on purpose, grouped by what a caller would do about it.

::

    TocsinError                       .message .hint .error_code .details
    ├── FormatError (ValueError)      input is not what it claims; .what .offset
    │   ├── GzipError
    │   ├── TarError
    │   └── ZtocError
    ├── VerificationError             a digest or size differs; .expected .actual
    ├── UnsupportedError              valid, but not done here
    ├── NotFoundError (LookupError)   no such path, blob, manifest or index
    │   └── PathError                 a path inside an image; .path .reason
    ├── ConflictError                 something is there already; forcing would replace it
    └── RegistryError (OSError)       the far side refused; .status .code .url .temporary
        └── AuthError

A message is one line without control characters, so it can be printed as it is. It says what is
wrong, the hint what to do about it. Hints are written by tocsin alone: nothing that comes from a
registry, an archive or a file is ever part of one.

Plain ``OSError`` still means what it always does: a file or directory of this machine.
"""

from __future__ import annotations

from typing import Any

from tocsin.quoting import escaped

_MAX_MESSAGE_LEN = 4000
"""Characters; a message quotes what it is about, and each quotation is short."""


class TocsinError(Exception):
    """Something tocsin was asked to do cannot be done.

    Attributes:
        message: what is wrong, on one line; the same as ``str(error)``.
        hint: what to do about it, an imperative sentence; ``None`` if there is nothing to say.
        error_code: a stable word for programs, such as ``gzip.crc`` or ``not-found``.
        details: the attributes that its class has besides, by name.
    """

    hint: str | None
    _error_code = "failed"

    def __init__(self, message: str, *, hint: str | None = None, **attributes: object) -> None:
        cut = message if len(message) <= _MAX_MESSAGE_LEN else f"{message[:_MAX_MESSAGE_LEN]}…"
        super().__init__(escaped(cut))
        self.hint = hint
        for name, value in attributes.items():
            setattr(self, name, value)
        self._attributes = attributes

    @property
    def message(self) -> str:
        """What is wrong, on one line."""
        return str(self.args[0])

    @property
    def error_code(self) -> str:
        """A stable word for programs."""
        return self._error_code

    @property
    def details(self) -> dict[str, object]:
        """The attributes that this class has besides, by name."""
        return dict(self._attributes)

    def with_message(self, message: str) -> TocsinError:
        """Return an error of the same class, hint and details that says something else."""
        found = _restore(type(self), message, self._attributes)
        found.hint = self.hint
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep attributes and notes across pickling, which ``BaseException`` would drop."""
        notes = getattr(self, "__notes__", None)
        state = {"hint": self.hint} | ({"__notes__": list(notes)} if notes else {})
        return (_restore, (type(self), self.message, self._attributes), state)


def _restore(kind: type[TocsinError], message: str, attributes: dict[str, Any]) -> TocsinError:
    return kind(message, **attributes)


class FormatError(TocsinError, ValueError):
    """Input is not what it claims to be.

    Attributes:
        what: the stable name of the broken rule, such as ``gzip.crc`` or ``manifest``.
        offset: where, as text naming the ruler and position; ``None`` when the whole is meant.
    """

    what: str
    offset: str | None

    def __init__(
        self, message: str, *, what: str, offset: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, what=what, offset=offset)

    @property
    def error_code(self) -> str:
        """The broken rule: `what`."""
        return self.what


class GzipError(FormatError):
    """A layer is not the gzip stream it should be."""


class TarError(FormatError):
    """A layer is not a tar archive that can be indexed."""


class ZtocError(FormatError):
    """A blob is not a zTOC that can be used."""


class VerificationError(TocsinError):
    """A digest or a size differs from what was promised; the bytes must not be used.

    Attributes:
        expected: what was promised.
        actual: what was found.
    """

    expected: str
    actual: str
    _error_code = "verification"

    def __init__(
        self, message: str, *, expected: str, actual: str, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, expected=expected, actual=actual)


class UnsupportedError(TocsinError):
    """The input is valid, but tocsin does not do this."""

    _error_code = "unsupported"


class NotFoundError(TocsinError, LookupError):
    """There is no such path, blob, manifest, tag or index."""

    _error_code = "not-found"


class PathError(NotFoundError):
    """A path inside an image is not there, or not what was asked for.

    Attributes:
        path: as asked.
        reason: ``missing``, ``not_directory``, ``directory``, ``special`` (no file with data),
            ``loop`` or ``depth``.
    """

    path: str
    reason: str

    def __init__(self, message: str, *, path: str, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, path=path, reason=reason)

    @property
    def error_code(self) -> str:
        """``path.`` and the reason."""
        return f"path.{self.reason}"


class ConflictError(TocsinError):
    """Something is there already, and replacing it was not asked for."""

    _error_code = "conflict"


class RegistryError(TocsinError, OSError):
    """A registry refused or could not be reached.

    Attributes:
        status: the HTTP status, or ``None`` when there was no answer.
        code: the registry's error code, such as ``MANIFEST_UNKNOWN``.
        url: the request, without secrets.
        temporary: whether the same request may succeed later.
    """

    status: int | None
    code: str | None
    url: str | None
    temporary: bool
    _error_code = "registry"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        url: str | None = None,
        temporary: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, status=status, code=code, url=url, temporary=temporary)


class AuthError(RegistryError):
    """Credentials are missing, wrong, or do not allow this."""

    _error_code = "registry.auth"
