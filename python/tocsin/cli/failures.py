"""From an exception to what a person and a script are told, and to the exit code."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.cli import exit_codes
from tocsin.cli.words import printable
from tocsin.errors import (
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
"""What names of `stores.staged_file` and its kin begin with."""
_OTHER_PLACE = "Write to another place."
_FREE_SPACE = "Free some space, or write to another place."
_PERMISSIONS = "Change the permissions, or run as the owner."
_OF_THE_SYSTEM: dict[int, tuple[str, str | None]] = {
    errno.ENOSPC: ("the disk is full", _FREE_SPACE),
    errno.EDQUOT: ("the disk quota is used up", _FREE_SPACE),
    errno.EACCES: ("permission denied", _PERMISSIONS),
    errno.EPERM: ("operation not permitted", _PERMISSIONS),
    errno.EROFS: ("the file system is read-only", _OTHER_PLACE),
    errno.EISDIR: ("is a directory, wanted a file", None),
    errno.ENOTDIR: ("a part of the path is a file, wanted a directory", None),
    errno.ENOENT: ("no such file or directory", None),
    errno.EMFILE: ("too many open files", "Try fewer --jobs, or raise the limit: ulimit -n"),
}
"""What is wrong, and what to do; the numbers say what was being done, such as writing."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, for people and for scripts.

    Attributes:
        message: one line: what · where.
        hint: what to do about it.
        exit_code: of `exit_codes`.
        code: a stable word, such as ``gzip.crc`` or ``os.enoent``.
        kind: the class of the exception.
        details: the attributes of that class.
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
    """Return what to say about `error`; its notes (PEP 678) say where it happened."""
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
            return _of_the_system(error, where)
        case MemoryError():
            hint = "Try fewer --jobs or --threads."
            return Failure(f"out of memory{where}", hint, exit_codes.FAILED, "memory", kind)
        case _:
            return Failure(
                f"tocsin has a bug: {kind}: {error}{where}",
                "Run it again as tocsin --debug … and report what it prints.",
                exit_codes.FAILED,
                "bug",
                kind,
            )


def wrong_usage(message: str, *, command: str, hint: str | None = None) -> Failure:
    """Return what to say about arguments that cannot be understood."""
    return Failure(message, hint or f"{command} --help", exit_codes.USAGE, "usage", "UsageError")


def _of_the_system(error: OSError, where: str) -> Failure:
    number = error.errno or 0
    what, hint = _OF_THE_SYSTEM.get(number, (_reason(error), None))
    path = None if error.filename is None else _named(error.filename)
    missing = isinstance(error, FileNotFoundError)
    return Failure(
        what + ("" if path is None else f" · {path}") + where,
        hint,
        exit_codes.NOT_FOUND if missing else exit_codes.IO_ERROR,
        f"os.{errno.errorcode[number].lower()}" if number in errno.errorcode else "os",
        type(error).__name__,
        {"path": path},
    )


def _named(filename: object) -> str:
    """Return the path people know: for a temporary file its directory."""
    path = Path(os.fsdecode(filename)) if isinstance(filename, str | bytes) else Path(str(filename))
    return str(path.parent if path.name.startswith(_TEMPORARY) else path)


def _exit_code_of(error: TocsinError) -> int:
    match error:
        case RegistryError():
            return exit_codes.REGISTRY
        case FormatError(what="reference"):
            return exit_codes.USAGE
        case PathError(reason="directory" | "special" | "loop" | "depth"):
            return exit_codes.FAILED  # it is there, but not what was asked for
        case NotFoundError():
            return exit_codes.NOT_FOUND
        case UnsupportedError():
            return exit_codes.UNSUPPORTED
        case _:
            return exit_codes.FAILED


def _reason(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
