"""The exceptions that tocsin raises, grouped by what a caller can do about them.

::

    TocsinError                       .message .hint .error_code .details
    ├── FormatError (ValueError)      malformed input; .what .offset
    │   ├── GzipError
    │   ├── TarError
    │   ├── ZtocError
    │   └── SeekTableError
    ├── VerificationError             a digest or size differs; .expected .actual
    ├── UnsupportedError              valid input that tocsin does not support
    ├── NotFoundError (LookupError)   no such path, blob, manifest or index
    │   └── PathError                 a path inside an image; .path .reason
    ├── EngineError                   an executor of ``tocsin.fleet`` failed or cannot be reached
    ├── ConflictError                 the destination exists and may not be replaced
    └── RegistryError (OSError)       a registry or web server failed; .status .code .url .temporary
        ├── AuthError
        └── ContainerdError           containerd failed or could not be reached

A message is one line without control characters, so it is safe to print. The message says what is
wrong, the hint how to fix it. A hint never contains text from a registry, an archive or a file.

A plain ``OSError`` is about a local file or directory.
"""

from __future__ import annotations

from typing import Any

from tocsin.quoting import escaped

_MAX_MESSAGE_LEN = 4000
"""Maximum characters in a message; a last resort, since quoted text is cut much earlier."""


class TocsinError(Exception):
    """Base class of all errors that tocsin raises.

    Attributes:
        message: what is wrong, on one line; the same as ``str(error)``.
        hint: how to fix it, as an imperative sentence; ``None`` if there is no advice.
        error_code: a stable code for programs, such as ``gzip.crc`` or ``not-found``.
        details: the additional attributes of the class, by name.
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
        """A stable code for programs."""
        return self._error_code

    @property
    def details(self) -> dict[str, object]:
        """The additional attributes of the class, by name."""
        return dict(self._attributes)

    def with_message(self, message: str) -> TocsinError:
        """Return an error with the same class, hint and details but another message."""
        copy = _restore(type(self), message, self._attributes)
        copy.hint = self.hint
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the attributes and notes too, which ``BaseException`` would drop."""
        notes = getattr(self, "__notes__", None)
        state = {"hint": self.hint} | ({"__notes__": list(notes)} if notes else {})
        return (_restore, (type(self), self.message, self._attributes), state)


def _restore(kind: type[TocsinError], message: str, attributes: dict[str, Any]) -> TocsinError:
    return kind(message, **attributes)


class FormatError(TocsinError, ValueError):
    """The input is malformed.

    Attributes:
        what: the stable name of the broken rule, such as ``gzip.crc`` or ``manifest``.
        offset: position of the problem, as text such as ``compressed byte 17``; ``None`` if there
            is no single position.
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
    """A layer is not a valid gzip stream."""


class TarError(FormatError):
    """A layer is not a tar archive that can be indexed."""


class ZtocError(FormatError):
    """A blob is not a valid zTOC."""


class SeekTableError(FormatError):
    """A part of a seek table is not valid."""


class VerificationError(TocsinError):
    """A digest or size does not match; the data must not be used.

    Attributes:
        expected: the digest or size that was declared.
        actual: the digest or size that was found.
    """

    expected: str
    actual: str
    _error_code = "verification"

    def __init__(
        self, message: str, *, expected: str, actual: str, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, expected=expected, actual=actual)


class UnsupportedError(TocsinError):
    """The input is valid, but tocsin does not support it."""

    _error_code = "unsupported"


class NotFoundError(TocsinError, LookupError):
    """A path, blob, manifest, tag or index does not exist."""

    _error_code = "not-found"


class PathError(NotFoundError):
    """A path inside an image does not exist or has the wrong type.

    Attributes:
        path: the path as given by the caller.
        reason: ``missing``, ``not_directory``, ``directory``, ``special`` (not a regular file),
            ``loop`` or ``depth``.
    """

    path: str
    reason: str

    def __init__(self, message: str, *, path: str, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, path=path, reason=reason)

    @property
    def error_code(self) -> str:
        """``path.`` followed by the reason."""
        return f"path.{self.reason}"


class ConflictError(TocsinError):
    """The destination already exists, and replacing it was not requested."""

    _error_code = "conflict"


class EngineError(TocsinError):
    """The executor that runs the tasks of a fleet failed, or cannot be reached."""

    _error_code = "engine"


class RegistryError(TocsinError, OSError):
    """A registry rejected a request or could not be reached.

    Attributes:
        status: the HTTP status, or ``None`` without a response.
        code: the registry's error code, such as ``MANIFEST_UNKNOWN``.
        url: the URL of the request, without secrets.
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
    """Credentials are missing, wrong, or not authorized for the request."""

    _error_code = "registry.auth"


class ContainerdError(RegistryError):
    """containerd rejected a request or could not be reached.

    Attributes:
        code: the gRPC status, such as ``UNAVAILABLE``.
        url: the address of containerd.
        status: always ``None``.
        temporary: whether the same request may succeed later.
    """

    _error_code = "containerd"
