"""A server that answers each request with arbitrary bytes."""

import socket
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

Handler = Callable[[str, str], Iterable[bytes]]
"""Returns the bytes to send for a method and path; the connection is closed afterwards."""


class RawServer:
    """Listens on loopback until the ``with`` block ends; the handler runs for each connection."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self.requests: list[tuple[str, str]] = []
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._listener.close()

    def wait(self, seconds: float) -> None:
        """Wait, but at most until the test ends."""
        self._stopped.wait(seconds)

    @property
    def running(self) -> bool:
        """Whether the test is still running; endless responses check this."""
        return not self._stopped.is_set()

    def _listen(self) -> None:
        while self.running:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as file:
                method, path, _ = file.readline(65536).decode().split(" ")
                while file.readline(65536) not in (b"\r\n", b""):
                    pass
                self.requests.append((method, path))
                for piece in self._handler(method, path):
                    if not self.running:
                        return
                    connection.sendall(piece)
        except (OSError, ValueError):
            pass


def response(
    body: bytes = b"",
    *,
    status: str = "200 OK",
    media_type: str = "application/json",
    headers: Iterable[str] = (),
    length: int | None = None,
) -> bytes:
    """Return a complete response."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(body) if length is None else length}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
