"""Options of registries and web servers: what they show, and what is pickled."""

import copy
import json
import pickle
from dataclasses import replace

import pytest

import tocsin
from support.images import make_image
from support.registry_client import store_of
from tocsin.stores.http.options import HttpOptions
from tocsin.stores.registry.options import RegistryOptions

GIVEN = {"username": "alice", "password": "secret"}


def sent(options):
    return pickle.loads(pickle.dumps(options))  # noqa: S301 (our own)


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home directory without credentials."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    return tmp_path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_options_when_pickled_then_all_but_the_login_is_kept(protocol):
    options = RegistryOptions(
        **GIVEN,
        ca_cert="ca.pem",
        insecure=True,
        jobs=7,
        plain_http=True,
        hosts_dir="hosts",
        timeout=1.5,
    )
    data = pickle.dumps(options, protocol)
    assert b"secret" not in data
    assert b"alice" not in data
    again = pickle.loads(data)  # noqa: S301 (our own)
    assert again == replace(options, username=None, password=None, credentials_dropped=True)
    assert pickle.loads(pickle.dumps(again)) == again  # noqa: S301 (sent on)


def test_options_when_without_login_then_nothing_is_dropped():
    options = RegistryOptions(ca_cert="ca.pem")
    assert sent(options) == options
    assert not sent(options).credentials_dropped
    assert sent(RegistryOptions(username="alice")).credentials_dropped


def test_http_options_when_pickled_then_the_debug_hook_stays():
    options = HttpOptions(debug=lambda line: None, client_cert=("a.pem", "b.pem"))
    assert sent(options) == replace(options, debug=None)


def test_options_when_copied_in_a_process_then_they_are_the_same():
    options = RegistryOptions(**GIVEN)
    assert copy.copy(options) is options
    assert copy.deepcopy(options) is options


def test_options_when_shown_then_without_the_login():
    for shown in (repr(RegistryOptions(**GIVEN)), str(RegistryOptions(**GIVEN))):
        assert "secret" not in shown
        assert "alice" not in shown


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_login_when_dropped_and_none_is_stored_then_the_error_says_so(registry, home, auth):
    with store_of(registry, write=True) as store:
        make_image().put(store, "t")
    registry.auth = auth
    registry.anonymous_scopes = {"repository:team/app:pull"}
    options = sent(RegistryOptions(**GIVEN))
    with pytest.raises(tocsin.AuthError) as refusal:
        tocsin.resolve(f"{registry.host}/team/app:t", registry=options)
    assert str(refusal.value).startswith(
        f"docker://{registry.host}/team/app: user name and password are not passed to other "
        f"processes, and no credentials were found in this one (searched: {home}/auth.json"
    )
    assert not registry.asked("GET", "^/token"), "no anonymous token may be requested"


def test_login_when_dropped_and_one_is_stored_then_that_is_used(registry, home):
    with store_of(registry, write=True) as store:
        put = make_image().put(store, "t")
    registry.auth = "token"
    (home / "auth.json").write_text(json.dumps({"auths": {registry.host: GIVEN}}))
    options = sent(RegistryOptions(username="bob", password="other"))  # noqa: S106
    assert tocsin.resolve(f"{registry.host}/team/app:t", registry=options) == put


def test_login_when_dropped_and_given_anew_then_that_is_used(registry, home):
    with store_of(registry, write=True) as store:
        put = make_image().put(store, "t")
    registry.auth = "basic"
    options = replace(sent(RegistryOptions(**GIVEN)), **GIVEN)
    assert tocsin.resolve(f"{registry.host}/team/app:t", registry=options) == put


def test_login_when_dropped_but_not_required_then_requests_succeed(registry, home):
    with store_of(registry, write=True) as store:
        put = make_image().put(store, "t")
    options = sent(RegistryOptions(**GIVEN))
    assert tocsin.resolve(f"{registry.host}/team/app:t", registry=options) == put


def test_certificates_when_given_as_text_then_treated_like_paths(tmp_path):
    missing = str(tmp_path / "nope.pem")
    with pytest.raises(FileNotFoundError):
        tocsin.resolve("h.test/a:t", registry=RegistryOptions(ca_cert=missing))
