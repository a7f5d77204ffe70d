import json
import re
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.registry_client import FakeTime, store_of
from tocsin.errors import AuthError, RegistryError
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.stores.base import TakenOver

BLOBS = r"/blobs/sha256:"
DATA = b"layer" * 50_000
BLOB = Descriptor.of(DATA, OCI_LAYER_GZIP)
ALICE = {"username": "alice", "password": "secret"}
WRONG = {"username": "alice", "password": "wrong-secret"}


@pytest.fixture(autouse=True)
def blob(registry):
    for name in ("team/app", "team/base"):
        registry.repository(name).blobs[str(BLOB.digest)] = DATA


def read(registry, **options):
    with store_of(registry, **options) as store:
        return b"".join(store.blob(BLOB))


def scopes(registry):
    return [sorted(r.query.get("scope", "").split()) for r in registry.asked("GET", "^/token")]


def docker_config(monkeypatch, tmp_path, document):
    (tmp_path / "config.json").write_text(json.dumps(document))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


# -- Basic -----------------------------------------------------------------------------------------


def test_basic_when_given_then_sent_after_the_first_challenge(registry):
    registry.auth = "basic"
    with store_of(registry, **ALICE) as store:
        for _ in range(2):
            assert b"".join(store.blob(BLOB)) == DATA
    sent = [r.headers.get("authorization") for r in registry.requests]
    assert sent == [None, *["Basic YWxpY2U6c2VjcmV0"] * 2]


def test_basic_when_wrong_then_an_error_names_registry_scope_and_source(registry):
    registry.auth = "basic"
    with pytest.raises(AuthError) as caught:
        read(registry, **WRONG)
    assert re.fullmatch(
        rf"docker://{registry.host}/team/app: access denied for scope repository:team/app:pull: "
        'HTTP 401 UNAUTHORIZED: "no"; the credentials are from the given user name and password',
        str(caught.value),
    )
    assert len(registry.requests) == 2


def test_basic_when_none_is_found_then_each_place_is_named(registry, tmp_path):
    registry.auth = "basic"
    with pytest.raises(AuthError) as caught:
        read(registry)
    message = str(caught.value)
    assert "access denied for scope repository:team/app:pull" in message
    home = tmp_path / "home"
    assert f"{home}/.docker/config.json (missing); " in message
    assert f"{home}/.config/containers/auth.json (missing)" in message
    assert len(registry.requests) == 1


# -- Bearer ----------------------------------------------------------------------------------------


def test_bearer_when_challenged_then_one_token_serves_many_requests(registry):
    registry.auth = "token"
    with store_of(registry, **ALICE) as store:
        for _ in range(3):
            assert b"".join(store.blob(BLOB)) == DATA
    [token] = registry.asked("GET", "^/token")
    assert token.query == {
        "account": "alice",
        "service": "fake",
        "scope": "repository:team/app:pull",
    }
    assert token.headers["authorization"] == "Basic YWxpY2U6c2VjcmV0"
    assert len(registry.requests) == 5


def test_bearer_when_many_threads_start_at_once_then_they_share_a_token(registry):
    registry.auth = "token"
    with store_of(registry, **ALICE) as store, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: b"".join(store.blob(BLOB)), range(16))) == {DATA}
    assert len(registry.asked("GET", "^/token")) == 1


def test_bearer_when_opened_for_writing_then_push_is_requested_at_once(registry):
    registry.auth = "token"
    with store_of(registry, write=True, **ALICE) as store:
        assert b"".join(store.blob(BLOB)) == DATA
        store.put_blob(b"new")
    assert scopes(registry) == [["repository:team/app:pull,push"]]


def test_bearer_when_pushing_after_pulling_then_one_wider_token_is_fetched(registry):
    registry.auth = "token"
    with store_of(registry, **ALICE) as store:
        assert b"".join(store.blob(BLOB)) == DATA
        store.put_blob(b"new")
        assert b"".join(store.blob(BLOB)) == DATA
    assert scopes(registry) == [["repository:team/app:pull"], ["repository:team/app:pull,push"]]


def test_bearer_when_mounting_then_the_scope_of_the_source_is_added(registry):
    registry.auth = "token"
    with store_of(registry, "team/new", **ALICE) as store, store_of(registry, "team/base") as base:
        assert store.take_over(BLOB, base.origin) == TakenOver()
    assert registry.requests[-2].path == "/token"
    assert registry.requests[-2].query["scope"] == "repository:team/new:pull,push"
    lists = [r.headers for r in registry.asked("POST", "uploads/$")]
    assert len(lists) == 2
    granted = set().union(*registry.tokens.values())
    assert granted == {
        "repository:team/new:pull",
        "repository:team/new:push",
        "repository:team/base:pull",
    }


def test_bearer_when_the_token_is_about_to_expire_then_replaced(registry):
    registry.auth = "token"
    registry.token_life = 60
    time = FakeTime()
    with store_of(registry, time=time, **ALICE) as store:
        for passing, tokens in [(0, 1), (45, 1), (6, 2), (49, 2), (1, 3)]:
            time.now += passing
            assert b"".join(store.blob(BLOB)) == DATA
            assert len(registry.asked("GET", "^/token")) == tokens
    assert [r.status for r in registry.asked("GET", BLOBS)] == [401, *[200] * 5]


def test_bearer_when_the_token_expires_within_a_blob_then_resumed(registry):
    registry.auth = "token"
    registry.fault("GET", BLOBS, skip=1, close_after=100_000, before=None)
    expire = registry.fault("GET", BLOBS, skip=2, before=registry.tokens.clear)
    registry.faults.reverse()
    assert read(registry, **ALICE) == DATA
    assert expire.times == 0
    asked = [(r.status, r.headers.get("range")) for r in registry.asked("GET", BLOBS)]
    rest = f"bytes=100000-{len(DATA) - 1}"
    assert asked == [(401, None), (200, None), (401, rest), (206, rest)]
    assert len(registry.asked("GET", "^/token")) == 2


def test_bearer_when_credentials_are_rejected_then_no_anonymous_attempt(registry):
    registry.auth = "token"
    registry.anonymous_scopes = {"repository:team/app:pull"}
    with pytest.raises(AuthError) as caught:
        read(registry, **WRONG)
    assert f"from token server {registry.url}/token" in str(caught.value)
    assert "the credentials are from the given user name and password" in str(caught.value)
    assert "wrong-secret" not in str(caught.value)
    assert len(registry.requests) == 2


def test_bearer_when_no_credentials_then_an_anonymous_token_is_used(registry):
    registry.auth = "token"
    registry.anonymous_scopes = {"repository:team/app:pull"}
    assert read(registry) == DATA
    with (
        pytest.raises(
            AuthError,
            match=r"access denied for scope repository:team/app:pull,push: HTTP 401 .*"
            r"no credentials found \(searched:",
        ),
        store_of(registry) as store,
    ):
        store.put_blob(b"new")


def test_bearer_when_the_token_server_fails_temporarily_then_retried(registry):
    registry.auth = "token"
    registry.fault("GET", "^/token", status=503, times=3)
    assert read(registry, **ALICE) == DATA


def test_bearer_when_the_token_server_is_down_then_the_error_is_temporary(registry):
    registry.auth = "token"
    registry.fault("GET", "^/token", status=503, times=99)
    with pytest.raises(RegistryError, match=r"token server .*HTTP 503") as caught:
        read(registry, **ALICE)
    assert caught.value.temporary
    assert not isinstance(caught.value, AuthError)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token":7}', b'{"token":"a\\nb: c"}', b'{"token":""}', b"x" * (2 << 20)],
)
def test_bearer_when_the_response_has_no_token_then_an_error(registry, body):
    registry.auth = "token"
    registry.fault("GET", "^/token", status=200, body=body, times=9)
    with pytest.raises(AuthError, match=r"token server .*: the response "):
        read(registry, **ALICE)


@pytest.mark.parametrize(
    ("challenge", "problem"),
    [
        ('Bearer realm="file:///etc/passwd"', "neither http nor https"),
        ('Bearer realm=""', "no token server"),
        ("Bearer", "no token server"),
        ('Bearer realm="http://u:p@127.0.0.1/"', "contains a user name"),
        ("Digest realm=x", "authentication scheme .found digest"),
        ("", "no WWW-Authenticate header"),
    ],
)
def test_challenge_when_it_cannot_be_answered_then_an_error(registry, challenge, problem):
    registry.auth = "token"
    registry.challenge = challenge
    with pytest.raises(AuthError, match=problem):
        read(registry, **ALICE)


def test_challenge_when_several_then_bearer_is_preferred(registry):
    registry.auth = "token"
    registry.challenge = f'Basic realm="r", Bearer realm="{registry.url}/token",service="fake"'
    assert read(registry, **ALICE) == DATA


def test_challenge_when_it_has_another_scope_then_both_are_requested(
    registry,
):
    registry.auth = "token"
    registry.challenge = (
        f'Bearer realm="{registry.url}/token",scope="repository:inner/app:pull a:b:c"'
    )
    with store_of(registry, **ALICE) as store:
        for _ in range(2):
            assert b"".join(store.blob(BLOB)) == DATA
    assert registry.asked("GET", "^/token")[-1].query["scope"] == "repository:team/app:pull"
    assert len(registry.asked("GET", "^/token")) == 1


def test_challenge_when_the_token_server_redirects_then_without_password(registry, elsewhere):
    registry.auth = "token"
    there = {"Location": f"{elsewhere.url}/token"}
    registry.fault("GET", "^/token", status=307, headers=there)
    with pytest.raises(AuthError):
        read(registry, **ALICE)
    assert "authorization" not in elsewhere.requests[0].headers


def test_identity_token_when_stored_then_exchanged_by_post(registry, monkeypatch, tmp_path):
    registry.auth = "token"
    docker_config(
        monkeypatch, tmp_path, {"auths": {registry.host: {"identitytoken": "identity-secret"}}}
    )
    assert read(registry) == DATA
    [request] = registry.asked("POST", "^/token")
    assert request.body.decode() == (
        "grant_type=refresh_token&service=fake&client_id=tocsin"
        "&scope=repository%3Ateam%2Fapp%3Apull&refresh_token=identity-secret"
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 501])
def test_identity_token_when_post_is_refused_then_get_with_it_as_password(
    registry, monkeypatch, tmp_path, status
):
    """Like containerd and go-containerregistry; some token servers do not support POST."""
    registry.auth = "token"
    user = "00000000-0000-0000-0000-000000000000"  # Azure's user name, with the token as password
    registry.users[user] = "identity-secret"
    entry = {"auth": b64encode(f"{user}:".encode()).decode(), "identitytoken": "identity-secret"}
    docker_config(monkeypatch, tmp_path, {"auths": {registry.host: entry}})
    registry.fault("POST", "^/token", status=status, times=99)
    assert read(registry) == DATA
    [request] = registry.asked("GET", "^/token")
    assert request.query["account"] == user


def test_identity_token_when_post_and_get_are_refused_then_get_is_reported(
    registry, monkeypatch, tmp_path
):
    registry.auth = "token"
    entry = {"identitytoken": "identity-secret"}
    docker_config(monkeypatch, tmp_path, {"auths": {registry.host: entry}})
    for method, words in (("POST", b"no POST here"), ("GET", b"account is locked")):
        body = b'{"errors":[{"code":"DENIED","message":"%s"}]}' % words
        registry.fault(method, "^/token", status=403, body=body)
    with pytest.raises(AuthError, match='HTTP 403 DENIED: "account is locked"') as caught:
        read(registry)
    assert "identity-secret" not in caught.value.message
    assert "account" not in registry.asked("GET", "^/token")[0].query


def test_identity_token_when_redirected_or_refused_then_not_sent_on(
    registry, elsewhere, monkeypatch, tmp_path
):
    registry.auth = "token"
    entry = {"identitytoken": "other-secret"}
    docker_config(monkeypatch, tmp_path, {"auths": {registry.host: entry}})
    with pytest.raises(AuthError, match=rf"credentials are from {tmp_path}/config.json, entry"):
        read(registry)
    there = {"Location": f"{elsewhere.url}/token"}
    registry.fault("POST", "^/token", status=307, headers=there)
    with pytest.raises(RegistryError, match="the body contains a secret"):
        read(registry)
    assert elsewhere.requests == []


def test_registry_token_when_stored_then_sent_to_the_registry(registry, monkeypatch, tmp_path):
    registry.auth = "token"
    registry.tokens["ready-secret"] = {"repository:team/app:pull"}
    entry = {"registrytoken": "ready-secret"}
    docker_config(monkeypatch, tmp_path, {"auths": {registry.host: entry}})
    assert read(registry) == DATA
    registry.tokens.clear()
    with pytest.raises(AuthError, match="access denied for scope repository:team/app:pull"):
        read(registry)
    assert registry.asked("GET", "^/token") == []


@pytest.mark.parametrize("options", [{"username": "a"}, {"password": "b"}])
def test_credentials_when_incomplete_then_an_error(registry, options):
    with pytest.raises(AuthError, match=r"(password|user name) is missing"):
        store_of(registry, **options)
