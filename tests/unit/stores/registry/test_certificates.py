"""``certs.d`` as skopeo reads it."""

import ssl
from contextlib import ExitStack

import pytest
from cryptography.hazmat.primitives import serialization

from support.registry import Registry
from support.registry_certificates import Authority
from support.registry_client import store_of
from support.tools import tool
from tocsin.errors import RegistryError
from tocsin.stores.registry import certificates
from tocsin.stores.registry.certificates import Certificates, find_certificates

HOST = "reg.example:5000"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_files(authority):
    return tuple(map(str, authority.issue("server")))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The four directories, in the order in which they are searched."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    system = (tmp_path / "etc/containers/certs.d", tmp_path / "etc/docker/certs.d")
    monkeypatch.setattr(certificates, "SYSTEM_DIRECTORIES", system)
    own = [tmp_path / "xdg/containers/certs.d", tmp_path / "home/.config/containers/certs.d"]
    return [*own, *system]


def put(place, host, **files):
    directory = place / host
    directory.mkdir(parents=True)
    for name, source in files.items():
        (directory / name.replace("_", ".")).write_bytes(source.read_bytes())
    return directory


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_authority_when_in_certs_d_then_trusted(places, authority, server_files, host, number):
    with Registry(tls=server_files, host=host) as registry:
        registry.repository("team/app").tags["t"] = "x"
        with pytest.raises(RegistryError, match="certificate is not trusted"):
            store_of(registry).tags()
        put(places[number], registry.host, ca_crt=authority.cert)
        with store_of(registry) as store:
            assert store.tags() == ["t"]


def test_authority_when_in_certs_d_then_trusted_for_redirects_too(places, authority, server_files):
    """Like skopeo, which uses one client for the registry and for redirects."""
    with Registry(tls=server_files) as registry, Registry(tls=server_files) as storage:
        put(places[3], registry.host, ca_crt=authority.cert)
        body = b'{"tags":["t"]}'
        storage.fault("GET", "/storage/x", status=200, body=body)
        headers = {"Location": f"{storage.url}/storage/x"}
        registry.fault("GET", "/tags/", status=307, headers=headers)
        with store_of(registry) as store:
            assert store.tags() == ["t"]


def test_client_certificate_when_in_certs_d_then_used(places, authority, server_files):
    certificate, key = authority.issue("client")
    with Registry(tls=server_files) as registry:
        registry._server.context.load_verify_locations(authority.cert)
        registry._server.context.verify_mode = ssl.CERT_REQUIRED
        registry.repository("team/app").tags["t"] = "x"
        files = {"ca_crt": authority.cert, "client_cert": certificate, "client_key": key}
        put(places[2], registry.host, **files)
        with store_of(registry) as store:
            assert store.tags() == ["t"]
        assert registry.requests[0].client_certificate


def test_client_certificate_when_given_as_an_option_then_that_is_used(
    places, authority, server_files
):
    certificate, key = authority.issue("client")
    other = authority.issue("other")
    with Registry(tls=server_files) as registry:
        registry._server.context.load_verify_locations(authority.cert)
        registry._server.context.verify_mode = ssl.CERT_REQUIRED
        registry.repository("team/app").tags["t"] = "x"
        files = {"ca_crt": authority.cert, "client_cert": certificate, "client_key": key}
        put(places[2], registry.host, **files)
        with store_of(registry, client_cert=other) as store:
            store.tags()
        assert "other" in str(registry.requests[0].client_certificate)


@pytest.mark.parametrize("number", range(4))
def test_directory_when_there_are_several_then_the_first_decides(places, authority, number):
    for place in places[number:]:
        put(place, HOST, ca_crt=authority.cert)
    assert find_certificates(HOST).authorities == (places[number] / HOST / "ca.crt",)


@pytest.mark.parametrize("other", ["reg.example", "reg.example:5001", "other.example:5000"])
def test_directory_when_of_another_host_or_port_then_not_read(places, authority, other):
    put(places[0], other, ca_crt=authority.cert)
    assert find_certificates(HOST) == Certificates()


def test_directory_when_it_cannot_be_read_then_skipped(places, authority, monkeypatch):
    put(places[1], HOST, ca_crt=authority.cert)
    places[0].mkdir(parents=True)
    (places[0] / HOST).write_text("a file")
    assert find_certificates(HOST).authorities == (places[1] / HOST / "ca.crt",)


@pytest.mark.parametrize("kind", ["cert", "key"])
def test_pair_when_a_half_is_missing_then_the_error_names_it(places, authority, kind):
    pair = dict(zip(("cert", "key"), authority.issue("client"), strict=True))
    put(places[0], HOST, **{f"client_{kind}": pair[kind]})
    missing = "key" if kind == "cert" else "cert"
    with pytest.raises(RegistryError, match=rf"client\.{kind}: client\.{missing} is missing") as e:
        find_certificates(HOST)
    assert ".crt" in e.value.hint


def test_pair_when_it_does_not_match_then_the_error_names_it(places, authority):
    certificate, key = authority.issue("a")[0], authority.issue("b")[1]
    put(places[0], HOST, client_cert=certificate, client_key=key)
    with pytest.raises(RegistryError, match=r"client\.cert: not a PEM certificate with the key"):
        find_certificates(HOST)


def test_pair_when_the_key_has_a_password_then_an_error_and_no_prompt(places, authority):
    certificate, key = authority.issue("a")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    directory = put(places[0], HOST, client_cert=certificate)
    (directory / "client.key").write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(RegistryError, match="without a password"):
        find_certificates(HOST)


def test_authority_when_the_file_has_none_then_skipped_with_a_warning(places, authority, caplog):
    """skopeo ignores such files."""
    directory = put(places[0], HOST, b_crt=authority.cert)
    (directory / "a.crt").write_text("nothing")
    (directory / "c.crt").symlink_to("nowhere")
    (directory / "README").write_text("nothing")
    assert find_certificates(HOST).authorities == (directory / "b.crt",)
    assert [record.args[0].name for record in caplog.records] == ["a.crt", "c.crt"]


@pytest.mark.interop
def test_certs_d_when_read_by_skopeo_then_the_same_registry_responds(
    place, authority, server_files, monkeypatch
):
    skopeo = tool("skopeo")
    monkeypatch.setenv("HOME", str(place))
    certificate, key = authority.issue("client")
    with ExitStack() as stack:
        registry = stack.enter_context(Registry(tls=server_files))
        registry._server.context.load_verify_locations(authority.cert)
        registry._server.context.verify_mode = ssl.CERT_REQUIRED
        registry.repository("team/app").tags["t"] = "x"
        registry.fault("GET", "^/v2/$", status=200, times=9)
        files = {"ca_crt": authority.cert, "client_cert": certificate, "client_key": key}
        put(place / ".config/containers/certs.d", registry.host, **files)
        assert '"t"' in skopeo("list-tags", f"docker://{registry.host}/team/app")
        with store_of(registry) as store:
            assert store.tags() == ["t"]
