"""Connections and tokens that are kept while repositories are opened and closed."""

import pickle
from dataclasses import replace

import pytest

import tocsin
from support import fleets
from support.registry import Registry
from tocsin.model.reference import parse_registry_name
from tocsin.stores.registry import KeptConnections, open_repository
from tocsin.stores.registry.kept import MAX_KEPT_HOSTS

NAMES = ("a/one", "a/two", "b/three")


@pytest.fixture
def registry():
    with Registry() as started:
        for name in NAMES:
            fleets.put(started.host, name, "base")
        started.requests.clear()
        started.accepted.clear()
        yield started


def read_all(registry, options):
    for name in NAMES:
        with open_repository(parse_registry_name(f"{registry.host}/{name}"), options) as store:
            assert store.tags() == ["1"]


def test_repositories_when_connections_are_kept_then_one_is_used(registry):
    with KeptConnections() as kept:
        read_all(registry, tocsin.RegistryOptions(plain_http=True, _kept=kept))
        assert len(registry.accepted) == 1


def test_repositories_when_nothing_is_kept_then_each_connects(registry):
    read_all(registry, tocsin.RegistryOptions(plain_http=True))
    assert len(registry.accepted) == len(NAMES)


def test_repositories_when_kept_were_closed_then_they_connect_again(registry):
    kept = KeptConnections()
    options = tocsin.RegistryOptions(plain_http=True, _kept=kept)
    with open_repository(parse_registry_name(f"{registry.host}/{NAMES[0]}"), options) as store:
        store.tags()
        kept.close()
        assert store.tags() == ["1"]
    read_all(registry, options)
    kept.close()


def test_tokens_when_kept_then_asked_for_once_per_repository(registry):
    registry.auth = "bearer"
    with KeptConnections() as kept:
        options = tocsin.RegistryOptions(username="alice", password="secret", _kept=kept)  # noqa: S106
        read_all(registry, options)
        read_all(registry, options)
        assert registry.tokens_issued == len(NAMES)


def test_tokens_when_options_have_another_user_then_not_shared(registry):
    registry.auth = "bearer"
    with KeptConnections() as kept:
        options = tocsin.RegistryOptions(username="alice", password="secret", _kept=kept)  # noqa: S106
        read_all(registry, options)
        with pytest.raises(tocsin.AuthError):
            read_all(registry, replace(options, password="wrong"))  # noqa: S106


def test_connections_when_too_many_hosts_then_the_oldest_is_closed(registry):
    closed = []

    class Place:
        pass

    with KeptConnections() as kept:

        def connect(number):
            def make(kind):
                transport = kind.__new__(kind)
                transport.drop = lambda: closed.append(number)
                return Place(), transport

            return make

        for number in range(MAX_KEPT_HOSTS):
            kept.connection(number, connect(number))
        kept.connection(0, connect("not called"))
        kept.connection("one more", connect("one more"))
        assert closed == [1]
    assert len(closed) == MAX_KEPT_HOSTS + 1


def test_options_when_pickled_then_without_connections():
    options = tocsin.RegistryOptions(_kept=KeptConnections())
    copy = pickle.loads(pickle.dumps(options))  # noqa: S301 (ours)
    assert copy._kept is None
    assert copy == options
