"""Writes to stdout and stderr."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from tocsin.cli import secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

_ERROR_HANDLER = "tocsin"
_PLAIN = str.maketrans({"→": "->", "·": "-", "…": "..", "\N{EN DASH}": "-"})
_written: set[str] = set()
"""Names of the streams to which this run has written results."""
_FIRST_SURROGATE, _LAST_SURROGATE = 0xDC80, 0xDCFF


def prepare() -> None:
    """Let both streams accept any text in any locale, and write bytes of file names unchanged."""
    _written.clear()
    codecs.register_error(_ERROR_HANDLER, _encode_with_fallback)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERROR_HANDLER)


def _encode_with_fallback(error: UnicodeError) -> tuple[bytes | str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return b"".join(map(_bytes_of, error.object[error.start : error.end])), error.end


def _bytes_of(character: str) -> bytes:
    code = ord(character)
    if _FIRST_SURROGATE <= code <= _LAST_SURROGATE:
        return bytes([code - 0xDC00])
    return character.translate(_PLAIN).encode("ascii", "replace")


def is_watched(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal of any kind."""
    with suppress(ValueError):  # closed
        return stream is not None and stream.isatty()
    return False


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal with a movable cursor."""
    return os.environ.get("TERM") != "dumb" and is_watched(stream)


def has_style(stream: TextIO | None) -> bool:
    """Return whether `stream` gets colors: it is a terminal, and ``NO_COLOR`` is not set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def styled(text: str, codes: str, stream: TextIO | None) -> str:
    """Return `text` with SGR codes such as ``1;31``, if `stream` gets colors."""
    return f"\x1b[{codes}m{text}\x1b[0m" if has_style(stream) else text


def write_text(text: str) -> None:
    """Write `text` to stdout.

    Raises:
        OSError: writing failed; its ``filename`` is ``stdout``.
    """
    _written.add("stdout")
    with _named_errors():
        _stdout().write(text)


def write_bytes(data: bytes) -> None:
    """Write `data` to stdout unchanged; errors as in `write_text`."""
    _written.add("stdout")
    with _named_errors():
        _stdout().buffer.write(data)


def has_written() -> bool:
    """Return whether this run has written anything to stdout."""
    return "stdout" in _written


def flush() -> None:
    """Flush stdout; errors as in `write_text`."""
    if sys.stdout is not None and not sys.stdout.closed:
        with _named_errors():
            sys.stdout.flush()


def abandon() -> None:
    """Discard everything else written to stdout: its reader is gone, or its disk is full."""
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(null, sys.stdout.fileno())
    os.close(null)


def write_message(text: str) -> None:
    """Write a line to stderr; failures, such as a closed stream, are ignored."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"{secrets.hide(text)}\n")
            sys.stderr.flush()


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "stdout")
    return sys.stdout


class _named_errors:  # noqa: N801 (used as a context manager)
    """Sets ``filename`` to ``stdout`` on any OSError raised inside, unless it has one."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = "stdout"


def lines(text: str) -> Iterator[str]:
    """Return the lines of `text` without trailing whitespace."""
    return (line.rstrip() for line in text.splitlines())
