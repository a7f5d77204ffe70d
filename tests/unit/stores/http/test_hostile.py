"""Servers that send invalid, too many or slow bytes: clients raise only TocsinError, and in time.

Each case is one kind of response. The timeout that a test sets bounds its duration; no test
measures time.
"""

import gzip
import itertools
import json
import zlib
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.hostile_http import OPERATIONS, Conversation
from support.raw_server import RawServer, response
from tocsin.errors import TocsinError
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_INDEX, OCI_MANIFEST
from tocsin.model.reference import parse_reference
from tocsin.stores.http.clock import Clock
from tocsin.stores.registry import RegistryOptions, open_repository

TIMEOUT = 0.2
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: " + OCI_MANIFEST.encode() + b"\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}).encode()
EMPTY = zlib.compressobj(9, wbits=31)
BOMB = EMPTY.compress(bytes(64 << 20)) + EMPTY.flush()


def options():
    return RegistryOptions(
        plain_http=True, timeout=TIMEOUT, _clock=Clock(sleep=lambda seconds: None)
    )


def ask(host, doing):
    reference = parse_reference(f"docker://{host}/app:1")
    with open_repository(reference, options()) as store:
        return doing(store)


def resolve(store):
    return store.manifest(store.resolve("1"))


def referrers(store):
    return store.referrers(Digest.of(b"subject"))


def assert_error_of_ours(host, doing):
    """Assert that no other error is raised; some invalid responses are harmless."""
    said = ""
    with suppress(TocsinError):
        try:
            ask(host, doing)
        except TocsinError as error:
            said = str(error)
            raise
    assert "secret" not in said
    assert said.isprintable()


def repeated(*pieces):
    """Return an endless body, which the server stops at the end of the test."""
    return itertools.chain(pieces[:-1], itertools.repeat(pieces[-1]))


def slowly(server, *pieces):
    yield from pieces[:-1]
    while server.running:
        yield pieces[-1]
        server.wait(TIMEOUT / 4)


ANSWERS = {
    "not HTTP": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "nothing": [],
    "HTTP 0.9": [MANIFEST],
    "status is large": [b"HTTP/1.1 99999999999 x\r\nContent-Length: 0\r\n\r\n"],
    "status is negative": [b"HTTP/1.1 -5 x\r\nContent-Length: 0\r\n\r\n"],
    "status is a superscript": ["HTTP/1.1 ²00 x\r\nContent-Length: 0\r\n\r\n".encode("latin1")],
    "status line is long": [b"HTTP/1.1 200 " + b"a" * 100_000 + b"\r\n\r\n"],
    "header without end": repeated(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 65536),
    "headers without end": repeated(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
    "100 Continue without end": repeated(b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" * 200),
    "length is negative": [HEAD + b"Content-Length: -1\r\n\r\n" + MANIFEST],
    "length is huge": [HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n" + MANIFEST],
    "two lengths": [HEAD + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\n" + MANIFEST],
    "body without end": repeated(HEAD + b"\r\n", b" " * 65536),
    "chunks without end": repeated(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "chunk size is not a number": [CHUNKED + b"zz\r\n"],
    "chunk size is negative": [CHUNKED + b"-5\r\nabc\r\n"],
    "chunk size is huge": [CHUNKED + b"f" * 40 + b"\r\nabc\r\n"],
    "chunk extension without end": repeated(CHUNKED + b"5;", b"x" * 65536),
    "trailers without end": repeated(
        CHUNKED + b"%x\r\n" % len(MANIFEST) + MANIFEST + b"\r\n0\r\n", b"X: y\r\n" * 1000
    ),
    "gzip bomb": [response(BOMB, headers=["Content-Encoding: gzip"])],
    "gzip twice": [response(gzip.compress(BOMB), headers=["Content-Encoding: gzip, gzip"])],
    "gzip many times": [
        response(MANIFEST, headers=["Content-Encoding: " + ",".join(["gzip"] * 9000)])
    ],
    "content coding is unknown": [response(MANIFEST, headers=["Content-Encoding: br"])],
    "gzip is not gzip": [response(b"not gzip", headers=["Content-Encoding: gzip"])],
    "gzip is cut": [response(gzip.compress(MANIFEST)[:-9], headers=["Content-Encoding: gzip"])],
    "document is deep": [response(b"[" * 1_000_000)],
    "document has many quotes": [response(b'{"a":"' + b'\\"' * 1_000_000)],
    "document has a huge number": [response(b'{"schemaVersion":' + b"9" * 5000 + b"}")],
    "document has an infinite size": [
        response(b'{"manifests":[{"size":1e999,"digest":"sha256:0"}]}', media_type=OCI_INDEX)
    ],
    "challenge is long": [
        response(
            status="401 Unauthorized",
            headers=["WWW-Authenticate: " + 'Bearer realm="http://127.0.0.1/",' * 1500],
        )
    ],
    "realm is a file": [
        response(
            status="401 Unauthorized",
            headers=['WWW-Authenticate: Bearer realm="file:///etc/passwd",service="x"'],
        )
    ],
    # Found by tests/fuzz/http_answers.py: ValueError of urljoin.
    "realm is half an IPv6 address": [
        response(
            status="401 Unauthorized",
            headers=['WWW-Authenticate: Bearer realm="http://[/token",service="x"'],
        )
    ],
    "realm is nothing": [
        response(status="401 Unauthorized", headers=['WWW-Authenticate: Bearer realm=""'])
    ],
    "date is impossible": [
        response(
            status="429 Too Many Requests",
            headers=["Retry-After: Fri, 31 Dec 99999 23:59:59 GMT"],
        )
    ],
}
LOCATIONS = [
    "file:///etc/passwd",
    "http://user:secret@127.0.0.1:1/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:0/x",
    "http://[::1/",
    "http://" + "a" * 70 + ".example/",
    "http://.../x",
    "http://%00%0d/x",
    "//",
    "",
]
ANSWERS |= {
    f"redirect to {location[:30]!r}": [
        response(status="302 Found", headers=[f"Location: {location}"])
    ]
    for location in LOCATIONS
}


@pytest.mark.parametrize("doing", [resolve, referrers], ids=["resolve", "referrers"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answer_when_hostile_then_only_our_errors(name, doing):
    pieces = list(itertools.islice(ANSWERS[name], 2))
    # An endless body: its beginning, and what is repeated until the end of the test.
    endless = not isinstance(ANSWERS[name], list)

    def handle(method, path):
        return repeated(*pieces) if endless else pieces

    with RawServer(handle) as server:
        assert_error_of_ours(server.host, doing)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        (b"HTTP/1.1 100 Continue\r\n\r\n",),
        (HEAD + b"Content-Length: 3000000\r\n\r\n", b" "),
        (CHUNKED + b"5;", b"x"),
        (CHUNKED + b"%x\r\n" % len(MANIFEST) + MANIFEST + b"\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["header", "100-continue", "body", "chunk-extension", "trailers"],
)
def test_answer_when_bytes_arrive_slowly_then_it_times_out(pieces):
    server = RawServer(lambda method, path: slowly(server, *pieces))
    with server, pytest.raises(TocsinError, match="timed out"):
        ask(server.host, resolve)
    assert len(server.requests) <= 4


TOKENS = {
    "life has many digits": b'{"token":"x","expires_in":' + b"9" * 400 + b"}",
    "life is not a number": b'{"token":"x","expires_in":NaN}',
    "life is infinite": b'{"token":"x","expires_in":1e999}',
    "life is negative": b'{"token":"x","expires_in":-1e308}',
    "token is large": b'{"token":"' + b"x" * 2_000_000 + b'"}',
    "token has a line break": b'{"token":"x\\r\\nX-Evil: 1"}',
    "answer is deep": b"[" * 500_000,
    "answer is empty": b"",
}


@pytest.mark.parametrize("name", TOKENS)
def test_token_when_hostile_then_only_our_errors(name):
    def handle(method, path):
        if path.startswith("/token"):
            return [response(TOKENS[name])]
        realm = f'Bearer realm="http://{server.host}/token",service="x"'
        return [response(status="401 Unauthorized", headers=[f"WWW-Authenticate: {realm}"])]

    server = RawServer(handle)
    with server, pytest.raises(TocsinError):
        ask(server.host, resolve)


def test_token_when_sent_slowly_then_it_times_out():
    def handle(method, path):
        if path.startswith("/token"):
            return slowly(server, HEAD + b"Content-Length: 900000\r\n\r\n", b" ")
        realm = f'Bearer realm="http://{server.host}/token"'
        return [response(status="401 Unauthorized", headers=[f"WWW-Authenticate: {realm}"])]

    server = RawServer(handle)
    with server, pytest.raises(TocsinError, match=r"timed out|gave up"):
        ask(server.host, resolve)


def test_manifest_when_encoded_then_it_is_decoded_within_bounds():
    digest = Digest.of(MANIFEST)

    def handle(method, path):
        headers = [f"Docker-Content-Digest: {digest}"]
        if method == "HEAD":
            return [response(media_type=OCI_MANIFEST, headers=headers, length=len(MANIFEST))]
        headers.append("Content-Encoding: gzip")
        return [response(gzip.compress(MANIFEST), media_type=OCI_MANIFEST, headers=headers)]

    with RawServer(handle) as server:
        assert ask(server.host, resolve) == MANIFEST


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 206 Partial Content\r\n",
        b"HTTP/1.1 307 Temporary Redirect\r\n",
        b"HTTP/1.1 401 Unauthorized\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Content-Type: application/vnd.oci.image.index.v1+json\r\n",
        b"Location: http://[\r\n",
        b"WWW-Authenticate: Bearer realm=\r\n",
        b'Link: <;rel="next"\r\n',
        b"Docker-Content-Digest: sha256:\r\n",
        b"Retry-After: -1\r\n",
        b"\r\n",
        b"-1\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"{}",
        b'{"manifests":[{"size":-1}]}',
        b"\x00",
        b"\xff\xfe",
    ]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_answer_when_any_bytes_then_only_our_errors(pieces):
    with RawServer(lambda method, path: pieces) as server:
        for doing in (resolve, referrers):
            assert_error_of_ours(server.host, doing)


@pytest.mark.parametrize("operation", range(len(OPERATIONS)))
def test_conversation_when_registry_is_honest_then_no_error(operation):
    assert Conversation(bytes([operation])).error is None


@given(
    st.integers(0, len(OPERATIONS) - 1),
    st.lists(st.one_of(st.just(0), st.integers(0, 255)), max_size=120),
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_conversation_when_registry_is_hostile_then_only_our_errors(operation, instructions):
    Conversation(bytes([operation, *instructions]))
