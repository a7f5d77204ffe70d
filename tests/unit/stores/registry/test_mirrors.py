"""Reads from the hosts of a ``hosts.toml`` in order, and writes to the first with ``push``.

Source of the order, the parameter ``ns`` and the capabilities: containerd, docs/hosts.md.
"""

import base64
import json
import ssl
from contextlib import ExitStack

import pytest

import tocsin
from support.cli_in_process import tocsin as command
from support.images import make_image
from support.registry import Fault, Registry
from support.registry_certificates import Authority
from support.registry_client import FakeTime, noise
from tocsin.errors import NotFoundError, RegistryError, VerificationError
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.model.reference import RegistryReference
from tocsin.stores.registry import RegistryOptions, open_for_reading, open_repository
from tocsin.stores.registry.client import RegistryStore
from tocsin.stores.registry.hosts import place_of
from tocsin.stores.registry.hosts_toml import Host

NAME = "reg.example:5000"
REPOSITORY = "team/app"
DATA = noise(9 << 20)
BLOB = Descriptor.of(DATA, OCI_LAYER_GZIP)
IMAGE = make_image()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def start():
    with ExitStack() as stack:

        def started(*, full=True, **options):
            registry = stack.enter_context(Registry(**options))
            if full:
                fill(registry)
            return registry

        yield started


def fill(registry):
    repository = registry.repository(REPOSITORY)
    repository.blobs[str(BLOB.digest)] = DATA
    descriptor = IMAGE.descriptor
    repository.manifests[str(descriptor.digest)] = (descriptor.media_type, IMAGE.manifest)
    repository.tags["t"] = str(descriptor.digest)


@pytest.fixture
def configured(tmp_path):
    """Return a function that writes a ``hosts.toml``, with the server last, and returns options."""

    def write(*hosts, extra="", **options):
        *mirrors, server = [(h, "") if isinstance(h, Registry) else h for h in hosts]
        lines = [f'server = "{server[0].url}"', server[1], extra]
        for registry, settings in mirrors:
            lines += [f'[host."{registry.url}"]', settings]
        (tmp_path / NAME).mkdir(exist_ok=True)
        (tmp_path / NAME / "hosts.toml").write_text("\n".join(lines))
        return RegistryOptions(hosts_dir=tmp_path, _clock=FakeTime().clock, **options)

    return write


def opened(options):
    return open_for_reading(RegistryReference(NAME, REPOSITORY), options)


PULL_ONLY = 'capabilities = ["pull"]'
PULL_AND_RESOLVE = 'capabilities = ["pull", "resolve"]'


def test_read_when_a_mirror_has_it_then_no_request_to_the_server(start, configured):
    mirror, server = start(), start()
    with opened(configured((mirror, PULL_AND_RESOLVE), server)) as store:
        assert store.resolve("t") == IMAGE.descriptor
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest
        assert b"".join(store.blob(BLOB)) == DATA
        assert store.blob_range(BLOB, 10, 20) == DATA[10:20]
        assert store.has_blob(BLOB)
        assert store.tags() == ["t"]
        assert store.name == f"docker://{NAME}/{REPOSITORY}"
    assert server.requests == []
    assert {request.query.get("ns") for request in mirror.requests} == {NAME}


def test_read_when_there_are_several_mirrors_then_tried_in_order(start, configured):
    first, second, server = start(full=False), start(), start()
    with opened(configured(first, second, server)) as store:
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest
    assert [len(each.requests) for each in (first, second, server)] == [1, 1, 0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_read_when_a_mirror_refuses_then_the_next_is_tried_at_once(start, configured, status):
    mirror, server = start(), start()
    mirror.fault("GET", ".", status=status, times=99)
    mirror.fault("HEAD", ".", status=status, times=99)
    options = configured(mirror, server)
    with opened(options) as store:
        assert store.resolve("t") == IMAGE.descriptor
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest
        assert b"".join(store.blob(BLOB)) == DATA
        assert store.blob_range(BLOB, 1, 3) == DATA[1:3]
        assert store.tags() == ["t"]
    assert options._clock.sleep.__self__.slept == []
    assert mirror.requests


def test_read_when_a_mirror_is_down_then_it_is_tried_once(start, configured):
    mirror, server = start(), start()
    mirror.fault("GET", ".", drop=True, times=99)
    with opened(configured(mirror, server)) as store:
        for _ in range(3):
            assert store.blob_range(BLOB, 1, 3) == DATA[1:3]
    assert len(mirror.requests) == 1


def test_read_when_a_mirror_lacks_a_blob_then_not_requested_from_it_again(start, configured):
    mirror, server = start(full=False), start()
    with opened(configured(mirror, server)) as store:
        for _ in range(3):
            assert store.blob_range(BLOB, 1, 3) == DATA[1:3]
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest
    assert len(mirror.asked("GET", "/blobs/")) == 1
    assert len(mirror.asked("GET", "/manifests/")) == 1


def test_manifest_when_a_mirror_sends_another_then_the_next_is_tried(start, configured):
    mirror, server = start(), start()
    mirror.fault("GET", "/manifests/", corrupt=True, times=9)
    with opened(configured(mirror, server)) as store:
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest


def test_blob_when_a_mirror_fails_midway_then_resumed_from_the_next(start, configured):
    mirror, server = start(), start()
    mirror.fault("GET", "/blobs/", close_after=3 << 20)
    mirror.fault("GET", "/blobs/", drop=True, times=99)
    with opened(configured(mirror, server)) as store:
        assert b"".join(store.blob(BLOB)) == DATA
    assert all("range" in request.headers for request in server.asked("GET", "/blobs/"))
    assert sum(request.sent for request in server.requests) < len(DATA)


def test_blob_when_a_mirror_sends_other_bytes_then_they_are_refused(start, configured):
    mirror, server = start(), start()
    mirror.fault("GET", "/blobs/", corrupt=True, times=9)
    with opened(configured(mirror, server)) as store, pytest.raises(VerificationError):
        b"".join(store.blob(BLOB))


def test_resolve_when_a_mirror_can_only_pull_then_tags_come_from_others(start, configured):
    mirror, server = start(), start()
    with opened(configured((mirror, PULL_ONLY), server)) as store:
        assert store.resolve("t") == IMAGE.descriptor
        assert store.tags() == ["t"]
        assert store.referrers(IMAGE.descriptor.digest) == []
        assert mirror.requests == []
        assert store.resolve(IMAGE.descriptor.digest) == IMAGE.descriptor
    assert len(mirror.requests) == 1


def test_resolve_when_no_host_has_the_capability_then_an_error(start, configured):
    options = configured((start(), PULL_ONLY), (start(), PULL_ONLY))
    with (
        opened(options) as store,
        pytest.raises(RegistryError, match="capability to pull and resolve"),
    ):
        store.resolve("t")


def test_read_when_all_fail_then_the_servers_error_with_notes_on_mirrors(start, configured):
    mirror, server = start(full=False), start(full=False)
    mirror.fault("HEAD", ".", status=400, times=9)
    mirror.fault("GET", ".", status=400, times=9)
    with opened(configured(mirror, server)) as store, pytest.raises(NotFoundError) as caught:
        store.resolve("t")
    assert caught.value.message.startswith(f"docker://{server.host}/{REPOSITORY}: tag t")
    assert [note for note in caught.value.__notes__ if f"mirror docker://{mirror.host}/" in note]


def test_referrers_when_a_mirror_lists_none_then_the_server_is_tried(start, configured):
    mirror, server = start(), start()
    for registry in (mirror, server):
        registry.referrers_api = True
    subject = IMAGE.descriptor.digest
    referrer = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "a/b",
            "config": {"mediaType": "a/b", "digest": str(BLOB.digest), "size": 1},
            "layers": [],
            "subject": {
                "mediaType": IMAGE.descriptor.media_type,
                "digest": str(subject),
                "size": IMAGE.descriptor.size,
            },
        }
    ).encode()
    descriptor = Descriptor.of(referrer, IMAGE.descriptor.media_type)
    server.repository(REPOSITORY).manifests[str(descriptor.digest)] = (
        descriptor.media_type,
        referrer,
    )
    with opened(configured(mirror, server)) as store:
        assert [found.digest for found in store.referrers(subject)] == [descriptor.digest]


# -- writes ----------------------------------------------------------------------------------------


def test_write_when_there_are_mirrors_then_to_the_first_with_push(start, configured):
    mirror, other, server = start(full=False), start(full=False), start(full=False)
    options = configured((mirror, PULL_AND_RESOLVE), (other, 'capabilities = ["push"]'), server)
    with open_repository(RegistryReference(NAME, REPOSITORY), options, write=True) as store:
        IMAGE.put(store, "new")
    assert mirror.requests == server.requests == []
    assert other.repository(REPOSITORY).tags == {"new": str(IMAGE.descriptor.digest)}
    assert not any("ns" in request.query for request in other.requests)


def test_write_when_no_host_can_push_then_an_error(start, configured):
    options = configured((start(), PULL_ONLY), (start(), PULL_ONLY))
    with pytest.raises(RegistryError, match="no host with the capability to push"):
        open_repository(RegistryReference(NAME, REPOSITORY), options, write=True)


# -- connections to each host ----------------------------------------------------------------------


def test_store_when_there_is_only_the_server_then_without_mirrors(start, configured):
    assert isinstance(opened(configured(start())), RegistryStore)


def test_login_when_given_then_sent_only_to_the_server(start, configured, tmp_path, monkeypatch):
    mirror, server = start(), start()
    mirror.auth = server.auth = "basic"
    mirror.users = {"bob": "other"}
    config = tmp_path / "config.json"
    login = base64.b64encode(b"bob:other").decode()
    config.write_text(json.dumps({"auths": {mirror.host: {"auth": login}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(config))
    options = configured(mirror, server, username="alice", password="secret")  # noqa: S106
    with opened(options) as store:
        assert store.resolve("t") == IMAGE.descriptor
        mirror.repositories.clear()
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest
    sent = {request.headers.get("authorization") for request in mirror.requests}
    assert sent == {None, f"Basic {login}"}
    assert server.requests[-1].status == 200


def test_headers_when_given_then_sent_only_to_that_host(start, configured):
    mirror, server = start(), start()
    elsewhere = start()
    elsewhere.storage["x"] = DATA
    options = configured(
        (
            mirror,
            f'[host."{mirror.url}".header]\nx-key = "a"\nAuthorization = "Basic Ym9iOm90aGVy"',
        ),
        (server, '[header]\nx-key = ["b", "c"]'),
    )
    headers = {"Location": f"{elsewhere.url}/storage/x"}
    mirror.faults.append(Fault("GET", "/blobs/", status=307, headers=headers))
    with opened(options) as store:
        assert b"".join(store.blob(BLOB)) == DATA
        mirror.repositories.clear()
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest
    assert {request.headers.get("x-key") for request in mirror.requests} == {"a"}
    assert mirror.requests[0].headers["authorization"] == "Basic Ym9iOm90aGVy"
    assert {request.headers.get("x-key") for request in server.requests} == {"b, c"}
    sent = elsewhere.requests[0].headers
    assert "x-key" not in sent
    assert "authorization" not in sent


@pytest.mark.parametrize("settings", ["skip_verify = true", "ca", "client"])
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_tls_when_a_host_has_its_own_settings_then_used_for_it(
    start, configured, authority, settings, scheme
):
    """Like containerd: for http with settings for TLS, TLS is tried first."""
    files = tuple(map(str, authority.issue("server")))
    mirror, server = start(tls=files), start()
    lines = {"ca": f'ca = "{authority.cert}"'}
    if settings == "client":
        mirror._server.context.load_verify_locations(authority.cert)
        mirror._server.context.verify_mode = ssl.CERT_REQUIRED
        pair = authority.issue("client")
        lines["client"] = f'ca = "{authority.cert}"\nclient = [["{pair[0]}", "{pair[1]}"]]'
    options = configured((mirror, lines.get(settings, settings)), server)
    file = options.hosts_dir / NAME / "hosts.toml"
    file.write_text(file.read_text().replace("https://", f"{scheme}://"))
    with opened(options) as store:
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest
    assert server.requests == []


def test_tls_when_a_mirror_is_untrusted_then_the_server_is_tried(start, configured, authority):
    mirror, server = start(tls=tuple(map(str, authority.issue("server")))), start()
    with opened(configured(mirror, server)) as store:
        for _ in range(3):
            assert store.manifest(IMAGE.descriptor) == IMAGE.manifest
    assert mirror.requests == []
    assert len(mirror.accepted) == 1


def test_path_when_it_is_overridden_then_it_is_the_root_of_the_api(start, configured, tmp_path):
    server = start()
    options = configured(server)
    (tmp_path / NAME / "hosts.toml").write_text(
        f'server = "{server.url}/v2/team"\noverride_path = true'
    )
    with open_for_reading(RegistryReference(NAME, "app"), options) as store:
        assert store.resolve("t") == IMAGE.descriptor


def test_registry_when_the_file_has_no_server_then_the_registry_is_used(start, tmp_path):
    mirror, registry = start(full=False), start()
    (tmp_path / "_default").mkdir()
    (tmp_path / "_default" / "hosts.toml").write_text(f'[host."{mirror.url}"]')
    options = RegistryOptions(hosts_dir=tmp_path)
    with open_for_reading(RegistryReference(registry.host, REPOSITORY), options) as store:
        assert store.resolve("t") == IMAGE.descriptor
    assert {request.query.get("ns") for request in mirror.requests} == {registry.host}
    assert {request.query.get("ns") for request in registry.requests} == {None}


@pytest.mark.parametrize("server", ["docker.io", "https://registry-1.docker.io"])
def test_docker_hub_when_it_is_its_own_server_then_its_api_host_is_used(server):
    scheme = "" if "://" in server else "https://"
    place = place_of(Host(f"{scheme}{server}"), "docker.io", RegistryOptions())
    assert (place.name, str(place.origin)) == ("docker.io", "https://registry-1.docker.io")


# -- commands and Python API -----------------------------------------------------------------------


@pytest.mark.parametrize("named", ["option", "environment"])
def test_command_when_a_hosts_directory_is_named_then_mirrors_are_read(
    start, configured, tmp_path, named
):
    mirror = start(full=False)
    with open_repository(RegistryReference(mirror.host, REPOSITORY), None, write=True) as store:
        IMAGE.put(store, "t")
    configured(mirror, start(full=False))
    reference = f"{NAME}/{REPOSITORY}:t"
    if named == "option":
        done = command("info", reference, "--hosts-dir", tmp_path)
    else:
        done = command("info", reference, TOCSIN_HOSTS_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert str(IMAGE.descriptor.digest).encode() in done.stdout


def test_command_when_the_hosts_directory_is_missing_then_wrong_usage(tmp_path):
    done = command("info", f"{NAME}/a:t", "--hosts-dir", tmp_path / "missing")
    assert done.returncode == 2


def test_python_when_a_hosts_directory_is_named_then_mirrors_are_read(start, configured, tmp_path):
    configured(start(), start(full=False))
    options = tocsin.RegistryOptions(hosts_dir=str(tmp_path))
    assert tocsin.resolve(f"{NAME}/{REPOSITORY}:t", registry=options) == IMAGE.descriptor
