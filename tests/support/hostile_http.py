"""A complete conversation with a hostile registry, in memory; it may only raise a `TocsinError`.

Only the sockets are fake: http.client, urllib3, requests, and tocsin's stores and decoders are
real. Fake sockets respond immediately, so a conversation takes a millisecond and can be repeated
exactly.
"""

from __future__ import annotations

import io
import os
import socket
import ssl
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any
from unittest import mock

import requests
import urllib3

import tocsin
from support.hostile_image import OCI_MANIFEST, OCTETS, REFERRER
from support.hostile_registry import HOST, REPOSITORY, HostileRegistry
from support.instructions import Instructions
from tocsin.images.coverage import image_coverage, image_indexes
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.reference import RegistryReference, parse_reference
from tocsin.stores.http.clock import Clock
from tocsin.stores.http.http_blob import HttpBlob
from tocsin.stores.http.options import HttpOptions
from tocsin.stores.origins import RepositoryOrigin
from tocsin.stores.registry import RegistryOptions, open_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tocsin.stores.registry import RegistryStore

MAX_REQUESTS = 600
"""Maximum number of requests in one conversation, three times the highest number seen."""

MAX_ERROR_LEN = 5000
"""Maximum number of characters in an error message."""

_IMAGE = f"docker://{HOST}/{REPOSITORY}:1"
_SECRET = "hunter2"  # noqa: S105 (not a real password)


class TooManyRequestsError(AssertionError):
    """A hostile server caused more than `MAX_REQUESTS` requests."""


class _Raw(io.RawIOBase):
    """The bytes that a socket receives, determined at the first read."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        super().__init__()
        self._answer = answer
        self._left: io.BytesIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left is None:
            self._left = io.BytesIO(self._answer())
        return self._left.readinto(buffer)


class _Socket:
    """The methods of a socket that http.client and urllib3 use, for one request per socket."""

    def __init__(self, network: _Network) -> None:
        self._network = network
        self._sent = bytearray()
        # urllib3 polls the descriptor: /dev/null is always readable, like a closed connection.
        self._null = os.open(os.devnull, os.O_RDONLY)

    def sendall(self, data: bytes) -> None:
        self._sent += data

    def makefile(self, *_args: object, **_kwargs: object) -> io.BufferedReader:
        return io.BufferedReader(_Raw(self._answer))

    def fileno(self) -> int:
        return self._null

    def settimeout(self, seconds: float | None) -> None:
        pass

    def gettimeout(self) -> float:
        return 5.0

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

    def __del__(self) -> None:
        self.close()

    def _answer(self) -> bytes:
        head, _, _ = bytes(self._sent).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        return self._network.answer(method, path, headers)


class _Network:
    """All connections of one conversation."""

    def __init__(self, registry: HostileRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self.requests: list[tuple[str, str]] = []

    def connect(self, address: tuple[str, int], *_args: object, **_kwargs: object) -> _Socket:
        if address[0].strip("[]") not in ("127.0.0.1", "localhost", "::1"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return _Socket(self)

    def answer(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        with self._lock:
            self.requests.append((method, path))
            if len(self.requests) > MAX_REQUESTS:
                raise TooManyRequestsError(f"{len(self.requests)}: {self.requests[-5:]}")
            return self._registry.answer(method, path, headers)


def _no_tls(_connection: object) -> None:
    raise ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")


def _patches(network: _Network) -> Iterator[AbstractContextManager[Any]]:
    """Yield patches that replace sockets, TLS and this machine's proxies."""
    yield mock.patch.object(urllib3.util.connection, "create_connection", network.connect)
    yield mock.patch.object(urllib3.connection.HTTPSConnection, "connect", _no_tls)
    yield mock.patch.object(requests.sessions, "get_environ_proxies", return_value={})


class Conversation:
    """A hostile registry, and one operation that uses it.

    Args:
        data: instructions that determine both.

    Attributes:
        error: error of the operation, or ``None``.
        requests: method and path of each request.
    """

    def __init__(self, data: bytes) -> None:
        self._instructions = Instructions(data)
        self._operation = self._instructions.pick(OPERATIONS)
        self._anonymous = not self._instructions.below(2)
        self._registry = HostileRegistry(self._instructions)
        self._network = _Network(self._registry)
        self.requests = self._network.requests
        self.error: tocsin.TocsinError | None = None
        with ExitStack() as stack:
            for patch in _patches(self._network):
                stack.enter_context(patch)
            try:
                self._operation(self)
            except tocsin.TocsinError as error:
                self.error = error
        if self.error is not None:
            check_message(self.error)

    @property
    def options(self) -> RegistryOptions:
        """Options to connect to the registry."""
        clock = Clock(sleep=lambda _seconds: None, jitter=lambda: 0.5)
        return RegistryOptions(
            plain_http=True,
            timeout=5,
            jobs=1,
            username=None if self._anonymous else "someone",
            password=None if self._anonymous else _SECRET,
            _clock=clock,
        )

    def store(self) -> RegistryStore:
        """Return the repository."""
        reference = parse_reference(_IMAGE)
        assert isinstance(reference, RegistryReference)
        return open_repository(reference, self.options)

    def some_blob(self) -> Descriptor:
        """Return the descriptor of a document in the registry; its size may be wrong."""
        documents = self._registry.image.documents
        digest = self._instructions.pick(list(documents))
        size = self._instructions.pick([len(documents[digest][1]), 0, 1, 1 << 50])
        return Descriptor(OCTETS, Digest.parse(digest), size)


def check_message(error: tocsin.TocsinError) -> None:
    """Check that a message is one short printable line without secrets."""
    assert error.message.isprintable(), error
    assert len(error.message) <= MAX_ERROR_LEN
    for text in (error.message, error.hint or "", repr(error.details)):
        assert "secret" not in text, text
        assert _SECRET not in text, text


def _with_store(use: Callable[[RegistryStore], object]) -> Callable[[Conversation], None]:
    def operation(conversation: Conversation) -> None:
        with conversation.store() as store:
            use(store)

    return operation


def _resolve(store: RegistryStore) -> None:
    store.manifest(store.resolve("1"))


def _put_manifest(store: RegistryStore) -> None:
    with closing(store):
        store.put_manifest(REFERRER, OCI_MANIFEST)


def _take_over(store: RegistryStore) -> None:
    other = RepositoryOrigin(store.origin.registry, "other")
    store.take_over(Descriptor(OCTETS, Digest.of(b"x"), 1), other)


def _read_blob(conversation: Conversation) -> None:
    descriptor = conversation.some_blob()
    with conversation.store() as store:
        store.has_blob(descriptor)
        for _ in store.blob(descriptor):
            pass


def _read_range(conversation: Conversation) -> None:
    descriptor = conversation.some_blob()
    with conversation.store() as store:
        start = descriptor.size // 2
        store.blob_range(descriptor, start, min(descriptor.size, start + (1 << 20)))


def _read_files(conversation: Conversation) -> None:
    with tocsin.open(_IMAGE, registry=conversation.options) as image:
        for path in list(image.walk("/"))[:20]:
            assert path is not None
        image.cat("/etc/os-release")


def _read_url(conversation: Conversation) -> None:
    options = conversation.options
    http = HttpOptions(timeout=options.timeout, _clock=options._clock)
    with closing(HttpBlob(f"http://{HOST}/layer?X-Signature=secret", http)) as blob:
        blob.read(0, min(blob.size, 100))


OPERATIONS: list[Callable[[Conversation], None]] = [
    _with_store(_resolve),
    _with_store(lambda store: store.tags()),
    _with_store(lambda store: store.referrers(Digest.of(b"subject"))),
    _with_store(lambda store: image_coverage(store, store.resolve("1"))),
    _with_store(lambda store: image_indexes(store, store.resolve("1"))),
    _read_blob,
    _read_range,
    _read_files,
    _read_url,
    _with_store(lambda store: store.put_blob(b"some bytes")),
    _with_store(lambda store: store.put_blob(iter([b"some", b"bytes"]))),
    _with_store(
        lambda store: store.put_blob([b"x" * 100] * 3, digest=Digest.of(b"x" * 300), size=300)
    ),
    _with_store(_put_manifest),
    _with_store(lambda store: store.tag(store.resolve("1"), "2")),
    _with_store(lambda store: store.delete(store.resolve("1"))),
    _with_store(lambda store: store.delete_tag("1")),
    _with_store(_take_over),
]
