"""The API of one repository: URLs, authentication, and conversion of refusals to errors.

Some requests are optional, since they have an alternative: a registry may refuse HEAD, a mount, or
an upload in one request. `attempt` sends them and does not distinguish between refusals: the caller
tries the alternative, and if that fails too, reports the alternative's error.
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
from tocsin.stores.http.status import FORBIDDEN, NOT_FOUND, OK, UNAUTHORIZED
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
"""Hint for a push that failed for a temporary reason."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The API of one repository.

    Attributes:
        name: name in messages, ``docker://host/repository``.
        origin: origin of the registry.
        repository: name of the repository.
        transport: sends the requests.
        authenticator: authorizes the requests.
        clock: the time source.
        write: request permission to push from the start, which saves a second token.
        root: path of the API, which differs for some mirrors.
        namespace: host of the registry that this is a mirror of, sent as the parameter ``ns``;
            empty for the registry itself.
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
        """Return the URL of `path` in this repository; an empty last part adds a final ``/``."""
        below = "/".join(quote(part, safe=":") for part in path)
        url = f"{self.origin}{self.root}/{self.repository}/{below}"
        parameters = dict(query or {}) | ({"ns": self.namespace} if self.namespace else {})
        return url + (f"?{urlencode(parameters, safe=':/')}" if parameters else "")

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
        """Send a request and return the response if its status is one of `expect`.

        Args:
            method: HTTP method.
            url: URL; credentials are sent only if it belongs to the registry.
            doing: the action, for messages.
            expect: accepted statuses.
            actions: actions in this repository that the token must allow.
            also: additional scopes of the token.
            headers: HTTP headers.
            body: body of the request.
            repeat: whether the request is idempotent and can be repeated.
            slow: whether the registry may take long to respond.
            hint: hint of the error if the registry refuses.

        Raises:
            AuthError: status 401 or 403.
            RegistryError: any other status, or no response.
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
            if body is None and self._is_refused(answer) and self.authenticator.search_again():
                answer.discard()
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
        """Send an optional request; return ``None`` if its status is not one of `expect`.

        The request is not repeated after a temporary status, since the caller has an alternative.

        Raises:
            AuthError: the token server denies access, or no credentials were found.
            RegistryError: no response.
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
        requested = PUSH if self.write and actions == PULL else actions
        return Scopes.repository(self.repository, *requested)

    def _authorized(self, send: Callable[..., Answer], url: str, scopes: Scopes) -> Answer:
        """Send a request; if the registry challenges it, send it again with new authorization."""
        is_ours = Origin.of(url) == self.origin
        authorization = self.authenticator.authorization(scopes) if is_ours else None
        answer = send(authorization=authorization)
        if not self._challenges(answer):
            return answer
        challenges = parse_challenges(answer.header("WWW-Authenticate"))
        if not challenges:
            return answer
        reason = Refusal(answer).text
        authorization = self.authenticator.answer(challenges, scopes, authorization, reason)
        return send(authorization=authorization)

    def _no_challenge(self, refusal: Refusal, doing: str) -> AuthError:
        return AuthError(
            f"{self.name}: {doing}: {refusal.text}; cannot authenticate, since the response has no"
            " WWW-Authenticate header",
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
            # The registry's credentials are useless for a host that it redirects to.
            error.hint = self.authenticator.hint if is_ours else None
        elif not error.temporary:
            error.hint = hint
            if refusal.status == _BAD_REQUEST and not refusal.code and self.origin.scheme == "http":
                error.hint = hint or MAYBE_TLS  # TLS servers respond to plain http like this
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
        """Get a whole document; the request is repeated if the connection is lost.

        Args:
            url: URL of the document.
            doing: see `send`.
            expect: see `send`.
            limit: maximum bytes.
            what: kind of the document; `FormatError.what` if it is too large.
            headers: HTTP headers.
        """
        give_up_at = self.clock.monotonic() + self.transport.patience
        tries = self.transport.tries
        for failures in range(1, tries + 1):
            answer = self.send("GET", url, doing=doing, expect=expect, headers=headers)
            try:
                return answer, answer.read(limit, what=what)
            except RegistryError as error:
                is_last = failures == tries or self.clock.monotonic() >= give_up_at
                if is_last or not error.temporary:
                    raise
            self.clock.sleep(self.clock.backoff(failures))
        raise AssertionError  # the last iteration returned or raised

    def has(self, url: str, size: int | None, headers: Mapping[str, str] | None = None) -> bool:
        """Return whether a blob or manifest exists at `url`, with `size` bytes if that is given."""
        answer = self.attempt("HEAD", url, expect={OK, NOT_FOUND}, headers=headers)
        if answer is None:
            doing = f"check for {url.rpartition('/')[2]}"
            expect = {OK, NOT_FOUND}
            answer = self.send("GET", url, doing=doing, expect=expect, headers=headers)
        answer.discard()
        sizes = (None, size)
        return answer.status == OK and (
            size is None or answer.is_encoded or answer.content_length in sizes
        )

    def location(self, answer: Answer, doing: str) -> str:
        """Return the URL in the ``Location`` of a response.

        Raises:
            RegistryError: the header is missing, or its URL is not allowed.
        """
        location = answer.header("Location")
        if not location:
            raise Refusal(answer).error(f"{self.name}: {doing}: Location is missing")
        try:
            return join_location(answer.url, location)
        except RegistryError:
            answer.close()
            raise

    def missing(self, what: str) -> NotFoundError:
        """Return the error for a missing object."""
        return NotFoundError(f"{self.name}: {what}: not found")

    def place(self, kind: str, digest: Digest) -> str:
        """Return the name of a blob or manifest in messages."""
        return f"{self.name}: {kind} {digest}"

    def _is_refused(self, answer: Answer) -> bool:
        """Return whether the registry, not a host it redirected to, refuses the credentials."""
        refusals = UNAUTHORIZED, FORBIDDEN  # ECR answers expired passwords with the latter
        return answer.status in refusals and Origin.of(answer.url) == self.origin

    def _challenges(self, answer: Answer) -> bool:
        """Return whether the registry, not a host it redirected to, requires authentication."""
        return answer.status == UNAUTHORIZED and Origin.of(answer.url) == self.origin
