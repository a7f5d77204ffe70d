"""containerd's ``hosts.toml``: the hosts to use for a registry, and their settings.

The hosts directory has a subdirectory per registry: ``HOST_PORT_``, ``HOST:PORT`` or ``_default``.
If its ``hosts.toml`` is missing or empty, the certificates in the subdirectory are used, as in
``certs.d``. Unlike in containerd, an invalid file is an error: its purpose may be to prevent
requests to the registry itself.

Source: containerd/containerd, docs/hosts.md; containerd/containerd,
core/remotes/docker/config/hosts.go.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tocsin.errors import FormatError
from tocsin.quoting import shown
from tocsin.stores.http.origin import url_problem
from tocsin.stores.http.redaction import redact_url
from tocsin.stores.registry.certificates import (
    Certificates,
    certificates_in,
    check_client,
    holds_authority,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PULL, RESOLVE, PUSH = "pull", "resolve", "push"
ALL = frozenset({PULL, RESOLVE, PUSH})
"""Reading by digest; resolving tags; writing."""

API_ROOT = "/v2"
_FILE = "hosts.toml"
_DEFAULT = "_default"
_MAX_FILE_SIZE = 1 << 20
_MAX_HOSTS = 100
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Host:
    """One host to use for a registry, or the registry itself.

    Attributes:
        server: scheme, host and port; empty for the registry itself.
        root: path of the API.
        capabilities: a subset of `ALL`.
        certificates: certificates for the host.
        skip_verify: whether to accept any certificate; ``None`` if not specified.
        headers: headers that are sent with every request to the host.
    """

    server: str = ""
    root: str = API_ROOT
    capabilities: frozenset[str] = ALL
    certificates: Certificates = field(default_factory=Certificates)
    skip_verify: bool | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def configures_tls(self) -> bool:
        """Whether the file has settings for TLS."""
        return self.skip_verify is not None or self.certificates != Certificates()


def read_hosts(directory: Path, registry: str) -> tuple[Host, ...]:
    """Return the hosts for `registry` in order; the last one is its server.

    Args:
        directory: the hosts directory.
        registry: host of the registry as in references, with the port.

    Raises:
        FormatError: a file is invalid; `what` is ``hosts.toml``.
        RegistryError: a certificate is invalid.
        OSError: `directory` is missing, or a file cannot be read.
    """
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory}: not a directory")
    for name in _names(registry):
        if (place := directory / name).is_dir():
            return _hosts_in(place)
    return (Host(),)


def _names(registry: str) -> list[str]:
    host, colon, port = registry.rpartition(":")
    with_port = [f"{host}_{port}_"] if colon and host else []
    return [*with_port, registry, _DEFAULT]


def _hosts_in(place: Path) -> tuple[Host, ...]:
    file = place / _FILE
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_FILE_SIZE + 1)
    except FileNotFoundError:
        data = b""
    if not data:
        return (Host(certificates=certificates_in(place)),)
    if len(data) > _MAX_FILE_SIZE:
        raise _refuse(file, f"too large (expected at most {_MAX_FILE_SIZE} bytes)")
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError):  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise _refuse(file, "invalid TOML") from None
    mirrors = document.get("host", {})
    if not isinstance(mirrors, dict) or len(mirrors) > _MAX_HOSTS:
        raise _refuse(file, f"host: expected at most {_MAX_HOSTS} tables")
    server = document.get("server", "")
    if not isinstance(server, str):
        raise _refuse(file, "server: expected a string")
    hosts = [
        _Table(file, table, f"host {shown(redact_url(url))}").host(url)
        for url, table in mirrors.items()
    ]
    return (*hosts, _Table(file, document, "server").host(server))


@dataclass(frozen=True, slots=True)
class _Table:
    """The settings of one host.

    Attributes:
        file: the file with the settings.
        settings: decoded TOML value.
        where: name of the table in messages.
    """

    file: Path
    settings: Any
    where: str

    def host(self, server: str) -> Host:
        """Return the host `server`, which is empty for the registry itself."""
        if not isinstance(self.settings, dict):
            raise self._refuse("expected a table")
        url, root = self._server(server)
        return Host(
            server=url,
            root=root,
            capabilities=self._capabilities() if server else ALL,
            certificates=Certificates(self._authorities(), self._client()),
            skip_verify=self._flag("skip_verify"),
            headers=self._headers(),
        )

    def _server(self, server: str) -> tuple[str, str]:
        if not server:
            return "", API_ROOT
        url = server if "://" in server else f"https://{server}"
        if problem := url_problem(url):
            raise self._refuse(problem)
        parts = urlsplit(url)
        path = posixpath.normpath(parts.path).strip("/") if parts.path else ""
        root = f"/{path}" if path else ""
        if not self._flag("override_path") and not root.endswith(API_ROOT):
            root += API_ROOT
        return f"{parts.scheme}://{parts.netloc}", root

    def _capabilities(self) -> frozenset[str]:
        given = self.settings.get("capabilities", [])
        if not isinstance(given, list):
            raise self._refuse("capabilities: expected a list")
        named = {each.lower() if isinstance(each, str) else "" for each in given}
        if not named <= ALL:
            raise self._refuse("capabilities: expected some of pull, resolve and push")
        return frozenset(named) or ALL

    def _authorities(self) -> tuple[Path, ...]:
        files = tuple(self._path("ca", each) for each in self._list("ca"))
        for file in files:
            if not holds_authority(file):
                raise self._refuse(f"ca: {file} contains no PEM certificate")
        return files

    def _client(self) -> tuple[Path, Path] | None:
        pairs = []
        for each in self._list("client"):
            pair = each if isinstance(each, list) else [each, ""]
            if len(pair) != 2:  # noqa: PLR2004 (a pair)
                raise self._refuse("client: expected pairs of certificate and key")
            certificate = self._path("client", pair[0])
            key = self._path("client", pair[1]) if pair[1] != "" else certificate
            check_client(certificate, key)
            pairs.append((certificate, key))
        return pairs[0] if pairs else None

    def _headers(self) -> dict[str, str]:
        given = self.settings.get("header", {})
        if not isinstance(given, dict):
            raise self._refuse("header: expected a table")
        headers = {}
        for name, value in given.items():
            values = value if isinstance(value, list) else [value]
            if not _HEADER_NAME.fullmatch(name) or not all(
                isinstance(each, str) and _HEADER_VALUE.fullmatch(each) for each in values
            ):
                raise self._refuse(f"header {shown(name)}: expected a string or a list of strings")
            headers[name] = ", ".join(values)
        return headers

    def _list(self, name: str) -> list[Any]:
        value = self.settings.get(name, [])
        return value if isinstance(value, list) else [value]

    def _path(self, name: str, value: object) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise self._refuse(f"{name}: expected paths of files")
        return self.file.parent / value

    def _flag(self, name: str) -> bool | None:
        value = self.settings.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._refuse(f"{name}: expected true or false")
        return value

    def _refuse(self, problem: str) -> FormatError:
        return _refuse(self.file, f"{self.where}: {problem}")


def _refuse(file: Path, problem: str) -> FormatError:
    return FormatError(f"{file}: {problem}", what="hosts.toml")
