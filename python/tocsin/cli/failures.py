"""From an exception to what a person is told, and to the exit code."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

from tocsin.cli import exit_codes
from tocsin.errors import (
    AuthError,
    FormatError,
    NotFoundError,
    PathError,
    RegistryError,
    TocsinError,
    UnsupportedError,
)

HINT = "hint: "
"""What a note of an exception begins with when it says what to do, or that nothing can be done."""

_TEMPORARY = ".tocsin-"
"""What names of `stores.staged_file` and its kin begin with."""
_OTHER_PLACE = "write to another place"
_ADVICE = {
    errno.ENOSPC: ("the disk is full", f"free some space, or {_OTHER_PLACE}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space, or {_OTHER_PLACE}"),
    errno.EACCES: ("permission denied", "change the permissions, or run as the owner"),
    errno.EPERM: ("operation not permitted", "change the permissions, or run as the owner"),
    errno.EROFS: ("the file system is read-only", _OTHER_PLACE),
    errno.EISDIR: ("is a directory, wanted a file", ""),
    errno.ENOTDIR: ("a part of the path is a file, wanted a directory", ""),
    errno.ENOENT: ("no such file or directory", ""),
    errno.EMFILE: ("too many open files", "try fewer --jobs, or raise the limit: ulimit -n"),
}
_LOG_IN = "log in with docker login or podman login, or pass --username and --password-stdin"
_LOOK_AROUND = "see what there is with tocsin ls IMAGE /DIRECTORY, or tocsin find IMAGE"
_LESS_MEMORY = "try fewer --jobs or --threads"
_TRY_AGAIN = "try again: what has been pushed is found and used"


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, for people and for scripts.

    Attributes:
        message: one line: what · where.
        hint: what to do about it; may be empty.
        exit_code: of `exit_codes`.
    """

    message: str
    hint: str
    exit_code: int


def explain(error: Exception) -> Failure:
    """Return what to say about `error`; its notes (PEP 678) say where it happened, or a `HINT`."""
    notes = getattr(error, "__notes__", ())
    where = "".join(f" · {note}" for note in notes if not note.startswith(HINT))
    advice = next((note.removeprefix(HINT) for note in notes if note.startswith(HINT)), None)
    failure = _explain(error, where)
    if advice is None or isinstance(error, OSError):
        return failure
    return replace(failure, message=f"{error}{where}", hint=advice)


def _explain(error: Exception, where: str) -> Failure:
    match error:
        case AuthError():
            # Where credentials were looked for belongs to what is wrong.
            return Failure(f"{error}{where}", _LOG_IN, exit_codes.REGISTRY)
        case RegistryError():
            what, _, hint = str(error).partition("; ")
            hint = hint or (_TRY_AGAIN if error.temporary else "")
            return Failure(what + where, hint, exit_codes.REGISTRY)
        case TocsinError():
            # The library's messages read "place: what is wrong; what to do".
            what, _, hint = str(error).partition("; ")
            code = _code_of(error)
            if isinstance(error, PathError) and code == exit_codes.NOT_FOUND:
                hint = _LOOK_AROUND
            return Failure(what + where, hint, code)
        case OSError():
            what, hint = _ADVICE.get(error.errno or 0, (_strerror(error), ""))
            place = "" if error.filename is None else f" · {_named(error.filename)}"
            missing = isinstance(error, FileNotFoundError)
            code = exit_codes.NOT_FOUND if missing else exit_codes.IO_ERROR
            return Failure(what + place + where, hint, code)
        case MemoryError():
            return Failure(f"out of memory{where}", _LESS_MEMORY, exit_codes.FAILED)
        case _:
            return Failure(
                f"tocsin has a bug: {type(error).__name__}: {error}{where}",
                "run it again as tocsin --debug … and report what it prints",
                exit_codes.FAILED,
            )


def _named(filename: object) -> str:
    """Return the path people know: for a temporary file its directory."""
    path = Path(os.fsdecode(filename)) if isinstance(filename, str | bytes) else Path(str(filename))
    return str(path.parent if path.name.startswith(_TEMPORARY) else path)


def _code_of(error: TocsinError) -> int:
    match error:
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


def _strerror(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
