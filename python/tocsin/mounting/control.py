"""Questions to the process of a mount, over a socket in the runtime directory.

A question is one line of JSON, and so is the answer. The runtime directory is closed to other
users, so any process that reaches the socket may ask.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tocsin.model.document import Document

STATUS = "status"
_MAX_QUESTION_SIZE = 4096
_MAX_ANSWER_SIZE = 1 << 20
_ASKER_TIMEOUT = 1.0
"""Seconds that a mount's process waits for a question."""
ANSWER_TIMEOUT = 5.0
"""Seconds that the process of a mount has for an answer."""
_BACKLOG = 16


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a short name of a socket, since the kernel accepts only 107 bytes."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class ControlSocket:
    """The socket of a mount's process.

    Args:
        path: path of the socket; an existing one is replaced.
        answer: returns the answer to a question; ``None`` if it is unknown.

    Raises:
        OSError: the socket cannot be created.
    """

    def __init__(self, path: Path, answer: Callable[[str], Document | None]) -> None:
        self._answer = answer
        with suppress(FileNotFoundError):
            path.unlink()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(path) as name:
                self._socket.bind(name)
            self._socket.listen(_BACKLOG)
            self._socket.settimeout(0)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait for, which becomes readable when a question arrives."""
        return self._socket.fileno()

    def serve_one(self) -> None:
        """Answer one question; failures of the other process are ignored."""
        with suppress(OSError):
            asker, _ = self._socket.accept()
            with asker:
                asker.settimeout(_ASKER_TIMEOUT)
                question = _read_line(asker, _MAX_QUESTION_SIZE)
                with suppress(ValueError, KeyError, TypeError):
                    answer = self._answer(json.loads(question)["question"])
                    asker.sendall(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def ask(path: Path, question: str, *, timeout: float = ANSWER_TIMEOUT) -> Document | None:
    """Return the answer of a mount's process; ``None`` if it does not answer in time.

    Args:
        path: path of its socket.
        question: such as `STATUS`.
        timeout: seconds to wait.
    """
    with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        with _short(path) as name:
            connection.connect(name)
        connection.sendall(json.dumps({"question": question}).encode() + b"\n")
        answer: Any = json.loads(_read_line(connection, _MAX_ANSWER_SIZE))
        return answer if isinstance(answer, dict) else None
    return None


def _read_line(connection: socket.socket, limit: int) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) <= limit:
        part = connection.recv(limit)
        if not part:
            break
        data += part
    return data
