"""Detection of TLS, IPv6, and hints of errors; the authority for expected values is OpenSSL."""

import socket
import ssl
import threading
from contextlib import ExitStack, contextmanager, suppress
from http.client import BadStatusLine

import pytest

from support.registry import Registry
from support.registry_certificates import Authority
from support.registry_client import store_of
from tocsin.errors import RegistryError
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.model.reference import parse_reference
from tocsin.stores.http.failures import network_error
from tocsin.stores.http.http_blob import HttpBlob
from tocsin.stores.http.origin import Origin, is_loopback
from tocsin.stores.http.tls_probe import speaks_tls
from tocsin.stores.registry import RegistryOptions, open_repository

DATA = b"layer" * 5000
BLOB = Descriptor.of(DATA, OCI_LAYER_GZIP)
HOSTS = ["127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_files(authority):
    return tuple(map(str, authority.issue("server")))


@pytest.fixture
def start(server_files):
    """Return a function that starts a registry with the blob."""
    with ExitStack() as stack:

        def started(host="127.0.0.1", *, tls):
            registry = Registry(tls=server_files if tls else None, host=host)
            registry.repository("team/app").blobs[str(BLOB.digest)] = DATA
            return stack.enter_context(registry)

        yield started


def read(registry, **options):
    with store_of(registry, **options) as store:
        return b"".join(store.blob(BLOB))


@contextmanager
def answering(data):
    """Yield the origin of a server that responds with `data`, or not at all if it is empty."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(data)
                    connection.settimeout(30)
                    while connection.recv(1 << 16):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield Origin("https", "127.0.0.1", listener.getsockname()[1])


def failure_of(registry, **options):
    with pytest.raises(RegistryError) as caught:
        read(registry, **options)
    return caught.value


# -- loopback --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_loopback_when_plain_then_read_without_an_option(start, host):
    registry = start(host, tls=False)
    assert read(registry) == DATA
    assert {request.status for request in registry.requests} == {200}


@pytest.mark.parametrize("host", HOSTS)
def test_loopback_when_the_server_uses_tls_then_tls_is_used(start, authority, monkeypatch, host):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    assert read(start(host, tls=True)) == DATA


def test_loopback_when_the_certificate_is_untrusted_then_the_error_says_so(start):
    failure = failure_of(start(tls=True))
    assert "certificate is not trusted" in failure.message
    assert "--ca-cert" in failure.hint
    assert "--insecure" in failure.hint


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"<html>", False),
        (
            b"\x15\x03\x01\x00\x02\x02\x28",
            True,
        ),  # an alert: the server uses TLS but rejects the connection
    ],
)
def test_probe_when_the_response_is_a_tls_record_then_tls(answer, expected):
    with answering(answer) as origin:
        assert speaks_tls(origin) is expected


def test_probe_when_the_server_is_silent_then_plain_after_the_timeout():
    with answering(b"") as origin:
        assert not speaks_tls(origin, timeout=0.05)


def test_probe_when_no_server_listens_then_plain():
    assert not speaks_tls(Origin.of("https://127.0.0.1:1"))


@pytest.mark.parametrize("option", [{"plain_http": True}, {"insecure": True}])
def test_loopback_when_options_determine_the_scheme_then_no_probe_is_sent(start, option):
    registry = start(tls="insecure" in option)
    assert read(registry, **option) == DATA
    assert len(registry.accepted) == 1


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::1", True), ("::ffff:127.0.0.1", True), ("::ffff:10.0.0.1", False), ("fe80::1", False)],
)
def test_loopback_when_an_ipv6_address_then_known(host, expected):
    assert is_loopback(host) is expected


# -- IPv6 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "docker://"])
def test_ipv6_when_in_a_reference_then_the_image_is_found(start, prefix):
    registry = start("::1", tls=False)
    registry.repository("team/app").manifests["sha256:" + "0" * 64] = ("x", b"")
    registry.repository("team/app").tags["t"] = "sha256:" + "0" * 64
    reference = parse_reference(f"{prefix}{registry.host}/team/app:t")
    assert reference.host == registry.host
    assert str(reference) == f"docker://{registry.host}/team/app:t"
    with open_repository(reference, RegistryOptions()) as store:
        assert store.tags() == ["t"]
        assert store.name == f"docker://{registry.host}/team/app"


# -- hints -----------------------------------------------------------------------------------------


def described(error, url="https://reg.example/v2/", proxy=None):
    return network_error(error, url, proxy)


def certificate_error(code, text):
    error = ssl.SSLCertVerificationError(1, text)
    error.verify_code, error.verify_message = code, text
    return error


@pytest.mark.parametrize(
    ("code", "advice", "without"),
    [
        (18, "--ca-cert", None),  # self-signed
        (20, "--ca-cert", None),  # unknown issuer
        (62, "a host name that is in the certificate", "--ca-cert"),
        (64, "a host name that is in the certificate", "--ca-cert"),
        (10, "clock", "--ca-cert"),
    ],
)
def test_hint_when_a_certificate_is_rejected_then_it_fits_the_reason(code, advice, without):
    hint = described(certificate_error(code, "why")).hint
    assert advice in hint
    assert "--insecure" in hint
    assert without is None or without not in hint


def test_hint_when_a_client_certificate_is_required_then_option_is_named(
    start, authority, server_files
):
    registry = start(tls=True)
    registry._server.context.load_verify_locations(authority.cert)
    registry._server.context.verify_mode = ssl.CERT_REQUIRED
    # In TLS 1.3, the connection may end before the client reads the server's alert.
    registry._server.context.maximum_version = ssl.TLSVersion.TLSv1_2
    failure = failure_of(registry, ca_cert=authority.cert)
    assert "rejected the TLS connection" in failure.message
    assert "--client-cert" in failure.hint


def test_hint_when_tls_is_sent_to_a_plain_server_then_plain_http_is_named(start):
    failure = failure_of(start(tls=False), plain_http=False)
    assert "does not use TLS" in failure.message
    assert "--plain-http" in failure.hint


def test_hint_when_plain_http_is_sent_to_a_tls_server_then_option_is_named():
    failure = described(BadStatusLine("\x15\x03\x01\x00\x02\x02\x46"), "http://reg.example/v2/")
    assert "Omit --plain-http" in failure.hint


# -- proxies that terminate TLS --------------------------------------------------------------------


def upload(registry, store, away):
    headers = {"Location": f"{away}blobs/uploads/1"}
    registry.fault("POST", "/uploads/", status=202, headers=headers)
    store.put_blob(b"new")


def redirect(registry, store, away):
    registry.fault("GET", "/blobs/", status=307, headers={"Location": away})
    b"".join(store.blob(BLOB))


def page(registry, store, away):
    headers = {"Link": f'<{away}tags/list?last=a>; rel="next"'}
    registry.fault("GET", "/tags/", status=200, headers=headers, body=b'{"tags":["a"]}')
    store.tags()


def token(registry, store, _):
    registry.auth = "token"
    registry.challenge = f'Bearer realm="http://{registry.host}/token"'
    store.tags()


@pytest.mark.parametrize("ask", [upload, redirect, page, token])
def test_location_when_http_behind_https_then_the_error_names_the_header(start, authority, ask):
    registry = start(tls=True)
    away = f"http://{registry.host}/v2/team/app/"
    store = store_of(registry, ca_cert=authority.cert)
    with store, pytest.raises(RegistryError) as caught:
        ask(registry, store, away)
    assert "X-Forwarded-Proto: https" in caught.value.hint
    assert not caught.value.temporary


def test_hint_when_a_tls_server_responds_with_400_then_plain_http_is_named(start):
    """Go's and nginx's servers respond like this."""
    registry = start(tls=False)
    said = b"Client sent an HTTP request to an HTTPS server.\n"
    registry.fault("GET", "/blobs/", status=400, body=said)
    failure = failure_of(registry, plain_http=True)
    assert "Omit --plain-http" in failure.hint


def test_ipv6_when_in_a_url_then_the_layer_is_read(start):
    registry = start("::1", tls=False)
    registry.storage["layer"] = DATA
    blob = HttpBlob(f"http://{registry.host}/storage/layer")
    assert (blob.size, blob.read(3, 9)) == (len(DATA), DATA[3:9])
    blob.close()


@pytest.mark.parametrize("reason", ["WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", None])
def test_hint_when_openssl_reports_plain_text_then_plain_http_is_named(reason):
    """OpenSSL's reason depends on its version, and on whether the server responds at all."""
    error = ssl.SSLEOFError(8, "EOF occurred") if reason is None else ssl.SSLError(1, reason)
    error.reason = reason
    assert "--plain-http" in described(error).hint
