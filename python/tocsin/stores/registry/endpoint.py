"""The API of one repository: its URLs, its challenges answered, its refusals made errors.

Some requests are optional: a registry may refuse HEAD, a mount, or an upload in one request, and
there is a plain way that does without. They go through `attempt`, for which any refusal is as good
as any other: the plain way is tried next, and its error is the one to show.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from tocsin.errors import AuthError, NotFoundError, RegistryError
from tocsin.stores.http.failures import MAYBE_TLS
from tocsin.stores.http.origin import Origin
from tocsin.stores.http.redirects import join_location
from tocsin.stores.http.refusal import Refusal
from tocsin.stores.http.status import NOT_FOUND, OK, UNAUTHORIZED
from tocsin.stores.registry.challenges import parse_challenges
from tocsin.stores.registry.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from tocsin.model.digest import Digest
    from tocsin.stores.http.answer import Answer
    from tocsin.stores.http.clock import Clock
    from tocsin.stores.http.transport import Transport
    from tocsin.stores.registry.auth import Authenticator

PULL = ("pull",)
PUSH = ("pull", "push")
DELETE = ("pull", "push", "delete")

_BAD_REQUEST = 400
PUSH_AGAIN = "Run the command again; blobs that were already pushed are reused."
"""What to do when something that passes has stopped a push."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The API of one repository.

    Attributes:
        name: how messages call it, ``docker://host/repository``.
        origin: of the registry.
        repository: its name.
        transport: sends.
        authenticator: answers challenges.
        clock: time.
        write: ask for the right to push at once, which saves a second token.
        root: the path of the API, which some mirrors have elsewhere.
        namespace: the registry that this is a mirror of, which it is told; empty for the registry
            itself.
    """

    name: str
    origin: Origin
    repository: str
    transport: Transport
    authenticator: Authenticator
    clock: Clock
    write: bool = False
    root: str = "/v2"
    namespace: str = ""

    def url(self, *path: str, query: Mapping[str, str] | None = None) -> str:
        """Return the URL of `path` below this repository; a last empty part ends it in ``/``."""
        below = "/".join(quote(part, safe=":") for part in path)
        url = f"{self.origin}{self.root}/{self.repository}/{below}"
        asked = dict(query or {}) | ({"ns": self.namespace} if self.namespace else {})
        return url + (f"?{urlencode(asked, safe=':/')}" if asked else "")

    def send(
        self,
        method: str,
        url: str,
        *,
        doing: str,
        expect: Collection[int],
        actions: tuple[str, ...] = PULL,
        also: Scopes | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        repeat: bool = True,
        slow: bool = False,
        hint: str | None = None,
    ) -> Answer:
        """Send a request and return its answer when the status is one of `expect`.

        Args:
            method: of HTTP.
            url: of the registry, or where it sent us; elsewhere no credential is sent.
            doing: what this is for, to begin messages with.
            expect: statuses.
            actions: the scope needed in this repository.
            also: further scopes needed.
            headers: of HTTP.
            body: of the request.
            repeat: whether doing it twice is as good as once.
            slow: the registry may have much to do before it answers.
            hint: what to do when the registry does not do this.

        Raises:
            AuthError: status 401 or 403.
            RegistryError: another status, or no answer.
        """
        scopes = self._scopes(actions) | (also or Scopes())
        send = partial(
            self.transport.send,
            method,
            url,
            headers=headers,
            body=body,
            repeat=repeat,
            slow=slow,
        )
        try:
            answer = self._authorized(send, url, scopes)
            if answer.status in expect:
                return answer
            raise self._refusal(answer, doing, scopes, hint)
        except RegistryError as error:
            if error.temporary and actions == PUSH:
                error.hint = PUSH_AGAIN
            raise

    def attempt(
        self,
        method: str,
        url: str,
        *,
        expect: Collection[int],
        actions: tuple[str, ...] = PULL,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Send a request that the registry may refuse; ``None`` unless its status is of `expect`.

        No status is waited out: whoever gets ``None`` tries the plain way at once.

        Raises:
            AuthError: the token server refuses, or no credential can be offered.
            RegistryError: there was no answer.
        """
        scopes = self._scopes(actions)
        send = partial(
            self.transport.send, method, url, headers=headers, any_status=True, repeat=True
        )
        answer = self._authorized(send, url, scopes)
        if answer.status in expect:
            return answer
        answer.discard()
        return None

    def _scopes(self, actions: tuple[str, ...]) -> Scopes:
        asked = PUSH if self.write and actions == PULL else actions
        return Scopes.repository(self.repository, *asked)

    def _authorized(self, send: Callable[..., Answer], url: str, scopes: Scopes) -> Answer:
        """Send a request, once more with an answer to the challenge if there was one."""
        is_ours = Origin.of(url) == self.origin
        authorization = self.authenticator.authorization(scopes) if is_ours else None
        answer = send(authorization=authorization)
        if not self._challenges(answer):
            return answer
        challenges = parse_challenges(answer.header("WWW-Authenticate"))
        if not challenges:
            return answer
        said = Refusal(answer).text
        authorization = self.authenticator.answer(challenges, scopes, authorization, said)
        return send(authorization=authorization)

    def _no_challenge(self, refusal: Refusal, doing: str) -> AuthError:
        return AuthError(
            f"{self.name}: {doing}: {refusal.text}, and the answer does not say how to log in"
            " (WWW-Authenticate is missing or empty)",
            status=refusal.status,
            code=refusal.code,
            url=refusal.url,
        )

    def _refusal(
        self, answer: Answer, doing: str, scopes: Scopes, hint: str | None
    ) -> RegistryError:
        is_ours = Origin.of(answer.url) == self.origin
        refusal = Refusal(answer)
        if refusal.status == UNAUTHORIZED and is_ours:
            if not parse_challenges(answer.header("WWW-Authenticate")):
                return self._no_challenge(refusal, doing)
            return self.authenticator.refusal(scopes, refusal.text)
        error = refusal.error(f"{self.name}: {doing}")
        if isinstance(error, AuthError):
            # Where a registry redirects to, its credentials are of no use.
            error.hint = self.authenticator.hint if is_ours else None
        elif not error.temporary:
            error.hint = hint
            if refusal.status == _BAD_REQUEST and not refusal.code and self.origin.scheme == "http":
                error.hint = hint or MAYBE_TLS  # so do servers that speak TLS answer plain http
        return error

    def fetch(
        self,
        url: str,
        *,
        doing: str,
        expect: Collection[int],
        limit: int,
        what: str,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Answer, bytes]:
        """Get a document whole, again when the connection breaks in the middle of it.

        Args:
            url: of the document.
            doing: as in `send`.
            expect: as in `send`.
            limit: bytes accepted.
            what: the document should be; `FormatError.what` when it is too long.
            headers: of HTTP.
        """
        give_up_at = self.clock.monotonic() + self.transport.patience
        tries = self.transport.tries
        for failures in range(1, tries + 1):
            answer = self.send("GET", url, doing=doing, expect=expect, headers=headers)
            try:
                return answer, answer.read(limit, what=what)
            except RegistryError as error:
                tired = failures == tries or self.clock.monotonic() >= give_up_at
                if tired or not error.temporary:
                    raise
            self.clock.sleep(self.clock.backoff(failures))
        raise AssertionError  # the last try returned or raised

    def has(self, url: str, size: int | None, headers: Mapping[str, str] | None = None) -> bool:
        """Return whether there is a blob or manifest at `url`, of `size` bytes if that is told."""
        answer = self.attempt("HEAD", url, expect={OK, NOT_FOUND}, headers=headers)
        if answer is None:
            doing = f"look for {url.rpartition('/')[2]}"
            expect = {OK, NOT_FOUND}
            answer = self.send("GET", url, doing=doing, expect=expect, headers=headers)
        answer.discard()
        sizes = (None, size)
        return answer.status == OK and (
            size is None or answer.is_encoded or answer.content_length in sizes
        )

    def location(self, answer: Answer, doing: str) -> str:
        """Return where an answer's ``Location`` points.

        Raises:
            RegistryError: nowhere, or where we must not go.
        """
        location = answer.header("Location")
        if not location:
            raise Refusal(answer).error(f"{self.name}: {doing}: the answer names no Location")
        try:
            return join_location(answer.url, location)
        except RegistryError:
            answer.close()
            raise

    def missing(self, what: str) -> NotFoundError:
        """Return the error of something that is not there."""
        return NotFoundError(f"{self.name}: {what}: is not there")

    def place(self, kind: str, digest: Digest) -> str:
        """Return how messages call a blob or manifest."""
        return f"{self.name}: {kind} {digest}"

    def _challenges(self, answer: Answer) -> bool:
        """Return whether this registry, and not a host it redirected to, wants credentials."""
        return answer.status == UNAUTHORIZED and Origin.of(answer.url) == self.origin
