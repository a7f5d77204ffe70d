"""A registry controlled by instructions: responses are mostly valid, with one fault at a time."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING

from support.hostile_image import (
    OCI_INDEX,
    OCI_MANIFEST,
    OCTETS,
    SUBJECT,
    layer_and_ztoc,
    make_image,
)
from support.hostile_json import spoil

if TYPE_CHECKING:
    from support.instructions import Instructions

REPOSITORY = "app"
HOST = "127.0.0.1:5000"

STATUSES = [
    *(200, 201, 202, 204, 206, 301, 302, 307, 308, 304, 400, 401, 403, 404, 405, 409, 410, 411),
    *(412, 413, 415, 416, 429, 500, 501, 502, 503, 504, 0, 99, 100, 299, 599, 600, 999, -5),
]
NUMBERS = [
    *("0", "1", "-1", "5", "00", "+5", " 7 ", "1e3", "0x10", "9" * 19, "9" * 30, "9" * 5000),
    *("²", "\u0661", "NaN", "5, 5", "5;5", ""),
]
URLS = [
    *("/v2/app/x", "x", "", "//", "?", "#", "http://[::1/", "http://[::1]:x/", "http://.../"),
    *("file:///etc/passwd", "http://user:secret@127.0.0.1:1/", "https://127.0.0.1:5000/v2/"),
    *("http://127.0.0.1:99999/", "http://127.0.0.1:0/", "http://127.0.0.1:-1/", "http:///x"),
    *(
        "http://%00%0d/x",
        "http://" + "a" * 70 + ".example/",
        "http://example.com/\udc80".encode("utf-8", "replace").decode(),
        "http://ex\u00e4mple/",
        "/" + "x" * 60_000,
        "http://\uff11\uff12\uff17.0.0.1/",
    ),
    *("javascript:alert(1)", "http:x", "\\\\host\\x", "http://127.0.0.1:5000@evil.example/"),
]
RANGES = [
    *("bytes 0-0/1", "bytes 0-4/5", "bytes */5", "bytes 5-0/5", "bytes 0-9999999999999999999/*"),
    *(
        "bytes 0-0/" + "9" * 400,
        "0-0",
        "0-" + "9" * 18,
        "bytes=0-9",
        "bytes -1-5/6",
        "0-" + "9" * 99,
    ),
    *("items 0-0/1", "bytes 0-0/*", "bytes ²-³/٤"),
]
CHALLENGES = [
    f'Bearer realm="http://{HOST}/token",service="x",scope="repository:app:pull"',
    "Basic",
    'Basic realm="x"',
    f'Bearer realm="http://{HOST}/token',
    "Bearer realm=",
    "Bearer",
    'Bearer realm="file:///etc/passwd"',
    'Bearer realm="http://[/token"',
    'Bearer realm="http://127.0.0.1:99999/"',
    f'Bearer realm="http://{HOST}/token",scope="' + "repository:a:pull " * 500 + '"',
    f'Bearer realm="http://{HOST}/token",' * 700,
    "Negotiate",
    ", ,,=,",
    '"' * 5000,
    "a=" * 5000,
    f'Bearer realm="http://{HOST}/token",scope=":::,,"',
]
LINKS = [
    f'<http://{HOST}/v2/app/tags/list?n=1&last=%d>; rel="next"',
    '</v2/app/referrers/x?page=%d>; rel="next"',
    '<>; rel="next"',
    '<; rel="next"',
    "<>;" + "rel " * 10_000,
    "<" * 30_000,
    '<http://elsewhere.example/>; rel="next"',
    '<http://[>; rel="next"',
    "<x>; rel=next" + ", <y>; rel=next" * 2000,
]
CODINGS = [
    "gzip",
    "deflate",
    "x-gzip",
    "br",
    "identity",
    "gzip, gzip",
    "GZIP",
    ",".join(["gzip"] * 900),
]
DIGESTS = [
    "sha256:" + "0" * 64,
    "sha256:",
    "md5:x",
    "sha512:" + "0" * 128,
    "\u202e",
    "sha256:" + "g" * 64,
]
DATES = [
    "0",
    "5",
    "-1",
    "9" * 30,
    "Fri, 31 Dec 99999 23:59:59 GMT",
    "Fri, 31 Dec 1 00:00:00 +9999",
    "x",
]
MEDIA_TYPES = [
    OCI_INDEX,
    OCI_MANIFEST,
    OCTETS,
    "application/json",
    "",
    "text/html; charset=\udcff".encode("utf-8", "replace").decode(),
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ";;;",
]
HEADERS = {
    "Content-Length": NUMBERS,
    "Content-Range": RANGES,
    "Range": RANGES,
    "Location": URLS,
    "Link": LINKS,
    "WWW-Authenticate": CHALLENGES,
    "Content-Encoding": CODINGS,
    "Content-Type": MEDIA_TYPES,
    "Docker-Content-Digest": DIGESTS,
    "Retry-After": DATES,
    "OCI-Chunk-Min-Length": NUMBERS,
    "OCI-Subject": DIGESTS,
    "ETag": ['"x"', "x" * 5000, "*", "\x7f", "é"],
    "Transfer-Encoding": ["chunked", "gzip", "chunked, chunked", "x"],
    "Connection": ["close", "keep-alive", "x"],
    "Docker-Upload-UUID": ["x"],
}
"""Values for a faulty header."""
TOKENS = [
    b'{"token":"t"}',
    b'{"access_token":"t","expires_in":1}',
    b'{"token":"t","expires_in":' + b"9" * 400 + b"}",
    b'{"token":"t","expires_in":-1e308}',
    b'{"token":"t","expires_in":NaN}',
    b'{"token":"t","expires_in":1e999}',
    b'{"token":"t\\r\\nX: y"}',
    b'{"token":"\\ud800"}',
    b'{"token":{}}',
    b'{"token":"' + b"x" * 70_000 + b'"}',
    b"[" * 70_000,
    b"",
    b"null",
    b'{"token":"t","expires_in":' + b"9" * 5000 + b"}",
    b'{"token":"t","refresh_token":"\\ud800","issued_at":"x"}',
]
ERRORS = [
    b'{"errors":[{"code":"DENIED","message":"no","detail":{}}]}',
    b'{"errors":[{"code":"\\u001b[31mX","message":"\\u001b]0;x\\u0007 \\u202egnp.exe"}]}',
    b'{"errors":[null]}',
    b'{"errors":{"code":5}}',
    b'{"errors":[{"code":5,"message":[]}]}',
    b'{"errors":[{"code":"' + b"A" * 60_000 + b'"}]}',
    b'{"errors":[{"code":"\\ud800","message":"\\ud800"}]}',
    b'{"details":"x"}',
    b"[" * 70_000,
    b'{"errors":[{"code":' + b"9" * 5000 + b"}]}",
    b"\xff\xfe",
    b"<html>",
]
_BOMB = gzip.compress(bytes(32 << 20))
_MAX_RAW = 200


class HostileRegistry:
    """Responds to requests with bytes that may not be valid HTTP."""

    def __init__(self, instructions: Instructions) -> None:
        self._instructions = instructions
        self._pages = 0
        self.image = make_image(instructions)

    def answer(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        """Return all bytes to send in response to a request before closing the connection."""
        instructions = self._instructions
        status, honest, body = self._honest(method, path, headers)
        match instructions.below(12):
            case 1 | 2 | 3 | 4:
                for _ in range(1 + instructions.below(3)):
                    body = self._spoil_header(honest, body)
            case 5:
                status = instructions.pick(STATUSES)
            case 6:
                status = instructions.pick([s for s in STATUSES if s >= 400])
                body = instructions.pick(ERRORS)
                if instructions.below(2):
                    honest["Retry-After"] = instructions.pick(DATES)
            case 7:
                status = 401
                honest["WWW-Authenticate"] = instructions.pick(CHALLENGES)
            case 8:
                status = instructions.pick([301, 302, 303, 307, 308, 201, 202])
                honest["Location"] = instructions.pick(URLS)
            case 9:
                body = self._spoiled(body)
            case 10:
                return instructions.take(instructions.below(_MAX_RAW))
            case 11:
                whole = _joined(status, honest, body)
                return whole[: instructions.below(1 << 16) % (len(whole) + 1)]
            case _:
                pass
        if method == "HEAD":
            return _joined(status, honest, b"", length=len(body))
        return _joined(status, honest, body, chunked=instructions.below(8) == 7)

    def _spoil_header(self, headers: dict[str, str], body: bytes) -> bytes:
        """Replace a header and return the body, encoded if the new header requires it."""
        instructions = self._instructions
        name = instructions.pick(list(HEADERS))
        headers[name] = instructions.pick(HEADERS[name])
        if name == "Link":
            self._pages += 1
            headers[name] = headers[name].replace("%d", str(self._pages))
        elif name == "Content-Encoding" and instructions.below(2):
            return instructions.pick([gzip.compress(body), body, _BOMB])
        return body

    def _spoiled(self, body: bytes) -> bytes:
        try:
            return spoil(json.loads(body), self._instructions)
        except (ValueError, RecursionError):
            return self._instructions.take(self._instructions.below(_MAX_RAW))

    def _honest(
        self, method: str, path: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        path = path.partition("?")[0]
        if "/uploads/" in path or method not in ("GET", "HEAD"):
            return self._honest_write(method, path)
        if path.startswith("/token"):
            return 200, {}, self._instructions.pick(TOKENS)
        return self._honest_read(path, headers)

    def _honest_read(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        last = path.rpartition("/")[2]
        if path.endswith("/tags/list"):
            return 200, {}, json.dumps({"name": REPOSITORY, "tags": ["1"]}).encode()
        if "/referrers/" in path:
            return 200, {"Content-Type": OCI_INDEX}, self.image.referrers
        if path == "/layer":
            return _ranged(layer_and_ztoc()[0], OCTETS, headers)
        digest = self.image.tag if last == "1" else last
        if digest not in self.image.documents:
            return 404, {}, ERRORS[0]
        media_type, data = self.image.documents[digest]
        status, fields, body = _ranged(data, media_type, headers)
        return status, {**fields, "Docker-Content-Digest": digest}, body

    def _honest_write(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        location = {"Location": f"/v2/{REPOSITORY}/blobs/uploads/1", "OCI-Chunk-Min-Length": "1"}
        match method:
            case "POST":
                return 202, location, b""
            case "PATCH":
                return 202, location, b""
            case "PUT":
                return 201, {"Location": path, "OCI-Subject": SUBJECT}, b""
            case "GET":
                return 204, {**location, "Range": "0-0"}, b""
            case _:
                return 202, {}, b""


def _ranged(
    data: bytes, media_type: str, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", headers.get("range", ""))
    if asked is None:
        return 200, {"Content-Type": media_type}, data
    start, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
    if start >= end:
        return 416, {"Content-Range": f"bytes */{len(data)}"}, b""
    given = {"Content-Type": media_type, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
    return 206, given, data[start:end]


def _joined(
    status: int,
    headers: dict[str, str],
    body: bytes,
    *,
    length: int | None = None,
    chunked: bool = False,
) -> bytes:
    lines = [f"HTTP/1.1 {status} x"]
    if chunked:
        headers = {**headers, "Transfer-Encoding": "chunked"}
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif "Content-Length" not in headers and "Transfer-Encoding" not in headers:
        headers = {**headers, "Content-Length": str(len(body) if length is None else length)}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
