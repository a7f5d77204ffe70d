"""Search for credentials: Docker's and podman's files, credential helpers, and ECR.

The first credential for the registry is used. A damaged file or failing helper is an error:
continuing without its credentials could fail later with a less clear error.
"""

from __future__ import annotations

import binascii
import os
import re
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.errors import AuthError, FormatError
from tocsin.log import LOG
from tocsin.model.go_json import decode_object
from tocsin.operating_system import real_user_id
from tocsin.quoting import shown
from tocsin.stores.registry.credential_helper import HelperMissingError, ask_helper
from tocsin.stores.registry.ecr import ambient_ecr_credential, is_ecr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DOCKER_HUB = "docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 (Docker's marker, not a password)
_DOCKER_AUTH_CONFIG = "DOCKER_AUTH_CONFIG"
_MAX_FILE_SIZE = 1 << 20
_GIVEN_TO_SNAPSHOTTER = "the credentials that Kubernetes gave to the snapshotter"
_KEY_SCHEME = re.compile(r"https?://")
_KEY_VERSION = re.compile(r"/v[12]/?")


@dataclass(frozen=True, slots=True)
class Credential:
    """A password, an identity token or a registry token.

    Attributes:
        source: where it was found, for messages.
        username: user name for `password`.
        password: password.
        identity_token: OAuth2 refresh token, which the token server exchanges for access tokens.
        registry_token: access token, which is sent to the registry.
    """

    source: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Search:
    """The result of a search for credentials.

    Attributes:
        credential: the credential; ``None`` if none was found.
        looked_at: the searched places, in order.
    """

    credential: Credential | None
    looked_at: tuple[str, ...]


def find_credential(
    host: str,
    repository: str,
    *,
    explicit: tuple[str, str] | None = None,
    ask: Callable[[str, str], Credential | None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Search:
    """Return the credential for `repository` on `host`.

    Order: `explicit`; `ask`; the file in ``REGISTRY_AUTH_FILE``; Docker's ``config.json``; the
    variable ``DOCKER_AUTH_CONFIG``; podman's ``auth.json``; for ECR, its helper or boto3.

    A configured helper that is not installed is skipped with a warning: public images can be read
    without it, and if access is denied, the error names its configuration.

    Args:
        host: host as in references, with the port.
        repository: name of the repository; podman's files may have credentials per repository or
            namespace.
        explicit: user name and password.
        ask: returns a credential for a host and a repository, or ``None``.
        environ: environment variables; by default, those of this process.

    Raises:
        AuthError: a file is invalid, or a helper failed.
    """
    environ = os.environ if environ is None else environ
    if explicit is not None:
        given = Credential("the given user name and password", *explicit)
        return Search(given, (given.source,))
    looked_at = []
    if ask is not None:
        looked_at.append(_GIVEN_TO_SNAPSHOTTER)
        asked = ask(host, repository)
        if asked is not None:
            return Search(asked, tuple(looked_at))
    for place, document in _documents(environ):
        if document is None:
            looked_at.append(f"{place} (missing)")
            continue
        looked_at.append(place)
        credential = _in_file(document, host, repository, place, looked_at)
        if credential is not None:
            return Search(credential, tuple(looked_at))
    if is_ecr(host):
        found, place = ambient_ecr_credential(host)
        looked_at.append(place)
        if found is not None:
            return Search(Credential(place, *found), tuple(looked_at))
    return Search(None, tuple(looked_at))


def _documents(environ: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the place and content of each document; the content of a missing file is ``None``."""
    for path in _docker_files(environ):
        yield str(path), _read(path)
    if text := environ.get(_DOCKER_AUTH_CONFIG):
        place = f"the variable {_DOCKER_AUTH_CONFIG}"
        yield place, _parse(text.encode(errors="surrogateescape"), place)
    for path in _podman_files(environ):
        yield str(path), _read(path)


def _docker_files(environ: Mapping[str, str]) -> Iterator[Path]:
    if named := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    docker = environ.get("DOCKER_CONFIG")
    yield (Path(docker) if docker else _home(environ) / ".docker") / "config.json"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or "~").expanduser()


def _podman_files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = _home(environ)
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers/auth.json"
    elif (user := real_user_id()) is not None:
        yield Path(f"/run/containers/{user}/auth.json")
    config = environ.get("XDG_CONFIG_HOME")
    yield (Path(config) if config else home / ".config") / "containers/auth.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_SIZE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AuthError(f"credentials: {path}: cannot be read: {error.strerror}") from None
    return _parse(data, str(path))


def _parse(data: bytes, place: str) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        return decode_object(data, what="credentials", max_size=_MAX_FILE_SIZE)
    except FormatError:
        raise AuthError(f"credentials: {place}: not a JSON object") from None


def _in_file(
    document: dict[str, Any], host: str, repository: str, path: str, looked_at: list[str]
) -> Credential | None:
    helpers = _member(document, "credHelpers", dict, path) or {}
    default = _member(document, "credsStore", str, path)
    own = next((helpers[key] for key in _helper_keys(host) if key in helpers), None)
    if own is not None and not isinstance(own, str):
        raise AuthError(f"credentials: {path}: credHelpers: expected names of helpers")
    for helper in dict.fromkeys(name for name in (own, default) if name):
        source = f"docker-credential-{shown(helper)} (named in {path})"
        server = DOCKER_HUB_KEY if host in _DOCKER_HUB_HOSTS else host
        try:
            found = ask_helper(helper, server)
        except HelperMissingError:
            looked_at.append(f"{source}, which is not installed")
            LOG.warning("%s is not installed; continuing without its credentials", source)
            continue
        looked_at.append(source)
        if found is not None:
            username, secret = found
            if username == _IDENTITY_TOKEN_USER:
                return Credential(source, identity_token=secret)
            return Credential(source, username, secret)
    auths = _member(document, "auths", dict, path) or {}
    key = _auths_key(auths, host, repository)
    return None if key is None else _from_entry(auths[key], f"{path}, entry {shown(key)}")


def _helper_keys(host: str) -> list[str]:
    if host in _DOCKER_HUB_HOSTS:
        return [DOCKER_HUB, "index.docker.io", DOCKER_HUB_KEY]
    return [host]


def _auths_key(auths: dict[str, Any], host: str, repository: str) -> str | None:
    """Return the most specific key with a nonempty entry: repository, namespaces, host."""
    usable = [key for key, entry in auths.items() if entry]
    path = repository.split("/")
    for length in range(len(path), 0, -1):
        key = f"{host}/{'/'.join(path[:length])}"
        if key in usable:
            return key
    hosts = _DOCKER_HUB_HOSTS if host in _DOCKER_HUB_HOSTS else {host}
    exact = [key for key in usable if key in hosts]
    legacy = [key for key in usable if _host_of_key(key) in hosts]
    return next(iter([*exact, *legacy]), None)


def _host_of_key(key: str) -> str:
    """Return the host of a key such as ``https://index.docker.io/v1/``; empty for others."""
    scheme = _KEY_SCHEME.match(key)
    host, slash, path = key[scheme.end() if scheme else 0 :].partition("/")
    is_whole_host = not path or _KEY_VERSION.fullmatch(slash + path)
    return host if scheme or is_whole_host else ""


def _from_entry(entry: object, source: str) -> Credential | None:
    if not isinstance(entry, dict):
        raise AuthError(f"credentials: {source}: expected an object")
    username = _member(entry, "username", str, source) or ""
    password = _member(entry, "password", str, source) or ""
    if auth := _member(entry, "auth", str, source):
        username, password = _decode_auth(auth, source)
    identity_token = _member(entry, "identitytoken", str, source) or ""
    registry_token = _member(entry, "registrytoken", str, source) or ""
    if not (identity_token or registry_token or username):
        return None
    return Credential(source, username, password, identity_token, registry_token)


def _decode_auth(auth: str, source: str) -> tuple[str, str]:
    try:
        # Like Go's decoder: line breaks, which base64 and YAML insert, are ignored.
        text = b64decode(re.sub(r"[\r\n]", "", auth), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        text = ""
    username, colon, password = text.rstrip("\0").partition(":")
    if not colon:
        raise AuthError(f"credentials: {source}: auth is not base64 of user:password")
    return username, password


def _member(document: dict[str, Any], name: str, kind: type, place: str) -> Any:  # noqa: ANN401 (JSON)
    value = document.get(name)
    if value is not None and not isinstance(value, kind):
        raise AuthError(f"credentials: {place}: {name}: wrong type of value")
    return value
