"""Where containerd listens, which namespace is meant, and what is missing for that."""

import socket
import sys

import pytest

from tocsin.errors import ContainerdError, FormatError, UnsupportedError
from tocsin.model.reference import parse_reference
from tocsin.stores.containerd import open_containerd
from tocsin.stores.containerd.address import address_of, check_socket, namespace_of

NAME = "containerd:default"
REFERENCE = parse_reference("containerd:r.io/x:1")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for name in ("CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


def test_namespace_when_not_written_then_the_environment_or_default(monkeypatch):
    assert namespace_of(REFERENCE) == "default"
    monkeypatch.setenv("CONTAINERD_NAMESPACE", "my.team")
    assert namespace_of(REFERENCE) == "my.team"
    assert namespace_of(parse_reference("containerd:k8s.io/r.io/x:1")) == "k8s.io"
    monkeypatch.setenv("CONTAINERD_NAMESPACE", "")
    assert namespace_of(REFERENCE) == "default"
    monkeypatch.setenv("CONTAINERD_NAMESPACE", "a/b")
    with pytest.raises(FormatError, match='invalid namespace "a/b"'):
        namespace_of(REFERENCE)


def test_address_when_set_then_it_is_the_path_of_a_socket(monkeypatch, tmp_path):
    assert address_of(NAME) == "/run/containerd/containerd.sock"
    for text in (f"{tmp_path}/c.sock", f"unix://{tmp_path}/c.sock"):
        monkeypatch.setenv("CONTAINERD_ADDRESS", text)
        assert address_of(NAME) == f"{tmp_path}/c.sock"
    monkeypatch.setenv("CONTAINERD_ADDRESS", "tcp://127.0.0.1:1")
    with pytest.raises(UnsupportedError, match=r"found tcp://127\.0\.0\.1:1"):
        address_of(NAME)


def test_socket_when_nobody_listens_then_the_error_says_so(tmp_path):
    path = tmp_path / "c.sock"
    with pytest.raises(ContainerdError, match="the socket does not exist") as caught:
        check_socket(NAME, str(path))
    assert caught.value.hint == "Start containerd, or set CONTAINERD_ADDRESS to its socket."
    assert (caught.value.code, caught.value.temporary) == ("UNAVAILABLE", True)
    assert caught.value.url == f"unix://{path}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with pytest.raises(ContainerdError, match="nothing listens there"):
            check_socket(NAME, str(path))
        server.listen()
        check_socket(NAME, str(path))
    with pytest.raises(ContainerdError, match="cannot connect to containerd"):
        check_socket(NAME, "/" + "x" * 200)  # longer than a socket's address may be


def test_store_when_grpc_is_missing_then_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(UnsupportedError, match="packages for containerd are missing") as caught:
        open_containerd(REFERENCE)
    assert caught.value.hint == "Install them with pip install 'tocsin[containerd]'."


def test_store_when_protobuf_is_too_old_then_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "tocsin.containerd_api.messages_pb2", None)
    monkeypatch.delattr("tocsin.containerd_api.messages_pb2", raising=False)
    with pytest.raises(UnsupportedError, match="missing or too old"):
        open_containerd(REFERENCE, write=True)
