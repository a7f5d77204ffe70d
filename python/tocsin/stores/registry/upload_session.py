"""Upload sessions of a registry: opened, filled in order, and closed with the digest.

Source: OCI distribution-spec 1.1, "Pushing a blob in chunks". The ``Location`` of a session may
change with each response and may contain state, so the latest one is used.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tocsin.errors import AuthError, FormatError, RegistryError, UnsupportedError
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCTET_STREAM
from tocsin.stores.http.refusal import Refusal
from tocsin.stores.http.status import ACCEPTED, CREATED, NO_CONTENT, NOT_FOUND, OK
from tocsin.stores.http.transport import MAX_TRIES
from tocsin.stores.registry.endpoint import PUSH, PUSH_AGAIN
from tocsin.stores.verification import digest_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tocsin.stores.http.answer import Answer
    from tocsin.stores.registry.endpoint import Endpoint

_DONE = frozenset({OK, CREATED, ACCEPTED, NO_CONTENT})
_OUT_OF_ORDER = 416
_ANY_STATUS = range(600)
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})")
_OCTETS = {"Content-Type": OCTET_STREAM}


class SessionLostError(Exception):
    """The registry no longer has the session, or lost some of its bytes."""


class MethodRefusedError(Exception):
    """The registry refuses this method of uploading, and has stored nothing.

    Attributes:
        error: the error to report if there is no other method.
    """

    def __init__(self, error: RegistryError) -> None:
        super().__init__(error.message)
        self.error = error


class UploadSession:
    """An open session.

    Args:
        endpoint: endpoint of the repository.
        url: URL of the session.
        least_chunk: minimum bytes of every chunk but the last.

    Attributes:
        confirmed: number of bytes that the registry has confirmed.
        least_chunk: see above.
    """

    def __init__(self, endpoint: Endpoint, url: str, least_chunk: int = 0) -> None:
        self._endpoint = endpoint
        self._url = url
        self.least_chunk = least_chunk
        self.confirmed = 0

    @classmethod
    def start(cls, endpoint: Endpoint) -> Self:
        """Open a session.

        Raises:
            RegistryError: the registry refuses.
        """
        answer = endpoint.send(
            "POST",
            endpoint.url("blobs", "uploads", ""),
            doing="start upload",
            expect={ACCEPTED},
            actions=PUSH,
        )
        url = endpoint.location(answer, "start upload")
        least = answer.header("OCI-Chunk-Min-Length").strip()
        answer.discard()
        return cls(endpoint, url, int(least[:19]) if least.isascii() and least.isdigit() else 0)

    def send_chunk(self, chunk: bytes) -> None:
        """Upload the next bytes, with several requests if necessary.

        Raises:
            MethodRefusedError: the registry refuses chunks.
            SessionLostError: the session, or bytes before this chunk, were lost.
            RegistryError: any other refusal.
        """
        begin = self.confirmed
        clock = self._endpoint.clock
        for failures in range(1, MAX_TRIES + 1):
            reached = self._send_part(chunk[self.confirmed - begin :])
            if not begin <= reached <= begin + len(chunk):
                raise SessionLostError(f"wrong offset (found {reached}, expected {begin})")
            self.confirmed = reached
            if reached == begin + len(chunk):
                return
            clock.sleep(clock.backoff(failures))
        raise MethodRefusedError(
            RegistryError(
                f"{self._endpoint.name}: upload: no progress at byte {self.confirmed} after "
                f"{MAX_TRIES} attempts",
                temporary=True,
                hint=PUSH_AGAIN,
            )
        )

    def send_rest(self, body: Iterable[bytes]) -> None:
        """Upload all bytes in one request of unknown length; call `close` afterwards.

        Raises:
            SessionLostError: the request failed; `body` may be partly consumed.
        """
        answer = self._once("PATCH", body, expect=_DONE)
        self._moved(answer)
        answer.discard()

    def close_with(self, digest: Digest, body: Iterable[bytes]) -> None:
        """Upload all bytes and close the session, in one request; ``len(body)`` is their number.

        Raises:
            SessionLostError: the request failed; `body` may be partly consumed.
        """
        answer = self._once("PUT", body, expect=_DONE, url=self._closing_url(digest))
        self._check_digest(answer, digest)
        answer.discard()

    def put_all(self, data: bytes, digest: Digest) -> None:
        """Upload a blob and close the session, in one request.

        Raises:
            MethodRefusedError: the request failed; the session may have some of the bytes, so it
                must not be used again.
            VerificationError: the registry computed a different digest.
        """
        try:
            answer = self._endpoint.send(
                "PUT",
                self._closing_url(digest),
                doing=f"upload blob {digest}",
                expect=_DONE,
                actions=PUSH,
                headers=_OCTETS,
                body=data,
                repeat=False,
                slow=True,
            )
        except RegistryError as error:
            if self._has_arrived(digest, len(data)):
                return
            raise MethodRefusedError(error) from None
        self._check_digest(answer, digest)
        answer.discard()

    def close(self, digest: Digest, size: int) -> None:
        """Close the session with the digest of the uploaded blob.

        Raises:
            SessionLostError: the blob has to be uploaded again.
            RegistryError: any other refusal.
        """
        endpoint = self._endpoint
        for failures in range(1, MAX_TRIES + 1):
            try:
                answer = endpoint.send(
                    "PUT",
                    self._closing_url(digest),
                    doing=f"upload blob {digest}",
                    expect={*_DONE, NOT_FOUND},
                    actions=PUSH,
                    headers=_OCTETS,
                    body=b"",
                    repeat=False,
                    slow=True,  # registries may copy the blob in an object store
                )
            except RegistryError as error:
                if not error.temporary or failures == MAX_TRIES:
                    raise
                if self._has_arrived(digest, size):  # only the response was lost
                    return
                endpoint.clock.sleep(endpoint.clock.backoff(failures))
                continue
            if answer.status in _DONE:
                self._check_digest(answer, digest)
                answer.discard()
                return
            refusal = Refusal(answer)
            if self._has_arrived(digest, size):
                return
            raise SessionLostError(refusal.text)
        raise AssertionError  # the last iteration returned or raised

    def cancel(self) -> None:
        """Delete the session from the registry; failures are ignored."""
        with suppress(RegistryError):
            self._endpoint.send(
                "DELETE",
                self._url,
                doing="cancel upload",
                expect=_ANY_STATUS,
                actions=PUSH,
                repeat=False,
            ).discard()

    def _has_arrived(self, digest: Digest, size: int) -> bool:
        """Return whether the blob exists even though its upload seems to have failed."""
        with suppress(RegistryError):
            return self._endpoint.has(self._endpoint.url("blobs", str(digest)), size)
        return False

    def _send_part(self, part: bytes) -> int:
        """Send a part of a chunk; return how many bytes of the blob the registry then has."""
        start = self.confirmed
        try:
            answer = self._endpoint.send(
                "PATCH",
                self._url,
                doing=f"upload from byte {start}",
                expect={*_DONE, NOT_FOUND, _OUT_OF_ORDER},
                actions=PUSH,
                headers={**_OCTETS, "Content-Range": f"{start}-{start + len(part) - 1}"},
                body=part,
                repeat=False,
            )
        except RegistryError as error:
            if error.temporary:
                return self._ask(error.message)
            # After an accepted chunk, status 403 does not mean that chunks are not supported.
            if error.status is None or (isinstance(error, AuthError) and start):
                raise
            raise MethodRefusedError(error) from None
        if answer.status in _DONE:
            self._moved(answer)
            answer.discard()
            reached = self._reached(answer)
            return start + len(part) if reached is None else reached
        refusal = Refusal(answer)
        if answer.status == NOT_FOUND:
            raise SessionLostError(refusal.text)
        reached = self._ask(refusal.text)
        if reached == 0 == start:
            raise MethodRefusedError(refusal.error(f"{self._endpoint.name}: upload in chunks"))
        return reached

    def _ask(self, reason: str) -> int:
        """Return how many bytes the registry has; `reason` says why the number is unknown."""
        try:
            answer = self._endpoint.send(
                "GET", self._url, doing="get the state of the upload", expect=_DONE, actions=PUSH
            )
        except AuthError:
            raise
        except RegistryError as error:
            raise SessionLostError(f"{reason}; then {error}") from None
        self._moved(answer)
        answer.discard()
        reached = self._reached(answer)
        if reached is None:
            raise SessionLostError(reason)
        return reached

    def _reached(self, answer: Answer) -> int | None:
        match = _RANGE.fullmatch(answer.header("Range").strip())
        if match is None:
            return None
        # docker-registry sends 0-0 for 0 bytes and for 1 byte; the first part is always longer.
        return int(match[1]) + 1 if int(match[1]) else 0

    def _once(
        self,
        method: str,
        body: Iterable[bytes],
        *,
        expect: Collection[int],
        url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        try:
            return self._endpoint.send(
                method,
                url or self._url,
                doing="upload blob in one request",
                expect=expect,
                actions=PUSH,
                headers={**_OCTETS, **(headers or {})},
                body=body,
                repeat=False,
                slow=True,
            )
        except AuthError:
            raise
        except RegistryError as error:
            if not error.temporary and error.status != NOT_FOUND:
                raise
            raise SessionLostError(error.message) from None

    def _moved(self, answer: Answer) -> None:
        if answer.header("Location"):
            self._url = self._endpoint.location(answer, "upload")

    def _closing_url(self, digest: Digest) -> str:
        return f"{self._url}{'&' if urlsplit(self._url).query else '?'}digest={digest}"

    def _check_digest(self, answer: Answer, digest: Digest) -> None:
        with suppress(FormatError, UnsupportedError):
            named = Digest.parse(answer.header("Docker-Content-Digest"))
            if named != digest:
                raise digest_error(
                    f"{self._endpoint.name}: uploaded blob", expected=digest, actual=named
                )
