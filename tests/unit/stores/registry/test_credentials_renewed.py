"""Credentials that expire while a repository is open, and the program that is asked for them."""

import json
import pickle

import pytest

from support.registry_client import FakeTime, store_of
from tocsin.errors import AuthError
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.stores.registry import RegistryOptions
from tocsin.stores.registry.credentials import Credential

DATA = b"layer" * 1000
BLOB = Descriptor.of(DATA, OCI_LAYER_GZIP)
LATER = 6.0
"""Seconds after which credentials are searched for again."""


@pytest.fixture(autouse=True)
def blob(registry):
    registry.repository("team/app").blobs[str(BLOB.digest)] = DATA


class Asked:
    """Gives credentials, and counts the questions."""

    def __init__(self, *passwords):
        self.passwords = list(passwords)
        self.questions = []

    def __call__(self, host, repository):
        self.questions.append((host, repository))
        password = self.passwords[0]
        if len(self.passwords) > 1:
            del self.passwords[0]
        return None if password is None else Credential("the test", "alice", password)


def data_of(store):
    return b"".join(store.blob(BLOB))


@pytest.mark.parametrize("scheme", ["basic", "token"])
def test_password_when_it_expires_then_the_new_one_is_used(registry, scheme):
    registry.auth = scheme
    time, ask = FakeTime(), Asked("secret", "renewed")
    with store_of(registry, time=time, _ask=ask) as store:
        assert data_of(store) == DATA
        registry.users["alice"] = "renewed"
        registry.tokens.clear()
        time.now += LATER
        assert data_of(store) == DATA
    assert ask.questions == [(registry.host, "team/app")] * 2


@pytest.mark.parametrize("scheme", ["basic", "token"])
def test_password_when_missing_at_first_then_used_once_it_is_there(registry, scheme):
    registry.auth = scheme
    time, ask = FakeTime(), Asked(None, "secret")
    with store_of(registry, time=time, _ask=ask) as store:
        with pytest.raises(AuthError):
            data_of(store)
        time.now += LATER
        assert data_of(store) == DATA


def test_password_when_refused_with_403_as_by_ecr_then_the_new_one_is_used(registry):
    registry.auth = "basic"
    time, ask = FakeTime(), Asked("secret", "renewed")
    with store_of(registry, time=time, _ask=ask) as store:
        assert data_of(store) == DATA
        registry.users["alice"] = "renewed"
        registry.fault("GET", "/blobs/", status=403, body=b"token has expired")
        time.now += LATER
        assert data_of(store) == DATA
    assert len(ask.questions) == 2


@pytest.mark.parametrize("scheme", ["basic", "token"])
def test_password_when_refused_again_then_not_searched_for_every_time(registry, scheme):
    registry.auth = scheme
    time, ask = FakeTime(), Asked("wrong")
    with store_of(registry, time=time, _ask=ask) as store:
        for _ in range(5):
            with pytest.raises(AuthError):
                data_of(store)
    assert len(ask.questions) == 1


def test_file_when_rewritten_while_open_then_read_again(registry, monkeypatch, tmp_path):
    def write(password):
        login = {"username": "alice", "password": password}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: login}}))

    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    write("secret")
    registry.auth = "token"
    time = FakeTime()
    with store_of(registry, time=time) as store:
        assert data_of(store) == DATA
        registry.users["alice"] = "renewed"
        registry.tokens.clear()
        write("renewed")
        time.now += LATER
        assert data_of(store) == DATA


def test_file_when_damaged_while_open_then_the_refusal_is_reported(registry, monkeypatch, tmp_path):
    login = {"username": "alice", "password": "secret"}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: login}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    registry.auth = "basic"
    time = FakeTime()
    with store_of(registry, time=time) as store:
        assert data_of(store) == DATA
        registry.users["alice"] = "renewed"
        (tmp_path / "config.json").write_text("not JSON")
        time.now += LATER
        with pytest.raises(AuthError, match="access denied"):
            data_of(store)


def test_options_when_pickled_then_without_what_is_asked():
    options = RegistryOptions(_ask=Asked("secret"))
    assert pickle.loads(pickle.dumps(options))._ask is None  # noqa: S301 (our own data)
