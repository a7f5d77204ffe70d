"""Every error tocsin raises on purpose, grouped by what a caller would do about it.

::

    TocsinError
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

Plain ``OSError`` still means what it always does: a file or directory of this machine.
"""

from __future__ import annotations

from typing import Any


class TocsinError(Exception):
    """Something tocsin was asked to do cannot be done."""

    def __init__(self, message: str, **attributes: object) -> None:
        super().__init__(message)
        for name, value in attributes.items():
            setattr(self, name, value)
        self._attributes = attributes

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep keyword-only attributes across pickling, which ``BaseException`` would drop."""
        return (_restore, (type(self), str(self), self._attributes))


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

    def __init__(self, message: str, *, what: str, offset: str | None = None) -> None:
        super().__init__(message, what=what, offset=offset)


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

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(message, expected=expected, actual=actual)


class UnsupportedError(TocsinError):
    """The input is valid, but tocsin does not do this."""


class NotFoundError(TocsinError, LookupError):
    """There is no such path, blob, manifest, tag or index."""


class PathError(NotFoundError):
    """A path inside an image is not there, or not what was asked for.

    Attributes:
        path: as asked.
        reason: ``missing``, ``not_directory``, ``directory``, ``special`` (no file with data),
            ``loop`` or ``depth``.
    """

    path: str
    reason: str

    def __init__(self, message: str, *, path: str, reason: str) -> None:
        super().__init__(message, path=path, reason=reason)


class ConflictError(TocsinError):
    """Something is there already, and replacing it was not asked for."""


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

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        url: str | None = None,
        temporary: bool = False,
    ) -> None:
        super().__init__(message, status=status, code=code, url=url, temporary=temporary)


class AuthError(RegistryError):
    """Credentials are missing, wrong, or do not allow this."""
