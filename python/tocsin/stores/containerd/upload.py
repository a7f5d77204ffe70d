"""Writes one blob to containerd, in pieces that it acknowledges."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import grpc

from tocsin.containerd_api import messages_pb2 as messages
from tocsin.errors import TocsinError
from tocsin.stores.containerd.failures import code_of, timed_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from tocsin.model.digest import Digest
    from tocsin.stores.containerd.client import Client

_PATIENCE = 300
"""Seconds for one answer: committing flushes the whole blob to disk."""
_CLOSE_PATIENCE = 10
_MAX_OUTSTANDING = 3
"""Requests without an answer: enough to keep both sides busy, with few pieces in memory."""
_MAX_PIECE = 4 << 20
"""Bytes of one request, well below containerd's limit of 16 MiB for a message."""


class Upload:
    """One blob that is written; leaving the ``with`` block discards it unless it was committed.

    Args:
        client: the connection.
        lease: the lease that protects the blob until something refers to it.
        place: name of the blob in messages.
    """

    def __init__(self, client: Client, lease: str, place: str) -> None:
        self._client = client
        self._place = place
        self._ref = f"tocsin-{uuid4().hex}"
        self._requests: queue.SimpleQueue[messages.WriteContentRequest | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[messages.WriteContentResponse | grpc.RpcError | None] = (
            queue.SimpleQueue()
        )
        self._outstanding = 0
        self._offset = 0
        self._committed = False
        self._call = client.write(self._sent(), lease)
        self._receiver = threading.Thread(target=self._receive, daemon=True)
        self._receiver.start()

    def write(self, piece: bytes) -> None:
        """Write the next bytes.

        Raises:
            ContainerdError: containerd failed or did not answer.
        """
        for start in range(0, len(piece), _MAX_PIECE):
            data = piece[start : start + _MAX_PIECE]
            self._send(action=messages.WRITE_WRITE, offset=self._offset, data=data)
            self._offset += len(data)
            while self._outstanding >= _MAX_OUTSTANDING:
                self._answer()

    def offer(self, digest: Digest, size: int) -> bool:
        """Return whether another namespace has the blob, so that it need not be written."""
        self._send(action=messages.WRITE_STAT, total=size, expected=str(digest))
        self._offset = self._answer().offset
        return self._offset == size

    def commit(self, digest: Digest, labels: Mapping[str, str]) -> None:
        """Finish the blob; that it already exists is not an error.

        Raises:
            ContainerdError: containerd failed, or received other bytes.
        """
        self._send(
            action=messages.WRITE_COMMIT,
            total=self._offset,
            offset=self._offset,
            expected=str(digest),
            labels=dict(labels),
        )
        while self._outstanding:
            self._answer()
        self._committed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # containerd closes the blob before this side sees the end of the call.
        self._requests.put(None)
        self._receiver.join(_CLOSE_PATIENCE)
        self._call.cancel()
        if not self._committed:
            # Without this, containerd discards it when the lease ends.
            with suppress(TocsinError):
                self._client.abort(self._ref)

    def _send(
        self,
        *,
        action: messages.WriteAction,
        offset: int = 0,
        total: int = 0,
        expected: str = "",
        data: bytes = b"",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._outstanding += 1
        self._requests.put(
            messages.WriteContentRequest(
                action=action,
                ref=self._ref,
                offset=offset,
                total=total,
                expected=expected,
                data=data,
                labels=labels,
            )
        )

    def _answer(self) -> messages.WriteContentResponse:
        try:
            answer = self._answers.get(timeout=_PATIENCE)
        except queue.Empty:
            self._call.cancel()
            raise timed_out(self._place, self._client.address) from None
        if answer is None:
            # containerd ends a call only after the last answer or with an error.
            raise timed_out(self._place, self._client.address)
        if isinstance(answer, messages.WriteContentResponse):
            self._outstanding -= 1
            return answer
        if code_of(answer) is grpc.StatusCode.ALREADY_EXISTS:
            self._outstanding = 0
            return messages.WriteContentResponse()
        raise self._client.failure(answer, self._place)

    def _sent(self) -> Iterator[messages.WriteContentRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _receive(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(error)
        else:
            self._answers.put(None)
