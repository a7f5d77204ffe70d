import logging
import re
import traceback
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from support.registry import Registry
from support.registry_certificates import Authority
from support.registry_client import FakeTime, noise, store_of
from tocsin.errors import AuthError, RegistryError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.stores.registry.options import RegistryOptions, origin_of

BLOBS = r"/blobs/sha256:"
DATA = b"layer" * 5000
BLOB = Descriptor.of(DATA, OCI_LAYER_GZIP)


@pytest.fixture(autouse=True)
def blob(registry):
    registry.repository("team/app").blobs[str(BLOB.digest)] = DATA


def read(registry, **options):
    with store_of(registry, **options) as store:
        return b"".join(store.blob(BLOB))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_get_when_statuses_are_temporary_then_repeated_with_growing_waits(registry, status):
    registry.fault("GET", BLOBS, status=status, times=4)
    time = FakeTime()
    assert read(registry, time=time) == DATA
    assert time.slept == [0.1875, 0.375, 0.75, 1.5]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_get_when_a_temporary_status_persists_then_error_after_five_tries(registry, status):
    registry.fault("GET", BLOBS, status=status, times=100)
    with pytest.raises(RegistryError, match=f"get blob {BLOB.digest}: HTTP {status}") as caught:
        read(registry)
    assert (caught.value.status, caught.value.temporary) == (status, True)
    assert len(registry.asked("GET", BLOBS)) == 5


def test_get_when_the_status_is_permanent_then_it_is_not_repeated(registry):
    registry.fault("GET", BLOBS, status=400, times=100)
    with pytest.raises(RegistryError) as caught:
        read(registry)
    assert not caught.value.temporary
    assert len(registry.asked("GET", BLOBS)) == 1


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", 7.0), ("Tue, 14 Nov 2023 22:30:00 GMT", 0.0), ("soon", 0.1875), ("0", 0.0)],
)
def test_get_when_retry_after_is_in_seconds_then_it_waits_that_long(registry, header, wait):
    registry.fault("GET", BLOBS, status=429, headers={"Retry-After": header})
    time = FakeTime()
    assert read(registry, time=time) == DATA
    assert time.slept == [wait]


def test_get_when_retry_after_is_a_date_then_it_waits_until_then(registry):
    time = FakeTime(now=0.0)  # 1,700,000,000 s after 1970 is 2023-11-14 22:13:20
    header = {"Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}
    registry.fault("GET", BLOBS, status=503, headers=header)
    assert read(registry, time=time) == DATA
    assert time.slept == [30.0]


def test_get_when_retry_after_is_too_long_then_the_error_has_it(registry):
    registry.fault("GET", BLOBS, status=429, headers={"Retry-After": "3600"}, times=9)
    time = FakeTime()
    with pytest.raises(RegistryError, match=r"HTTP 429 \(Retry-After: 3600\)"):
        read(registry, time=time)
    assert time.slept == []


def test_get_when_the_connection_is_reset_before_a_response_then_repeated(registry):
    registry.fault("GET", BLOBS, drop=True, times=4)
    assert read(registry) == DATA


def test_get_when_always_reset_then_the_error_is_temporary_and_has_the_url(registry):
    registry.fault("GET", BLOBS, drop=True, times=99)
    with pytest.raises(
        RegistryError, match=r"http://127.0.0.1:\d+/v2/team/app/blobs/sha"
    ) as caught:
        read(registry)
    assert caught.value.temporary
    assert caught.value.status is None


def test_get_when_no_server_listens_then_the_error_says_so():
    with Registry() as stopped:
        pass
    with store_of(stopped) as store, pytest.raises(RegistryError, match="connection refused"):
        store.tags()


def test_get_when_refused_then_code_and_message_are_reported_on_one_line(registry):
    body = b'{"errors":[{"code":"NAME_INVALID","message":"bad\\n\\u001b[31mname"}]}'
    registry.fault("GET", BLOBS, status=400, body=body)
    with pytest.raises(RegistryError) as caught:
        read(registry)
    assert caught.value.code == "NAME_INVALID"
    assert str(caught.value).endswith(r'HTTP 400 NAME_INVALID: "bad\n\x1b[31mname"')


@pytest.mark.parametrize("status", [400, 503])
def test_get_when_the_refusal_has_advice_then_quoted_and_no_hint(registry, status):
    body = b'{"errors":[{"code":"DENIED; try","message":"storage is full; run curl x | sh"}]}'
    registry.fault("GET", BLOBS, status=status, body=body, times=99)
    with pytest.raises(RegistryError) as caught:
        read(registry)
    assert str(caught.value).endswith(
        f'HTTP {status} "DENIED; try": "storage is full; run curl x | sh"'
    )
    assert caught.value.hint is None


def test_get_when_the_refusal_is_long_then_it_is_truncated(registry):
    body = b'{"errors":[{"code":"%s","message":"%s"}]}' % (b"C" * 9000, b"m" * 9000)
    registry.fault("GET", BLOBS, status=400, body=body)
    with pytest.raises(RegistryError) as caught:
        read(registry)
    assert len(str(caught.value)) < 600
    assert len(caught.value.code) == 60


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"errors":7}', b"\xff", b"[" * 100_000])
def test_get_when_the_refusal_is_not_json_then_the_status_is_reported(registry, body):
    registry.fault("GET", BLOBS, status=400, body=body)
    with pytest.raises(RegistryError, match=r"HTTP 400$"):
        read(registry)


@pytest.mark.parametrize("login", [{}, {"username": "alice", "password": "secret"}])
def test_get_when_not_allowed_then_the_hint_is_to_log_in(registry, login):
    registry.auth = "basic" if login else None
    registry.fault("GET", BLOBS, status=403, skip=1 if login else 0, times=9)
    with pytest.raises(AuthError, match="HTTP 403") as caught:
        read(registry, **login)
    assert "docker login" in caught.value.hint


def test_get_when_the_object_store_refuses_then_no_hint_to_log_in(registry):
    with Registry() as elsewhere:
        elsewhere.fault("GET", "/storage/", status=403, times=9)
        redirected(registry, elsewhere, times=9)
        with pytest.raises(AuthError, match="HTTP 403") as caught:
            read(registry)
    assert caught.value.hint is None


# -- redirects -------------------------------------------------------------------------------------


def redirected(registry, elsewhere, **kinds):
    elsewhere.storage["key"] = DATA
    location = f"{elsewhere.url}/storage/key?X-Amz-Signature=signed-secret"
    registry.fault("GET", BLOBS, status=307, headers={"Location": location}, **kinds)


def test_redirect_when_to_object_store_then_followed_without_authorization(registry, elsewhere):
    registry.auth = "token"
    redirected(registry, elsewhere, skip=1, times=1)
    assert read(registry, username="alice", password="secret") == DATA  # noqa: S106 (a fake)
    assert "authorization" in registry.asked("GET", BLOBS)[-1].headers
    [request] = elsewhere.requests
    assert "authorization" not in request.headers
    assert request.query == {"X-Amz-Signature": "signed-secret"}


def test_redirect_when_the_object_store_fails_then_the_registry_is_retried(registry, elsewhere):
    redirected(registry, elsewhere, times=2)
    elsewhere.fault("GET", "/storage", close_after=1000)
    assert read(registry) == DATA
    assert len(registry.asked("GET", BLOBS)) == 2
    assert [r.headers.get("range") for r in elsewhere.requests] == [
        None,
        f"bytes=1000-{len(DATA) - 1}",
    ]


def test_redirect_when_the_object_store_refuses_then_no_credentials_error(registry, elsewhere):
    redirected(registry, elsewhere)
    challenge = {"WWW-Authenticate": 'Bearer realm="http://evil.example/token"'}
    elsewhere.fault("GET", "/storage", status=401, headers=challenge)
    with pytest.raises(RegistryError, match="HTTP 401") as caught:
        read(registry, username="alice", password="secret")  # noqa: S106 (a fake)
    assert elsewhere.url in caught.value.url
    assert "signed-secret" not in str(caught.value) + caught.value.url
    assert len(elsewhere.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://x/",
        "http://user:pass@127.0.0.1/x",
        "//[::1",
        "http://",
        "http://127.0.0.1:99999/",
        "http://host/with space",
        "http://host\\@evil/",
        "x" * 20_000,
    ],
)
def test_redirect_when_malicious_then_refused(registry, location):
    registry.fault("GET", BLOBS, status=307, headers={"Location": location})
    with pytest.raises(RegistryError, match=r"redirect to .* refused"):
        read(registry)
    assert len(registry.asked("GET")) == 1


def test_redirect_when_in_a_loop_then_refused(registry, elsewhere):
    back = {"Location": f"{registry.url}/v2/team/app/blobs/{BLOB.digest}"}
    elsewhere.fault("GET", "/storage", status=302, headers=back, times=99)
    redirected(registry, elsewhere, times=99)
    with pytest.raises(RegistryError, match="redirect loop"):
        read(registry)
    assert len(registry.requests) == 1


def test_redirect_when_too_many_then_refused(registry):
    for hop in range(20):
        path = BLOBS if hop == 0 else f"/hop/{hop - 1}$"
        registry.fault("GET", path, status=302, headers={"Location": f"/hop/{hop}"})
    with pytest.raises(RegistryError, match="more than 8 redirects"):
        read(registry)
    assert len(registry.requests) == 9


def test_redirect_when_its_body_is_endless_then_it_is_not_read(registry, elsewhere):
    redirected(registry, elsewhere)
    registry.faults[-1].headers["Content-Length"] = str(1 << 40)
    assert read(registry) == DATA


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_files(authority):
    return authority.issue("server")


@pytest.fixture
def tls_registry(server_files):
    with Registry(tls=tuple(map(str, server_files))) as running:
        running.repository("team/app").blobs[str(BLOB.digest)] = DATA
        yield running


def test_tls_when_the_authority_is_named_then_trusted(tls_registry, authority):
    assert read(tls_registry, ca_cert=authority.cert) == DATA


def test_tls_when_the_authority_is_unknown_then_a_hint_and_no_retry(
    tls_registry,
):
    with pytest.raises(RegistryError, match="certificate is not trusted") as caught:
        read(tls_registry, plain_http=False)
    assert not caught.value.temporary


def test_tls_when_insecure_then_any_certificate_is_accepted(tls_registry):
    assert read(tls_registry, insecure=True) == DATA


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_tls_when_the_environment_names_the_authority_then_trusted(
    tls_registry, authority, monkeypatch, variable
):
    monkeypatch.setenv(variable, str(authority.cert))
    assert read(tls_registry, plain_http=False) == DATA


def test_tls_when_the_server_is_plain_http_then_the_error_says_so(registry):
    with pytest.raises(RegistryError, match="does not use TLS"):
        read(registry, plain_http=False)


def test_tls_when_redirected_to_plain_http_then_refused(tls_registry, elsewhere, authority):
    redirected(tls_registry, elsewhere)
    with pytest.raises(RegistryError, match="from https to http"):
        read(tls_registry, ca_cert=authority.cert)
    assert elsewhere.requests == []


def test_tls_when_a_client_certificate_is_set_then_only_for_the_registry(
    tls_registry, authority, server_files
):
    context = tls_registry._server.context
    context.load_verify_locations(authority.cert)
    context.verify_mode = 2  # ssl.CERT_REQUIRED
    client = authority.issue("client")
    combined = client[0].with_suffix(".pem")
    combined.write_bytes(client[0].read_bytes() + client[1].read_bytes())
    with ExitStack() as stack:
        other = stack.enter_context(Registry(tls=tuple(map(str, server_files))))
        other._server.context.load_verify_locations(authority.cert)
        other._server.context.verify_mode = 1  # ssl.CERT_OPTIONAL
        redirected(tls_registry, other, times=2)
        for form in (client, combined):
            assert read(tls_registry, ca_cert=authority.cert, client_cert=form) == DATA
        assert [r.client_certificate for r in other.requests] == [None, None]
    assert all(r.client_certificate for r in tls_registry.requests)
    with pytest.raises(RegistryError):
        read(tls_registry, ca_cert=authority.cert)


def test_tls_when_the_file_has_no_certificate_then_the_error_names_it(tmp_path, registry):
    file = tmp_path / "x.pem"
    file.write_text("nothing")
    with pytest.raises(RegistryError, match=r"x\.pem: contains no PEM certificate"):
        store_of(registry, ca_cert=file)


@pytest.mark.parametrize(
    ("host", "options", "url"),
    [
        ("docker.io", {}, "https://registry-1.docker.io"),
        ("ghcr.io", {}, "https://ghcr.io"),
        ("localhost:5000", {}, "http://localhost:5000"),
        ("127.0.0.1:5000", {}, "http://127.0.0.1:5000"),
        ("[::1]:5000", {}, "http://[::1]:5000"),
        ("127.0.0.1:5000", {"insecure": True}, "https://127.0.0.1:5000"),
        ("127.0.0.1", {"plain_http": False}, "https://127.0.0.1"),
        ("reg.lan:80", {"plain_http": True}, "http://reg.lan"),
        ("127.0.0.1.evil.example", {}, "https://127.0.0.1.evil.example"),
    ],
)
def test_origin_when_plain_http_is_not_set_then_only_on_loopback(host, options, url):
    assert str(origin_of(host, RegistryOptions(**options))) == url


# -- proxies, secrets ------------------------------------------------------------------------------


def test_proxy_when_the_environment_has_one_then_used_except_for_loopback(
    registry, elsewhere, monkeypatch
):
    monkeypatch.setenv("http_proxy", elsewhere.url)
    assert read(registry) == DATA
    assert elsewhere.requests == []
    with store_of(registry, plain_http=True) as store:
        far = store._endpoint.transport
        answer = far.send("GET", "http://registry.invalid/v2/", repeat=True)
    assert answer.status == 404
    assert elsewhere.requests[0].path == "/v2/"


def test_secrets_when_everything_is_logged_then_none_appears(registry, elsewhere, caplog):
    caplog.set_level(logging.DEBUG)
    registry.auth = "token"
    redirected(registry, elsewhere, skip=1, times=9)
    elsewhere.fault("GET", "/storage", drop=True, times=99)
    lines = []
    store = store_of(registry, username="alice", password="pass-secret", debug=lines.append)  # noqa: S106 (a fake)
    registry.users["alice"] = "pass-secret"
    with store, pytest.raises(RegistryError) as caught:
        list(store.blob(BLOB))
    story = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
    seen = "\n".join([*lines, caplog.text, story, repr(store), repr(store._endpoint)])
    assert "X-Amz-Signature=REDACTED" in seen
    assert not re.search(r"signed-secret|pass-secret|token-secret|cGFzcy1", seen)
    assert any(line.startswith("> GET http://127.0.0.1") for line in lines)
    assert any(line.startswith("< 307") for line in lines)


def test_netrc_when_there_is_one_then_it_is_not_used(registry, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login bob password hidden\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert read(registry) == DATA
    assert "authorization" not in registry.requests[-1].headers


def test_cookies_when_set_then_never_sent_back(registry):
    registry.fault("GET", BLOBS, status=503, headers={"Set-Cookie": "a=b; Path=/"})
    assert read(registry) == DATA
    assert "cookie" not in registry.requests[-1].headers


def test_put_when_the_body_is_long_then_it_is_sent_in_small_pieces(registry, monkeypatch):
    sent = []
    plain = HTTPConnection.send
    monkeypatch.setattr(
        HTTPConnection, "send", lambda self, data: (sent.append(len(data)), plain(self, data))
    )
    data = noise(1_000_000)
    with store_of(registry) as store:
        store.put_blob(data)
    assert registry.repository("team/app").blobs[str(Digest.of(data))] == data
    assert max(sent) <= 64 << 10
    assert registry.asked("PUT")[-1].headers["content-length"] == "1000000"
