"""Registries of other projects, started for a test, which is skipped if they are missing."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from filelock import FileLock

from support.tools import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

GO_SOURCE = Path(__file__).parent / "goregistry"
GO_BUILD = Path(__file__).parents[2] / ".build" / "tests"
USER, PASSWORD = "alice", "secret"
_SERVICE, _ISSUER = "tocsin-test", "tocsin-issuer"
_PATIENCE = 30


def program(name: str) -> str:
    """Return the path of a program, or skip the test if it is missing."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        missing(f"{name} is not installed")
    return path


_PORTS = itertools.count(20_000 + os.getpid() * 61 % 10_000)
"""Ports below the ephemeral range, so that the system does not assign them meanwhile; concurrent
test processes start at different ones."""


def free_port() -> int:
    """Return a free port on loopback, for programs that cannot choose one themselves."""
    while True:
        port = next(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def docker_registry(directory: Path, **sections: Any) -> Iterator[str]:
    """Run Debian's docker-registry and yield its host and port.

    Args:
        directory: directory for its configuration; blobs are stored in ``directory/data``.
        sections: sections of its configuration, such as ``auth``; those of ``http`` are merged.
    """
    path = program("docker-registry")
    config = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "data")},
            "delete": {"enabled": True},
        },
        **sections,
        "http": {"addr": "127.0.0.1:0", "secret": "x", **sections.get("http", {})},
    }
    file = directory / "config.yml"
    file.write_text(json.dumps(config))  # JSON is valid YAML
    process = subprocess.Popen(  # noqa: S603 (a tool of the test machine)
        [path, "serve", file], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process:
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "listening on" in line:
                    address = json.loads(line)["msg"].removeprefix("listening on ")
                    break
            else:
                raise AssertionError("".join(said))
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield address.partition(",")[0]
        finally:
            process.terminate()
            process.wait(_PATIENCE)
    drain.join(_PATIENCE)


@contextmanager
def nginx(directory: Path, root: Path) -> Iterator[str]:
    """Run nginx, serving the files below `root`, and yield its URL."""
    path = program("nginx")
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(
        f"""
        user root; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log;
        events {{ worker_connections 64; }}
        http {{
          access_log {directory}/access.log combined;
          client_body_temp_path {directory}; proxy_temp_path {directory};
          fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
          log_format auth '$request_method $uri [$http_authorization] $status $http_range';
          access_log {directory}/auth.log auth;
          server {{ listen 127.0.0.1:{port}; root {root}; default_type application/octet-stream; }}
        }}
        """
    )
    command = [path, "-c", str(config), "-e", str(directory / "error.log")]
    # In daemon mode, the command returns when nginx is listening.
    subprocess.run(command, check=True, timeout=_PATIENCE, capture_output=True)  # noqa: S603
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        subprocess.run([*command, "-s", "stop"], check=False, timeout=_PATIENCE)  # noqa: S603


def _go_registry_program() -> Path:
    """Return the path of the program; Go rebuilds it only if the source has changed."""
    go = program("go")
    binary = GO_BUILD / "goregistry"
    GO_BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{binary}.lock"):
        built = subprocess.run(  # noqa: S603 (built from this repository)
            [go, "build", "-buildvcs=false", "-o", binary, "."],
            cwd=GO_SOURCE,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if built.returncode:
        if "dial tcp" in built.stderr or "proxyconnect" in built.stderr:
            missing("go-containerregistry cannot be downloaded")
        raise AssertionError(built.stderr)
    return binary


@contextmanager
def go_registry(_directory: Path) -> Iterator[str]:
    """Run go-containerregistry's in-memory registry and yield its host and port."""
    binary = _go_registry_program()
    with subprocess.Popen(  # noqa: S603 (just built)
        [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(_PATIENCE)


@dataclass
class TokenServer:
    """Issues signed tokens to alice with all requested rights.

    Attributes:
        url: the realm.
        certificate: PEM file that the registry trusts.
        asked: the queries so far.
        life: lifetime of a token in seconds.
    """

    url: str
    certificate: Path
    asked: list[dict[str, list[str]]]
    life: int = 300

    def auth(self) -> dict[str, Any]:
        """Return the section ``auth`` of docker-registry's configuration."""
        return {
            "token": {
                "realm": self.url,
                "service": _SERVICE,
                "issuer": _ISSUER,
                "rootcertbundle": str(self.certificate),
            }
        }


@contextmanager
def token_server(certificate: Path, key: Path, *, tls: bool = False) -> Iterator[TokenServer]:
    """Run a token server that signs with `key`, whose certificate the registry trusts."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    private: rsa.RSAPrivateKey = loaded
    chain = [base64.b64encode(_der(certificate)).decode()]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            server.asked.append(query)
            wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            allowed = self.headers.get("Authorization") == f"Basic {wanted}"
            body = b"{}"
            if allowed:
                token = _sign(private, chain, _claims(query, server.life))
                body = json.dumps({"token": token, "expires_in": server.life}).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:  # containerd tries OAuth2 first
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(405)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False
    scheme = "http"
    if tls:
        import ssl  # noqa: PLC0415 (only here)

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        http.socket = context.wrap_socket(http.socket, server_side=True)
        scheme = "https"
    server = TokenServer(f"{scheme}://127.0.0.1:{http.server_port}/token", certificate, [])
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _claims(query: dict[str, list[str]], life: int) -> dict[str, Any]:
    access = []
    for scope in " ".join(query.get("scope", [])).split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now = int(time.time())
    return {
        "iss": _ISSUER,
        "sub": USER,
        "aud": query.get("service", [""])[0],
        "exp": now + life,
        "nbf": now - 10,
        "iat": now,
        "jti": uuid.uuid4().hex,
        "access": access,
    }


def _sign(key: rsa.RSAPrivateKey, chain: list[str], claims: dict[str, Any]) -> str:
    header = {"typ": "JWT", "alg": "RS256", "x5c": chain}
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _der(certificate: Path) -> bytes:
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    return loaded.public_bytes(serialization.Encoding.DER)


class CuttingProxy:
    """Forwards connections to `target` and cuts some of them.

    Attributes:
        cuts: for each connection in turn, the direction (``"up"`` or ``"down"``) and the number of
            bytes after which it is cut; connections beyond the list are not cut.
    """

    def __init__(self, target: str, cuts: list[tuple[str, int]]) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for open_socket in [self._listener, *self._sockets]:
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _start(self, function: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                direction, left = self.cuts.pop(0) if self.cuts else ("", 0)
                self._start(self._pass, client, server, left if direction == "up" else None)
                self._start(self._pass, server, client, left if direction == "down" else None)

    def _pass(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data if left is None else data[:left])
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        break
        for side in (source, sink):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.shutdown(socket.SHUT_RDWR)
                side.close()
