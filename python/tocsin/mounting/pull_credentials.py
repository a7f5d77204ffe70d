"""Credentials that containerd's clients send along with pulls, in the memory of the snapshotter.

They are never written to disk. The processes of mounts ask for them over a socket when a registry
wants some, and again when it refuses them. A snapshotter that has just been started has none until
the next pull; reads that need the registry fail until then, and work again after it.
"""

from __future__ import annotations

import json
import selectors
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from tocsin.mounting import control
from tocsin.stores.registry.credentials import Credential

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tocsin.model.document import Document

_MAX_COUNT = 1024
"""Number of repositories whose credentials are kept: those of the last pulls."""
_LIFE = 12 * 3600.0
"""Seconds after which a credential is forgotten: those of Amazon ECR are valid for so long."""
_WAIT = 0.5
"""Seconds after which the thread looks whether it should stop."""
_SOURCE = "the pull of the image by Kubernetes"


class PullCredentials:
    """The credentials of the last pulls; may be used by several threads.

    Args:
        path: path of the socket, which is made with the first credential.
        clock: returns a time in seconds that never goes back.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, Credential]] = OrderedDict()
        self._socket: control.ControlSocket | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def give(self, host: str, repository: str, credential: Credential) -> None:
        """Keep the credential for a repository, instead of an earlier one.

        Raises:
            OSError: the socket cannot be made.
        """
        with self._lock:
            self._kept[host, repository] = self._clock() + _LIFE, credential
            self._kept.move_to_end((host, repository))
            while len(self._kept) > _MAX_COUNT:
                self._kept.popitem(last=False)
            if self._socket is None and not self._stop.is_set():
                self.path.parent.mkdir(mode=0o700, exist_ok=True)
                self._socket = control.ControlSocket(self.path, self._answer)
                # A daemon: requests of mounts must not keep the snapshotter from ending.
                self._thread = threading.Thread(target=self._serve, daemon=True)
                self._thread.start()

    def find(self, host: str, repository: str) -> Credential | None:
        """Return the credential for a repository; ``None`` if there is none."""
        with self._lock:
            valid_until, credential = self._kept.get((host, repository), (0.0, None))
            if credential is not None and self._clock() >= valid_until:
                del self._kept[host, repository]
                return None
            return credential

    def close(self) -> None:
        """Stop to answer the processes of mounts, and forget all credentials."""
        self._stop.set()
        with self._lock:
            self._kept.clear()
        if self._thread is not None:
            self._thread.join()
        if self._socket is not None:
            self._socket.close()
            with suppress(OSError):
                self.path.unlink()

    def _answer(self, question: str) -> Document | None:
        host, repository = json.loads(question)
        found = self.find(host, repository)
        return None if found is None else asdict(found)

    def _serve(self) -> None:
        assert self._socket is not None  # noqa: S101 (it was made before this thread)
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket.fileno(), selectors.EVENT_READ)
            while not self._stop.is_set():
                if selector.select(_WAIT):
                    self._socket.serve_one()


def ask_for_credential(path: Path, host: str, repository: str) -> Credential | None:
    """Ask a snapshotter for the credential of a repository; ``None`` if it has none or is away.

    Args:
        path: path of its socket.
        host: host of the registry, as in references.
        repository: name of the repository.
    """
    answer = control.ask(path, json.dumps([host, repository]))
    with suppress(TypeError):
        return None if answer is None else Credential(**answer)
    return None


def pull_credential(
    *,
    username: str = "",
    password: str = "",
    identity_token: str = "",
    registry_token: str = "",
) -> Credential | None:
    """Return the credential of a pull; ``None`` for an anonymous one."""
    if not (username or identity_token or registry_token):
        return None
    return Credential(_SOURCE, username, password, identity_token, registry_token)
