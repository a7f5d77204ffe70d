"""An in-process registry that uses only the standard library and can inject faults.

It records every request, so that tests can assert which bytes and headers were sent.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import socket
import ssl
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_NAME = r"(?P<name>[a-z0-9][a-z0-9._/-]*)"
_PATIENCE = 30.0
"""Seconds after which a handler stops waiting for a client; tests never take that long."""


@dataclass
class Recorded:
    """A recorded request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: int = 0
    sent: int = 0
    """Bytes of the response body that were written."""
    client_certificate: object = None


@dataclass
class Fault:
    """A fault that affects matching requests `times` times."""

    method: str
    path: str
    times: int = 1
    skip: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset_after: int | None = None
    """Reset the connection after this number of bytes of the body."""
    close_after: int | None = None
    """Close the connection properly after this number of bytes of the body."""
    drop: bool = False
    """Reset the connection without handling the request."""
    drop_answer: bool = False
    """Handle the request, then reset the connection instead of answering."""
    ignore_range: bool = False
    length_delta: int = 0
    corrupt: bool = False
    flip: bool = False
    """Flip a bit in the middle of what is sent."""
    short_range: int | None = None
    """Return at most this number of bytes of a range."""
    content_range: str | None = None
    stall: bool = False
    """Send no more than `close_after` bytes, and keep the connection open."""
    before: Callable[[], None] | None = None
    """Called before the request is handled; must not raise."""
    keep: int | None = None
    """Store only this number of bytes of a PATCH, then reset the connection."""


@dataclass
class Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """An HTTP server on loopback; a context manager.

    The attributes may be changed while the server runs.
    """

    def __init__(self, *, tls: tuple[str, str] | None = None, host: str = "127.0.0.1") -> None:
        self.repositories: dict[str, Repository] = {}
        self.storage: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.session_numbers = itertools.count(1)
        self.requests: list[Recorded] = []
        self.faults: list[Fault] = []
        self.referrers_api = False
        self.oci_subject = False
        self.filters_referrers = False
        self.page_size = 1000
        self.lists_repositories = True
        self.auth: str | None = None
        self.users = {"alice": "secret"}
        self.identity_tokens = {"identity-secret"}
        self.token_life = 300
        self.tokens: dict[str, set[str]] = {}
        self.tokens_issued = 0
        self.anonymous_scopes: set[str] = set()
        self.challenge: str | None = None
        self.chunks = True
        self.single_put = True
        self.mounts = True
        self.chunk_minimum = 0
        self.refused_types: set[str] = set()
        self.refused_manifests = 0  # number of PUTs to answer with 400 DIGEST_INVALID
        self.refuses_artifacts = False
        self.relative_locations = True
        self.entity_tags = False
        self.digest_header = True
        self.lock = threading.RLock()
        self.accepted: list[Any] = []
        """The client address of each connection."""
        self._connections: set[socket.socket] = set()
        self._tls = tls is not None
        self._host = f"[{host}]" if ":" in host else host
        self._server = (_ServerOfIpv6 if ":" in host else _Server)((host, 0), _Handler)
        self._server.registry = self
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.context = context
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def host(self) -> str:
        return f"{self._host}:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def fault(self, method: str, path: str, **kinds: Any) -> Fault:
        """Add a fault for paths that match the regular expression `path`."""
        fault = Fault(method, path, **kinds)
        self.faults.append(fault)
        return fault

    def asked(self, method: str, path: str = "") -> list[Recorded]:
        """Return the requests so far that match."""
        with self.lock:
            return [r for r in self.requests if r.method == method and re.search(path, r.path)]

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method != method or not re.search(fault.path, path) or not fault.times:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    registry: Registry
    context: ssl.SSLContext | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors, since tests disconnect clients on purpose."""

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.registry.accepted.append(client_address)
        if self.context is not None:
            request.settimeout(_PATIENCE)
            request = self.context.wrap_socket(request, server_side=True)
        self.registry._connections.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self.registry._connections.discard(request)
            with suppress(OSError):
                request.close()


class _ServerOfIpv6(_Server):
    address_family = socket.AF_INET6


class _DroppedError(Exception):
    """The connection was reset on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        with suppress(_DroppedError, ConnectionError, TimeoutError, ssl.SSLError, ValueError):
            super().handle_one_request()
            return
        self.close_connection = True

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 (http.server's names)

    # -- one request ---------------------------------------------------------------------------

    def _handle(self) -> None:
        self.registry = self.server.registry
        parts = urlsplit(self.path)
        query = {k: v[-1] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        self.query_lists = parse_qs(parts.query)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.record = Recorded(self.command, parts.path, query, headers, b"")
        if isinstance(self.connection, ssl.SSLSocket):
            self.record.client_certificate = self.connection.getpeercert() or None
        fault = self.registry.take_fault(self.command, parts.path)
        self.fault = fault or Fault("", "")
        with self.registry.lock:
            self.registry.requests.append(self.record)
        if self.fault.before is not None:
            self.fault.before()
        if self.fault.drop:
            self._reset()
        self.record.body = self._body()
        if self.fault.keep is not None:
            self._keep_part(parts.path)
        self._respond(parts.path)
        self._flush()

    def _respond(self, path: str) -> None:
        if self.fault.status:
            self._answer(self.fault.status, self.fault.body, self.fault.headers)
        elif path == "/token":
            self._token()
        elif path.startswith("/storage/"):
            data = self.registry.storage.get(path.removeprefix("/storage/"))
            if data is None:
                self._answer(404, b"<xml>no such key</xml>")
            else:
                self._answer_bytes(data, "application/octet-stream", {})
        else:
            self._api(path)

    def _api(self, path: str) -> None:
        if path == "/v2/_catalog" and self.registry.lists_repositories:
            if self._may_list():
                self._catalog()
            return
        routes: list[tuple[str, Callable[..., None]]] = [
            (rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)", self._manifest),
            (rf"/v2/{_NAME}/blobs/uploads/(?P<session>[^/]*)", self._upload),
            (rf"/v2/{_NAME}/blobs/(?P<digest>[^/]+)", self._blob),
            (rf"/v2/{_NAME}/tags/list", self._tags),
            (rf"/v2/{_NAME}/referrers/(?P<digest>[^/]+)", self._referrers),
        ]
        for pattern, route in routes:
            if match := re.fullmatch(pattern, path):
                if self._authorized(match["name"]):
                    with self.registry.lock:
                        route(**match.groupdict())
                return
        self._answer(404)

    # -- authorization -------------------------------------------------------------------------

    def _authorized(self, name: str) -> bool:
        registry = self.registry
        if registry.auth is None:
            return True
        kind, _, value = self.record.headers.get("authorization", "").partition(" ")
        if registry.auth == "basic":
            if kind == "Basic" and self._user(value):
                return True
            self._refuse(401, "UNAUTHORIZED", headers={"WWW-Authenticate": 'Basic realm="r"'})
            return False
        action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "push")
        if "/blobs/uploads/" in self.path:
            action = "push"
        wanted = f"repository:{name}:{action}"
        if kind == "Bearer" and wanted in registry.tokens.get(value, set()):
            return True
        actions = "pull" if action == "pull" else f"pull,{action}"
        challenge = registry.challenge
        if challenge is None:
            challenge = (
                f'Bearer realm="{registry.url}/token",service="fake",'
                f'scope="repository:{name}:{actions}"'
            )
        self._refuse(401, "UNAUTHORIZED", headers={"WWW-Authenticate": challenge})
        return False

    def _user(self, value: str) -> bool:
        try:
            name, _, password = base64.b64decode(value).decode().partition(":")
        except ValueError:
            return False
        return self.registry.users.get(name) == password

    def _token(self) -> None:
        registry = self.registry
        if self.command == "POST":
            form = parse_qs(self.record.body.decode())
            if form.get("refresh_token", [""])[0] not in registry.identity_tokens:
                self._refuse(401, "UNAUTHORIZED")
                return
            scopes = " ".join(form.get("scope", []))
            name, allowed = "access_token", None
        else:
            kind, _, value = self.record.headers.get("authorization", "").partition(" ")
            if kind and not (kind == "Basic" and self._user(value)):
                self._refuse(401, "UNAUTHORIZED")
                return
            scopes = " ".join(self.query_lists.get("scope", []))
            name, allowed = "token", None if kind else registry.anonymous_scopes
        granted = set()
        for scope in scopes.split():
            kind, _, rest = scope.partition(":")
            repository, _, actions = rest.rpartition(":")
            granted |= {f"{kind}:{repository}:{action}" for action in actions.split(",")}
        if allowed is not None:
            granted &= allowed
        with registry.lock:
            registry.tokens_issued += 1
            value = f"token-secret-{registry.tokens_issued}"
            registry.tokens[value] = granted
        self._answer(200, json.dumps({name: value, "expires_in": registry.token_life}).encode())

    # -- manifests -----------------------------------------------------------------------------

    def _manifest(self, name: str, reference: str) -> None:
        repository = self.registry.repository(name)
        digest = repository.tags.get(reference, reference)
        if self.command == "PUT":
            self._put_manifest(name, reference)
            return
        if digest not in repository.manifests:
            self._refuse(404, "MANIFEST_UNKNOWN")
            return
        if self.command == "DELETE":
            if reference in repository.tags:
                del repository.tags[reference]
            else:
                del repository.manifests[digest]
                repository.tags = {t: d for t, d in repository.tags.items() if d != digest}
            self._answer(202)
            return
        media_type, data = repository.manifests[digest]
        headers = {"Docker-Content-Digest": digest} if self.registry.digest_header else {}
        if self.registry.entity_tags:
            headers["ETag"] = f'"{digest}"'
        if self.fault.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self._answer(200, data, {"Content-Type": media_type, **headers})

    def _put_manifest(self, name: str, reference: str) -> None:
        registry = self.registry
        repository = registry.repository(name)
        media_type = self.record.headers.get("content-type", "")
        data = self.record.body
        document = json.loads(data)
        if registry.refused_manifests > 0:
            registry.refused_manifests -= 1
            self._refuse(400, "DIGEST_INVALID")
            return
        if media_type in registry.refused_types:
            self._refuse(400, "MANIFEST_INVALID")
            return
        kind = (document.get("config") or {}).get("mediaType", "")
        if registry.refuses_artifacts and kind and "image" not in kind:
            self._refuse(400, "MANIFEST_INVALID", "manifest has no image config")
            return
        listed = [document.get("config"), *(document.get("layers") or [])]
        missing = [d for d in listed if d and d["digest"] not in repository.blobs]
        if missing:
            self._refuse(400, "MANIFEST_BLOB_UNKNOWN")
            return
        if registry.entity_tags and not self._precondition_holds(repository, reference):
            self._refuse(412, "PRECONDITION_FAILED")
            return
        digest = digest_of(data)
        if reference.startswith("sha256:") and reference != digest:
            self._refuse(400, "DIGEST_INVALID")
            return
        repository.manifests[digest] = (media_type, data)
        if not reference.startswith("sha256:"):
            repository.tags[reference] = digest
        headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        if registry.oci_subject and document.get("subject"):
            headers["OCI-Subject"] = document["subject"]["digest"]
        self._answer(201, b"", headers)

    def _precondition_holds(self, repository: Repository, reference: str) -> bool:
        current = repository.tags.get(reference)
        if wanted := self.record.headers.get("if-match"):
            return wanted == f'"{current}"'
        return not (self.record.headers.get("if-none-match") == "*" and current)

    # -- blobs ---------------------------------------------------------------------------------

    def _blob(self, name: str, digest: str) -> None:
        blobs = self.registry.repository(name).blobs
        if digest not in blobs:
            self._refuse(404, "BLOB_UNKNOWN")
        elif self.command == "DELETE":
            del blobs[digest]
            self._answer(202)
        else:
            self._answer_bytes(
                blobs[digest], "application/octet-stream", {"Docker-Content-Digest": digest}
            )

    def _upload(self, name: str, session: str) -> None:
        handler = {
            "POST": self._start_upload,
            "PATCH": self._patch_upload,
            "PUT": self._close_upload,
            "GET": self._upload_status,
            "DELETE": self._cancel_upload,
        }[self.command]
        if self.command != "POST" and session not in self.registry.uploads:
            self._refuse(404, "BLOB_UPLOAD_UNKNOWN")
            return
        handler(name, session)

    def _start_upload(self, name: str, _: str) -> None:
        registry = self.registry
        query = self.record.query
        if "mount" in query and registry.mounts:
            blob = registry.repository(query.get("from", "")).blobs.get(query["mount"])
            if blob is not None:
                registry.repository(name).blobs[query["mount"]] = blob
                self._answer(201, b"", {"Location": f"/v2/{name}/blobs/{query['mount']}"})
                return
        session = f"session-{next(registry.session_numbers)}"
        registry.uploads[session] = bytearray()
        headers = self._session_headers(name, session)
        if registry.chunk_minimum:
            headers["OCI-Chunk-Min-Length"] = str(registry.chunk_minimum)
        self._answer(202, b"", headers)

    def _patch_upload(self, name: str, session: str) -> None:
        upload = self.registry.uploads[session]
        content_range = self.record.headers.get("content-range")
        if content_range and not self.registry.chunks:
            self._refuse(400, "UNSUPPORTED")
            return
        if content_range:
            first, _, last = content_range.partition("-")
            fits = int(first) == len(upload) and int(last) + 1 - int(first) == len(self.record.body)
            if not fits:
                self._refuse(416, "RANGE_INVALID")
                return
        upload += self.record.body
        self._answer(202, b"", self._session_headers(name, session))

    def _close_upload(self, name: str, session: str) -> None:
        if self.record.body and not self.registry.single_put:
            self._refuse(405, "UNSUPPORTED")
            return
        data = bytes(self.registry.uploads.pop(session)) + self.record.body
        digest = self.record.query.get("digest", "")
        if digest != digest_of(data):
            self._refuse(400, "DIGEST_INVALID")
            return
        self.registry.repository(name).blobs[digest] = data
        self._answer(
            201,
            b"",
            {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/blobs/{digest}"},
        )

    def _upload_status(self, name: str, session: str) -> None:
        self._answer(204, b"", self._session_headers(name, session))

    def _cancel_upload(self, _: str, session: str) -> None:
        del self.registry.uploads[session]
        self._answer(204)

    def _session_headers(self, name: str, session: str) -> dict[str, str]:
        base = "" if self.registry.relative_locations else self.registry.url
        size = len(self.registry.uploads[session])
        return {
            "Location": f"{base}/v2/{name}/blobs/uploads/{session}?_state=state-secret-{size}",
            "Range": f"0-{max(0, size - 1)}",
        }

    def _keep_part(self, path: str) -> None:
        session = path.rpartition("/")[2]
        self.registry.uploads[session] += self.record.body[: self.fault.keep]
        self._reset()

    # -- lists ---------------------------------------------------------------------------------

    def _may_list(self) -> bool:
        registry = self.registry
        value = self.record.headers.get("authorization", "").partition(" ")[2]
        if registry.auth is None or "registry:catalog:*" in registry.tokens.get(value, set()):
            return True
        challenge = f'Bearer realm="{registry.url}/token",service="s",scope="registry:catalog:*"'
        self._refuse(401, "UNAUTHORIZED", headers={"WWW-Authenticate": challenge})
        return False

    def _catalog(self) -> None:
        with self.registry.lock:
            names = sorted(self.registry.repositories)
        after = self.record.query.get("last", "")
        size = min(int(self.record.query.get("n", "100")), self.registry.page_size)
        left = [name for name in names if name > after]
        headers = {}
        if len(left) > size:
            headers["Link"] = f'</v2/_catalog?n={size}&last={left[size - 1]}>; rel="next"'
        self._answer(200, json.dumps({"repositories": left[:size]}).encode(), headers)

    def _tags(self, name: str) -> None:
        repository = self.registry.repositories.get(name)
        if repository is None:
            self._refuse(404, "NAME_UNKNOWN")
            return
        tags = sorted(repository.tags)
        after = self.record.query.get("last", "")
        size = min(int(self.record.query.get("n", "100")), self.registry.page_size)
        left = [tag for tag in tags if tag > after]
        headers = {}
        if len(left) > size:
            headers["Link"] = f'</v2/{name}/tags/list?n={size}&last={left[size - 1]}>; rel="next"'
        page = json.dumps({"name": name, "tags": left[:size] or None}).encode()
        self._answer(200, page, headers)

    def _referrers(self, name: str, digest: str) -> None:
        if not self.registry.referrers_api:
            self._answer(404, b"404 page not found\n", {"Content-Type": "text/plain"})
            return
        found = []
        for own, (media_type, data) in self.registry.repository(name).manifests.items():
            document = json.loads(data)
            if (document.get("subject") or {}).get("digest") == digest:
                entry = {"mediaType": media_type, "digest": own, "size": len(data)}
                entry["artifactType"] = document.get("artifactType") or document["config"].get(
                    "mediaType", ""
                )
                entry["annotations"] = document.get("annotations") or {}
                found.append(entry)
        headers = {"Content-Type": OCI_INDEX}
        wanted = self.record.query.get("artifactType")
        if wanted and self.registry.filters_referrers:
            found = [entry for entry in found if entry["artifactType"] == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        start = int(self.record.query.get("page", "0")) * self.registry.page_size
        page = found[start : start + self.registry.page_size]
        if start + self.registry.page_size < len(found):
            number = start // self.registry.page_size + 1
            headers["Link"] = f'</v2/{name}/referrers/{digest}?page={number}>; rel="next"'
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page}
        self._answer(200, json.dumps(index).encode(), headers)

    # -- responses -----------------------------------------------------------------------------

    def _refuse(
        self, status: int, code: str, message: str = "no", headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._answer(status, body, {"Content-Type": "application/json", **(headers or {})})

    def _answer_bytes(self, data: bytes, media_type: str, headers: dict[str, str]) -> None:
        headers = {"Content-Type": media_type, "Accept-Ranges": "bytes", **headers}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.record.headers.get("range", ""))
        if self.fault.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if asked is None or self.fault.ignore_range:
            self._answer(200, data, headers)
            return
        first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
        if first >= len(data):
            # Like docker-registry: the length is that of the blob, and the body is empty.
            headers["Content-Range"] = f"bytes */{len(data)}"
            headers["Content-Length"] = str(len(data))
            self._answer(416, b"", headers)
            return
        if self.fault.short_range is not None:
            last = min(last, first + self.fault.short_range - 1)
        headers["Content-Range"] = self.fault.content_range or f"bytes {first}-{last}/{len(data)}"
        self._answer(206, data[first : last + 1], headers)

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        if self.fault.flip and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self._pending = (status, body, dict(headers or {}))

    def _flush(self) -> None:
        status, body, headers = self._pending
        self.record.status = status
        if self.fault.drop_answer:
            self._reset()
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(body) + self.fault.length_delta))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault.stall:
            self.wfile.write(body[: self.fault.close_after or 0])
            self.wfile.flush()
            self.connection.recv(1)  # until the client disconnects
            raise _DroppedError
        cut = self.fault.reset_after if self.fault.close_after is None else self.fault.close_after
        if cut is None:
            self._write(body)
            return
        self._write(body[:cut])
        if self.fault.reset_after is not None:
            self._reset()
        raise _DroppedError

    def _write(self, body: bytes) -> None:
        view = memoryview(body)
        for at in range(0, len(view), 1 << 16):
            self.wfile.write(view[at : at + (1 << 16)])
            self.record.sent += len(view[at : at + (1 << 16)])
        self.wfile.flush()

    def _reset(self) -> None:
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.wfile.flush()
        self.connection.close()
        self.close_connection = True
        raise _DroppedError

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) != length:
                raise _DroppedError
            return body
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0] or b"0", 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)
