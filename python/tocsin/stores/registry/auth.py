"""Authentication with Basic, or with Bearer tokens from a token server.

Tokens are cached per realm, service and scopes, replaced shortly before they expire, and dropped if
the registry rejects them. The first challenge starts the search for credentials. If they are
rejected, they are searched for again, since passwords expire while an image is mounted. If they
have not changed, the request fails; it is not repeated without credentials.

Source: RFC 7617, 2; distribution/distribution, docs/content/spec/auth/token.md;
distribution/distribution, docs/content/spec/auth/oauth.md.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from tocsin.errors import AuthError, RegistryError
from tocsin.quoting import shown
from tocsin.stores.http.origin import Origin
from tocsin.stores.http.redaction import redact_url
from tocsin.stores.http.redirects import FORWARDED_PROTO
from tocsin.stores.http.refusal import Refusal
from tocsin.stores.registry.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.stores.http.answer import Answer
    from tocsin.stores.http.clock import Clock
    from tocsin.stores.http.transport import Transport
    from tocsin.stores.registry.challenges import Challenge
    from tocsin.stores.registry.credentials import Credential, Search

CLIENT_ID = "tocsin"
_DEFAULT_LIFE = 60.0
"""Lifetime of a token in seconds, if the server does not specify it.

Source: distribution/distribution, docs/content/spec/auth/token.md.
"""

_MAX_LIFE = 86_400.0
"""Maximum lifetime of a token in seconds, whatever the server specifies."""

_EARLY = 10.0
"""Seconds before its expiry at which a token is replaced; at most half its lifetime."""

_SEARCH_INTERVAL = 5.0
"""Seconds from a search for credentials to the next: a search may run a program."""

_MAX_TOKEN_ANSWER = 1 << 20
_OK = 200

_LOG_IN = "Log in with docker login or podman login, or pass --username and --password-stdin."
_OTHER_LOGIN = (
    "Check the permissions of this account, or log in with another one: docker login, podman "
    "login, or --username and --password-stdin."
)
_CORRECT = "Correct that configuration, or pass --username and --password-stdin."


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    replace_at: float


@dataclass(frozen=True, slots=True)
class _Bearer:
    realm: str
    service: str


class Authenticator:
    """Authorization of requests to one repository; may be used by several threads.

    Args:
        place: name of the repository in messages.
        origin: origin of the registry.
        find: searches for credentials; called at the first challenge, and again when credentials
            have been refused.
        transport: sends requests to the token server.
        clock: time source for the expiry of tokens.
    """

    def __init__(
        self,
        place: str,
        origin: Origin,
        find: Callable[[], Search],
        transport: Transport,
        clock: Clock,
    ) -> None:
        self._place = place
        self._origin = origin
        self._find = find
        self._transport = transport
        self._clock = clock
        self._lock = RLock()
        self._search: Search | None = None
        self._searched_at = 0.0
        self._scheme: _Bearer | str | None = None
        self._tokens: dict[tuple[_Bearer, Scopes], _Token] = {}
        self._widened: dict[Scopes, Scopes] = {}
        self._renewed_identity = ""

    def authorization(self, scopes: Scopes) -> str | None:
        """Return the header for a request with `scopes`; ``None`` before the first challenge.

        Raises:
            AuthError: the token server denies access.
        """
        with self._lock:
            match self._scheme:
                case _Bearer() as bearer:
                    return f"Bearer {self._token(bearer, self._widened.get(scopes, scopes))}"
                case "basic":
                    return self._basic()
                case _:
                    return None

    def answer(
        self, challenges: Sequence[Challenge], scopes: Scopes, refused: str | None, said: str
    ) -> str:
        """Return the header to send after status 401.

        Args:
            challenges: challenges of the registry; Bearer is preferred.
            scopes: scopes of the request; those in the challenge are added.
            refused: header of the rejected request.
            said: status and message of the registry.

        Raises:
            AuthError: no other header can be sent.
        """
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        with self._lock:
            if bearer := by_scheme.get("bearer"):
                return self._answer_bearer(bearer, scopes, refused, said)
            if "basic" in by_scheme:
                return self._answer_basic(scopes, refused, said)
        offered = ", ".join(shown(scheme, limit=20) for scheme in by_scheme)
        raise AuthError(
            f"{self._place}: unsupported authentication scheme (found {offered}, expected Basic or "
            "Bearer)",
            status=401,
        )

    def refusal(self, scopes: Scopes, said: str) -> AuthError:
        """Return the error for a request that was refused with the credentials that were found.

        Args:
            scopes: scopes of the request.
            said: status, code and message of the registry or token server.
        """
        search = self._searched()
        if search.credential is None:
            details = f"no credentials found (searched: {'; '.join(search.looked_at)})"
        else:
            details = f"the credentials are from {search.credential.source}"
        requested = f" for scope {shown(str(scopes))}" if scopes.entries else ""
        return AuthError(
            f"{self._place}: access denied{requested}: {said}; {details}",
            status=401,
            url=str(self._origin),
            hint=self.hint,
        )

    @property
    def hint(self) -> str:
        """Hint for missing permissions."""
        known = self._search is not None and self._search.credential is not None
        return _OTHER_LOGIN if known else _LOG_IN

    def _searched(self) -> Search:
        with self._lock:
            if self._search is None:
                try:
                    self._search = self._find()
                except AuthError as error:
                    error.hint = error.hint or _CORRECT
                    raise
                self._searched_at = self._clock.monotonic()
            return self._search

    def search_again(self) -> bool:
        """Search for credentials again, since the last ones were refused.

        Returns:
            Whether others were found.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._search is None or now < self._searched_at + _SEARCH_INTERVAL:
                return False
            self._searched_at = now
            try:
                found = self._find()
            except AuthError:
                return False  # the refusal says more
            if found.credential == self._search.credential:
                return False
            self._search = found
            self._renewed_identity = ""
            self._tokens.clear()
            return True

    def _answer_basic(self, scopes: Scopes, refused: str | None, said: str) -> str:
        header = self._basic()
        if header is None or refused == header:
            header = self._basic() if self.search_again() else None
        if header is None:
            raise self.refusal(scopes, said)
        self._scheme = "basic"
        return header

    def _basic(self) -> str | None:
        credential = self._searched().credential
        return None if credential is None or not credential.password else _basic(credential)

    def _answer_bearer(
        self, challenge: Challenge, scopes: Scopes, refused: str | None, said: str
    ) -> str:
        bearer = self._bearer(challenge)
        widened = scopes | Scopes.parse(challenge.parameters.get("scope", ""))
        self._scheme = bearer
        self._widened[scopes] = widened
        for key, token in list(self._tokens.items()):
            if refused == f"Bearer {token.value}":
                del self._tokens[key]
        header = f"Bearer {self._token(bearer, widened)}"
        if header == refused:  # a registry token, or the token server returned the same token
            if not self.search_again():
                raise self.refusal(widened, said)
            header = f"Bearer {self._token(bearer, widened)}"
        return header

    def _bearer(self, challenge: Challenge) -> _Bearer:
        named = challenge.parameters.get("realm")
        if not named:
            raise AuthError(
                f"{self._place}: no token server: WWW-Authenticate has no realm", status=401
            )
        try:
            realm = urljoin(f"{self._origin}/v2/", named)
            scheme = Origin.of(realm).scheme
        except ValueError:  # raised by urljoin, which parses the URLs
            raise AuthError(
                f"{self._place}: token server: {redact_url(named)}: invalid URL", status=401
            ) from None
        except RegistryError as error:
            raise AuthError(f"{self._place}: token server: {error.message}", status=401) from None
        if scheme == "http" and self._origin.scheme == "https":
            raise AuthError(
                f"{self._place}: token server {redact_url(realm)} refused: plain http, but the "
                "registry uses https",
                status=401,
                hint=FORWARDED_PROTO,
            )
        return _Bearer(realm, challenge.parameters.get("service", ""))

    def _token(self, bearer: _Bearer, scopes: Scopes) -> str:
        try:
            return self._token_now(bearer, scopes)
        except AuthError:
            if not self.search_again():
                raise
            return self._token_now(bearer, scopes)

    def _token_now(self, bearer: _Bearer, scopes: Scopes) -> str:
        credential = self._searched().credential
        if credential is not None and credential.registry_token:
            return credential.registry_token
        now = self._clock.monotonic()
        for (issuer, covered), token in self._tokens.items():
            if issuer == bearer and covered.covers(scopes) and now < token.replace_at:
                return token.value
        with self._ask(bearer, scopes, credential) as answer:
            token = self._read_token(answer, scopes, now)
        self._tokens = {key: t for key, t in self._tokens.items() if now < t.replace_at}
        self._tokens[bearer, scopes] = token
        return token.value

    def _ask(self, bearer: _Bearer, scopes: Scopes, credential: Credential | None) -> Answer:
        if credential is not None and credential.identity_token:
            answer = self._ask_oauth(bearer, scopes, credential.identity_token)
            if answer.status == _OK:
                return answer
            # Some token servers do not support POST; their status codes differ.
            answer.discard()
            password = credential.password or credential.identity_token
            credential = replace(credential, password=password)
        query = [("scope", text) for text in scopes.texts()]
        if bearer.service:
            query.insert(0, ("service", bearer.service))
        if credential is not None and credential.username:
            query.insert(0, ("account", credential.username))
        joint = "&" if urlsplit(bearer.realm).query else "?"
        return self._transport.send(
            "GET",
            bearer.realm + (joint + urlencode(query, safe=":/,*") if query else ""),
            headers={"Accept": "application/json"},
            authorization=None if credential is None else _basic(credential),
            repeat=True,
        )

    def _ask_oauth(self, bearer: _Bearer, scopes: Scopes, identity_token: str) -> Answer:
        form = {
            "grant_type": "refresh_token",
            "service": bearer.service,
            "client_id": CLIENT_ID,
            "scope": str(scopes),
            "refresh_token": self._renewed_identity or identity_token,
        }
        return self._transport.send(
            "POST",
            bearer.realm,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            body=urlencode(form).encode(),
            stay=True,
            repeat=True,
        )

    def _read_token(self, answer: Answer, scopes: Scopes, asked_at: float) -> _Token:
        server = redact_url(answer.url).partition("?")[0]
        if answer.status != _OK:
            refusal = Refusal(answer)
            error = refusal.error(f"{self._place}: token server {server}")
            if error.temporary:
                raise error
            raise self.refusal(scopes, f"{refusal.text} from token server {server}")
        try:
            document: Any = json.loads(answer.read(_MAX_TOKEN_ANSWER))
        except (ValueError, RecursionError):  # FormatError is a ValueError
            document = None
        if not isinstance(document, dict):
            raise AuthError(f"{self._place}: token server {server}: the response is not JSON")
        value = document.get("token") or document.get("access_token")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise AuthError(f"{self._place}: token server {server}: the response has no token")
        renewed = document.get("refresh_token")
        if isinstance(renewed, str) and renewed:
            self._renewed_identity = renewed
        life = document.get("expires_in")
        if not isinstance(life, int | float) or isinstance(life, bool) or not life > 0:
            life = _DEFAULT_LIFE
        life = min(life, _MAX_LIFE)
        return _Token(value, asked_at + life - min(_EARLY, life / 2))


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {b64encode(pair).decode()}"
