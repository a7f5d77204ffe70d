"""Converts an exception to a message for users, a document for scripts, and an exit code."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.cli import exit_codes
from tocsin.cli.words import printable
from tocsin.errors import (
    EngineError,
    FormatError,
    NotFoundError,
    PathError,
    RegistryError,
    TocsinError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEMPORARY = ".tocsin-"
"""Prefix of temporary file names, as in `tocsin.staged_file`."""
_OTHER_LOCATION = "Write to another location."
_FREE_SPACE = "Free some space, or write to another location."
_PERMISSIONS = "Change the permissions, or run as the owner."
_SYSTEM_ERRORS: dict[int, tuple[str, str | None]] = {
    errno.ENOSPC: ("the disk is full", _FREE_SPACE),
    errno.EDQUOT: ("the disk quota is used up", _FREE_SPACE),
    errno.EACCES: ("permission denied", _PERMISSIONS),
    errno.EPERM: ("operation not permitted", _PERMISSIONS),
    errno.EROFS: ("the file system is read-only", _OTHER_LOCATION),
    errno.EISDIR: ("is a directory, not a file", None),
    errno.ENOTDIR: ("a part of the path is a file, not a directory", None),
    errno.ENOENT: ("no such file or directory", None),
    errno.EMFILE: ("too many open files", "Use fewer --jobs, or raise the limit with ulimit -n."),
}
"""Message and hint for each error number."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure, for users and for scripts.

    Attributes:
        message: one line: what · where.
        hint: what to do about it.
        exit_code: one of `exit_codes`.
        code: a stable identifier, such as ``gzip.crc`` or ``os.enoent``.
        kind: class name of the exception.
        details: attributes of the exception.
    """

    message: str
    hint: str | None
    exit_code: int
    code: str
    kind: str
    details: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the document that ``--json`` prints; see docs/json.md."""
        return {
            "error": {
                "code": self.code,
                "kind": self.kind,
                "message": printable(self.message),
                "hint": self.hint,
                "exit_code": self.exit_code,
                "details": dict(self.details),
            }
        }


def explain(error: Exception) -> Failure:
    """Return `error` as a failure; its notes (PEP 678) say where it happened."""
    where = "".join(f" · {note}" for note in getattr(error, "__notes__", ()))
    kind = type(error).__name__
    match error:
        case TocsinError():
            return Failure(
                error.message + where,
                error.hint,
                _exit_code_of(error),
                error.error_code,
                kind,
                error.details,
            )
        case OSError():
            return _system_failure(error, where)
        case MemoryError():
            hint = "Use fewer --jobs or --threads."
            return Failure(f"out of memory{where}", hint, exit_codes.FAILED, "memory", kind)
        case _:
            return Failure(
                f"bug in tocsin: {kind}: {error}{where}",
                "Run the command again as tocsin --debug … and report the output.",
                exit_codes.FAILED,
                "bug",
                kind,
            )


def wrong_usage(message: str, *, command: str, hint: str | None = None) -> Failure:
    """Return the failure for invalid arguments."""
    hint = hint or f"Show the usage with {command} --help."
    return Failure(message, hint, exit_codes.USAGE, "usage", "UsageError")


def _system_failure(error: OSError, where: str) -> Failure:
    number = error.errno or 0
    what, hint = _SYSTEM_ERRORS.get(number, (_reason(error), None))
    path = None if error.filename is None else _shown_path(error.filename)
    missing = isinstance(error, FileNotFoundError)
    return Failure(
        what + ("" if path is None else f" · {path}") + where,
        hint,
        exit_codes.NOT_FOUND if missing else exit_codes.IO_ERROR,
        f"os.{errno.errorcode[number].lower()}" if number in errno.errorcode else "os",
        type(error).__name__,
        {"path": path},
    )


def _shown_path(filename: object) -> str:
    """Return the path to show: for a temporary file, its directory."""
    path = Path(os.fsdecode(filename)) if isinstance(filename, str | bytes) else Path(str(filename))
    return str(path.parent if path.name.startswith(_TEMPORARY) else path)


def _exit_code_of(error: TocsinError) -> int:
    match error:
        case RegistryError() | EngineError():
            return exit_codes.REGISTRY
        case FormatError(what="reference"):
            return exit_codes.USAGE
        case PathError(reason="directory" | "special" | "loop" | "depth"):
            return exit_codes.FAILED  # it exists, but cannot be read as requested
        case NotFoundError():
            return exit_codes.NOT_FOUND
        case UnsupportedError():
            return exit_codes.UNSUPPORTED
        case _:
            return exit_codes.FAILED


def _reason(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
