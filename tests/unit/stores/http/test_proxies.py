"""Proxies: their selection, with expected values from Go, and errors."""

import re
import socket
import threading
from contextlib import contextmanager, suppress

import pytest
import requests
from urllib3.exceptions import ProxyError

from support.registry_client import FakeTime
from tocsin.errors import RegistryError
from tocsin.model.reference import RegistryReference
from tocsin.stores.http.failures import network_error
from tocsin.stores.http.origin import Origin
from tocsin.stores.http.proxies import goes_direct, proxy_of
from tocsin.stores.registry import RegistryOptions, open_repository

CLOSED = "127.0.0.1:1"
IPV6 = "https://[2001:db8::5]:5000/v2/"


def failure_of(**options):
    options = RegistryOptions(_clock=FakeTime().clock, **options)
    store = open_repository(RegistryReference("reg.example.test", "a"), options)
    with store, pytest.raises(RegistryError) as caught:
        store.tags()
    return caught.value


@contextmanager
def proxy_that_answers(data):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        requests = []

        def serve():
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        requests.append(connection.recv(1 << 16))
                        connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", requests


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("login", ["", "alice:secret@", "alice:p@ssw%2frd@"])
def test_proxy_when_it_is_down_then_the_error_names_it_and_no_password(
    monkeypatch, variable, login
):
    monkeypatch.setenv(variable, f"http://{login}{CLOSED}")
    error = failure_of()
    assert re.search(rf"proxy http://{CLOSED}: connection refused$", error.message)
    assert "NO_PROXY" in error.hint
    assert not re.search("secret|p@ss|w%2frd|alice", error.message + error.hint)


def test_proxy_when_its_password_splits_the_url_then_no_part_is_shown(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://alice:p@ss/w#rd@{CLOSED}")
    error = failure_of()
    assert not re.search("p@ss|w#rd|alice", error.message + error.hint)


def test_proxy_when_plain_http_goes_through_it_then_the_error_names_it(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://{CLOSED}")
    assert f"proxy http://{CLOSED}: connection refused" in failure_of(plain_http=True).message


def test_proxy_when_it_is_named_without_a_scheme_then_the_error_names_it(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", CLOSED)
    assert f"proxy http://{CLOSED}: " in failure_of().message


def test_proxy_when_its_name_cannot_be_resolved_then_the_error_names_it():
    unknown = socket.gaierror(-2, "Name or service not known")
    error = network_error(ProxyError("Unable to connect to proxy", unknown), IPV6, "http://p:1")
    assert "proxy http://p:1: the host name cannot be resolved" in error.message


@pytest.mark.parametrize(
    ("status", "temporary", "advice"),
    [
        ("407 Proxy Authentication Required", False, "user name and password"),
        ("403 Forbidden", False, "NO_PROXY"),
        ("503 Service Unavailable", True, "NO_PROXY"),
    ],
)
def test_proxy_when_it_refuses_to_connect_then_its_reason_is_shown(
    monkeypatch, status, temporary, advice
):
    with proxy_that_answers(f"HTTP/1.1 {status}\r\n\r\n".encode()) as (host, requests):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
        error = failure_of()
    assert f"proxy http://{host}: the proxy refused to connect" in error.message
    assert status in error.message
    assert error.temporary is temporary
    assert advice in error.hint
    assert len(requests) == (5 if temporary else 1)


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "gopher://alice:secret@127.0.0.1:1"])
def test_proxy_when_its_scheme_is_unknown_then_the_error_says_so(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = failure_of()
    assert re.search(r"proxy \w+://(\*+@)?127.0.0.1:1: unsupported URL scheme", error.message)
    assert "secret" not in error.message


def test_proxy_when_its_url_is_invalid_then_the_error_says_so(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://")
    assert "invalid URL" in failure_of().message


def test_socks_when_its_package_is_missing_then_the_error_names_it(monkeypatch):
    def stand_in(*_, **__):  # as requests defines it if PySocks cannot be imported
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", stand_in)
    monkeypatch.setenv("ALL_PROXY", "socks5h://alice:secret@127.0.0.1:1")
    error = failure_of()
    assert "127.0.0.1:1: SOCKS requires the Python package PySocks" in error.message
    assert "pip install PySocks" in error.hint
    assert "secret" not in error.message
    assert not error.temporary


@pytest.mark.parametrize(
    ("socket_error", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (None, '"0x05: Connection refused"'),
    ],
)
def test_socks_when_the_proxy_fails_then_the_error_names_it_and_the_reason(socket_error, said):
    """PySocks is not required: its exceptions are recognized by their module."""
    kind = type("ProxyError", (OSError,), {"__module__": "socks"})
    failure = kind("0x05: Connection refused")
    failure.msg, failure.socket_err = "0x05: Connection refused", socket_error
    failure.__cause__ = socket_error
    error = network_error(failure, IPV6, "socks5://127.0.0.1:1")
    assert error.message.endswith(f": proxy socks5://127.0.0.1:1: {said}")
    assert "NO_PROXY" in error.hint


def test_proxy_when_the_registry_fails_behind_it_then_it_is_not_blamed():
    error = network_error(ConnectionResetError(104, "Connection reset by peer"), IPV6, "http://p:1")
    assert "proxy" not in error.message


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("", False),
        ("2001:db8::5", True),
        ("[2001:db8::5]", True),  # like curl; Go accepts brackets only with a port
        ("[2001:db8::5]:5000", True),
        ("[2001:db8::5]:5001", False),
        ("2001:db8:0:0::5", True),
        ("example.com, 2001:db8::/32", True),
        ("2001:db9::/32", False),
        ("10.0.0.0/8,2001:db8::6", False),
        ("*", True),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy_when_the_host_is_an_ipv6_address_then_treated_as_in_go(
    monkeypatch, variable, no_proxy, direct
):
    """Expected: `ProxyFunc` of golang.org/x/net/http/httpproxy."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv(variable, no_proxy)
    assert proxy_of(IPV6) == (None if direct else "http://proxy.example:3128")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]:5000", "localhost", "a.localhost"])
def test_proxy_when_the_host_is_loopback_then_never_used(monkeypatch, host):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert goes_direct(Origin.of(f"https://{host}"))
    assert proxy_of(f"https://{host}/v2/") is None
