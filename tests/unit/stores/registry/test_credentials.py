import json
import sys
from base64 import b64encode, encodebytes
from types import SimpleNamespace

import pytest

from tocsin.errors import AuthError
from tocsin.stores.registry.credential_helper import ask_helper
from tocsin.stores.registry.credentials import Credential, find_credential

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def auth(pair):
    return {"auth": b64encode(pair.encode()).decode()}


@pytest.fixture
def places(tmp_path):
    """Return an environment, and a function that writes one of its credential files."""
    environ = {
        "HOME": str(tmp_path / "home"),
        "REGISTRY_AUTH_FILE": str(tmp_path / "named.json"),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
    files = {
        "named": tmp_path / "named.json",
        "docker": tmp_path / "docker/config.json",
        "runtime": tmp_path / "run/containers/auth.json",
        "config": tmp_path / "home/.config/containers/auth.json",
    }

    def write(place, document):
        files[place].parent.mkdir(parents=True, exist_ok=True)
        text = document if isinstance(document, str) else json.dumps(document)
        files[place].write_text(text)

    return environ, write


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Return a function that installs a credential helper."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")

    def install(name, script):
        path = directory / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return install


def found(environ, host="reg.example", repository="team/app"):
    credential = find_credential(host, repository, environ=environ).credential
    return credential and (
        credential.username,
        credential.password or credential.identity_token or credential.registry_token,
    )


def test_find_when_in_every_place_then_in_the_expected_order(places):
    environ, write = places
    for place in ("config", "runtime", "docker", "named"):
        write(place, {"auths": {"reg.example": auth(f"u:{place}")}})
        assert found(environ) == ("u", place)
    search = find_credential("reg.example", "a", explicit=("me", "x"), environ=environ)
    assert search.credential == Credential("the given user name and password", "me", "x")


def test_find_when_nowhere_then_every_place_is_listed(places):
    environ, write = places
    write("docker", {"auths": {"other.example": auth("a:b")}})
    search = find_credential("reg.example", "team/app", environ=environ)
    assert search.credential is None
    named, docker, runtime, config = search.looked_at
    assert named.endswith("named.json (missing)")
    assert docker.endswith("docker/config.json")
    assert runtime.endswith("run/containers/auth.json (missing)")
    assert config.endswith("home/.config/containers/auth.json (missing)")


def test_find_when_no_variable_is_set_then_the_usual_places():
    search = find_credential("reg.example", "a", environ={"HOME": "/nonexistent"})
    assert search.looked_at[0] == "/nonexistent/.docker/config.json (missing)"
    assert search.looked_at[1].startswith("/run/containers/")
    assert search.looked_at[2] == "/nonexistent/.config/containers/auth.json (missing)"


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "docker.io"),
        ("docker.io", "index.docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("reg.example", "reg.example"),
        ("reg.example", "https://reg.example"),
        ("reg.example", "http://reg.example/v1/"),
        ("reg.example", "reg.example/v2/"),
        ("reg.example:5000", "https://reg.example:5000/v2"),
        ("reg.example", "reg.example/team/app"),
        ("reg.example", "reg.example/team"),
    ],
)
def test_find_when_the_key_has_another_spelling_then_found(places, host, key):
    environ, write = places
    write("docker", {"auths": {key: auth("u:p")}})
    assert found(environ, host) == ("u", "p")


@pytest.mark.parametrize(
    "key", ["reg.example:5000", "evil-reg.example", "reg.example/team/ap", "reg.example/other", ""]
)
def test_find_when_the_key_is_for_another_host_then_not_found(places, key):
    environ, write = places
    write("runtime", {"auths": {key: auth("u:p")}})
    assert found(environ) is None


def test_find_when_a_key_is_more_specific_then_it_wins(places):
    environ, write = places
    keys = ("reg.example", "reg.example/team", "reg.example/team/app")
    write("runtime", {"auths": {key: auth(f"u:{key}") for key in keys}})
    assert found(environ) == ("u", keys[2])
    assert found(environ, repository="team/other") == ("u", keys[1])
    assert found(environ, repository="other") == ("u", keys[0])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "u", "password": "p:q"}, ("u", "p:q")),
        (auth("u:p:q"), ("u", "p:q")),
        ({**auth("u:"), "identitytoken": "t"}, ("u", "t")),
        ({"registrytoken": "t"}, ("", "t")),
        ({}, None),
        ({"auth": ""}, None),
    ],
)
def test_find_when_entries_have_different_forms_then_all_are_read(places, entry, expected):
    environ, write = places
    write("docker", {"auths": {"reg.example": entry}})
    assert found(environ) == expected


@pytest.mark.parametrize(
    "document",
    [
        "not json",
        "[]",
        '{"auths": 7}',
        '{"auths": {"reg.example": 7}}',
        '{"auths": {"reg.example": {"auth": "c2VjcmV0"}}}',
        '{"auths": {"reg.example": {"auth": "hidden-secret!"}}}',
        '{"auths": {"reg.example": {"auth": 1}}}',
        '{"credsStore": 1}',
        '{"credHelpers": {"reg.example": 1}}',
        '{"credHelpers": {"reg.example": "../../bin/sh"}}',
    ],
)
def test_find_when_a_file_is_invalid_then_an_error_without_its_content(places, document):
    environ, write = places
    write("docker", document)
    with pytest.raises(AuthError, match=r"^credentials: ") as caught:
        found(environ)
    assert "secret" not in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)


def test_find_when_a_file_is_empty_then_it_has_nothing(places):
    environ, write = places
    write("docker", "")
    assert found(environ) is None


def test_credential_when_shown_then_without_secrets():
    shown = repr(Credential("x", "user-secret", "pass-secret", "id-secret", "reg-secret"))
    assert shown == "Credential(source='x')"


# -- helpers ---------------------------------------------------------------------------------------


def test_helper_when_named_for_the_host_then_it_gets_the_server_on_stdin(places, helper, tmp_path):
    environ, write = places
    helper(
        "mine",
        f'test "$1" = get || exit 9\ncat > {tmp_path}/asked\n'
        'echo \'{"ServerURL":"x","Username":"u","Secret":"s"}\'',
    )
    write("docker", {"credHelpers": {"reg.example": "mine"}, "credsStore": "absent"})
    assert found(environ) == ("u", "s")
    assert (tmp_path / "asked").read_text() == "reg.example"
    write("docker", {"credsStore": "mine"})
    assert found(environ, "docker.io") == ("u", "s")
    assert (tmp_path / "asked").read_text() == "https://index.docker.io/v1/"


def test_helper_when_it_returns_an_identity_token_then_it_is_used(places, helper):
    environ, write = places
    helper("mine", 'echo \'{"Username":"<token>","Secret":"s"}\'')
    write("docker", {"credsStore": "mine"})
    credential = find_credential("reg.example", "a", environ=environ).credential
    assert (credential.identity_token, credential.password) == ("s", "")


def test_helper_when_it_has_none_then_the_next_place_is_searched(places, helper):
    environ, write = places
    helper("mine", 'echo "credentials not found in native keychain"; exit 1')
    write("docker", {"credsStore": "mine", "auths": {"reg.example": {}}})
    write("config", {"auths": {"reg.example": auth("u:p")}})
    assert found(environ) == ("u", "p")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo the keychain is locked; exit 1", 'status 1: "the keychain is locked"$'),
        (r"printf 'a\nhint: b\033[2J'; exit 1", r'status 1: "a\\nhint: b\\x1b\[2J"$'),
        ('echo \'{"Secret":"hidden"}\'; exit 3', "status 3$"),
        ("echo hidden", "the output is not JSON"),
        ('echo \'{"Username":"u"}\'', "the output has no user name and secret"),
        ("exit 0", "the output is not JSON"),
    ],
)
def test_helper_when_it_fails_then_an_error_without_secrets(places, helper, script, problem):
    environ, write = places
    helper("mine", script)
    write("docker", {"credsStore": "mine"})
    with pytest.raises(AuthError, match=f"docker-credential-mine: .*{problem}") as caught:
        found(environ)
    assert "hidden" not in str(caught.value)


def test_helper_when_it_is_not_installed_then_the_search_continues(places, caplog):
    environ, write = places
    write("docker", {"credsStore": "absent"})
    write("runtime", {"auths": {"reg": {"auth": b64encode(b"u:p").decode()}}})
    search = find_credential("reg", "a", environ=environ)
    assert (search.credential.username, search.credential.password) == ("u", "p")
    (place,) = [place for place in search.looked_at if "absent" in place]
    assert place.startswith("docker-credential-absent (named in /")
    assert place.endswith("config.json), which is not installed")
    (warning,) = caplog.records
    assert (warning.name, warning.levelname) == ("tocsin", "WARNING")
    assert "docker-credential-absent (named in /" in warning.getMessage()


def test_helper_when_it_returns_empty_strings_then_it_has_none(places, helper):
    environ, write = places
    write("docker", {"credsStore": "mine"})
    helper("mine", 'echo \'{"ServerURL":"reg","Username":"","Secret":""}\'')
    assert find_credential("reg", "a", environ=environ).credential is None


def test_auth_when_it_has_line_breaks_then_they_are_ignored(places):
    """``base64`` breaks lines after 76 characters; Go's decoder ignores them."""
    environ, write = places
    wrapped = encodebytes(b"alice:" + b"s" * 100).decode()
    assert wrapped.count("\n") == 2
    write("docker", {"auths": {"reg": {"auth": wrapped.replace("\n", "\r\n")}}})
    assert find_credential("reg", "a", environ=environ).credential.password == "s" * 100


def test_variable_when_set_then_it_comes_after_dockers_file(places):
    environ, write = places
    entry = {"auths": {"reg": {"auth": b64encode(b"u:variable").decode()}}}
    environ = environ | {"DOCKER_AUTH_CONFIG": json.dumps(entry)}
    write("runtime", {"auths": {"reg": {"auth": b64encode(b"u:podman").decode()}}})
    search = find_credential("reg", "a", environ=environ)
    assert search.credential.source == "the variable DOCKER_AUTH_CONFIG, entry reg"
    write("docker", {"auths": {"reg": {"auth": b64encode(b"u:file").decode()}}})
    assert find_credential("reg", "a", environ=environ).credential.source.startswith("/")


def test_variable_when_invalid_then_an_error_without_its_content(places):
    environ, _ = places
    with pytest.raises(AuthError, match="the variable DOCKER_AUTH_CONFIG: not a JSON") as caught:
        find_credential("reg", "a", environ=environ | {"DOCKER_AUTH_CONFIG": "{secret"})
    assert "{secret" not in str(caught.value)


def test_helper_when_it_hangs_then_it_times_out(helper):
    helper("mine", "exec tail -f /dev/null")
    with pytest.raises(AuthError, match=r"no response for reg within 0\.1 s"):
        ask_helper("mine", "reg", time_limit=0.1)


# -- ECR -------------------------------------------------------------------------------------------


def test_ecr_when_its_helper_is_installed_then_used_without_configuration(places, helper):
    environ, write = places
    helper("ecr-login", 'echo \'{"Username":"AWS","Secret":"s"}\'')
    assert found(environ, ECR) == ("AWS", "s")
    assert found(environ, "reg.example") is None
    write("docker", {"auths": {ECR: auth("u:p")}})
    assert found(environ, ECR) == ("u", "p")


def test_ecr_when_boto3_is_installed_then_used_with_the_region_of_the_host(
    places, helper, monkeypatch
):
    environ, _ = places
    regions = []

    def client(service, region_name):
        assert service == "ecr"
        regions.append(region_name)
        token = b64encode(b"AWS:password").decode()
        answer = {"authorizationData": [{"authorizationToken": token}]}
        return SimpleNamespace(get_authorization_token=lambda: answer)

    monkeypatch.setitem(sys.modules, "boto3", SimpleNamespace(client=client))
    assert found(environ, ECR) == ("AWS", "password")
    assert found(environ, "123456789012.dkr-ecr.us-east-1.on.aws") == ("AWS", "password")
    assert regions == ["eu-west-1", "us-east-1"]


def test_ecr_when_aws_refuses_then_an_error_without_its_text(places, helper, monkeypatch):
    environ, _ = places

    def client(service, region_name):
        raise RuntimeError("AKIA-hidden")

    monkeypatch.setitem(sys.modules, "boto3", SimpleNamespace(client=client))
    with pytest.raises(AuthError, match=f"no ECR password for {ECR} in eu-west-1: RuntimeError"):
        found(environ, ECR)


def test_ecr_when_neither_is_installed_then_listed_as_searched(places, helper, monkeypatch):
    environ, _ = places
    monkeypatch.setitem(sys.modules, "boto3", None)
    search = find_credential(ECR, "a", environ=environ)
    assert search.credential is None
    assert search.looked_at[-1].startswith("AWS (neither docker-credential-ecr-login nor")
