"""Debian's docker-registry in several configurations: skopeo and tocsin read the same images."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier

import pytest

from support.images import make_image, put_index, referrer_to
from support.registry_certificates import Authority
from support.registry_client import noise
from support.registry_real import (
    PASSWORD,
    USER,
    CuttingProxy,
    docker_registry,
    nginx,
    program,
    token_server,
)
from tocsin.errors import AuthError, NotFoundError, RegistryError
from tocsin.images.copying import copy_manifest_blobs
from tocsin.images.walk import walk_manifests
from tocsin.model.descriptor import Descriptor
from tocsin.model.manifest import parse_manifest
from tocsin.model.media_types import OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.model.reference import RegistryReference
from tocsin.stores.base import TakenOver
from tocsin.stores.layout import OciLayout
from tocsin.stores.registry import RegistryOptions, open_repository

pytestmark = pytest.mark.interop

LAYER = noise(20 << 20)
"""Size of a blob of more than two chunks."""


@dataclass
class Place:
    """A running registry."""

    host: str
    options: dict = field(default_factory=dict)
    skopeo_options: list[str] = field(default_factory=list)
    token_server: object = None
    object_store: Path | None = None

    def store(self, repository, **options):
        return open_repository(
            RegistryReference(self.host, repository),
            RegistryOptions(**{**self.options, **options}),
        )


@pytest.fixture(autouse=True)
def isolated_configuration(monkeypatch, tmp_path):
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["plain", "htpasswd", "token", "tls", "redirect"])
def place(request, tmp_path, authority):
    with ExitStack() as stack:
        yield CONFIGURATIONS[request.param](stack, tmp_path, authority)


@pytest.fixture
def plain(tmp_path):
    with docker_registry(tmp_path) as host:
        yield Place(host)


CREDENTIALS = {"username": USER, "password": PASSWORD}


def start_plain(stack, directory, _):
    return Place(
        stack.enter_context(docker_registry(directory)),
        skopeo_options=["--tls-verify=false"],
    )


def start_htpasswd(stack, directory, _):
    made = subprocess.run(  # noqa: S603 (a tool of the test machine)
        [program("htpasswd"), "-Bbn", USER, PASSWORD], capture_output=True, check=True
    )
    (directory / "htpasswd").write_bytes(made.stdout)
    auth = {"htpasswd": {"realm": "r", "path": str(directory / "htpasswd")}}
    return Place(
        stack.enter_context(docker_registry(directory, auth=auth)),
        CREDENTIALS,
        ["--tls-verify=false", f"--creds={USER}:{PASSWORD}"],
    )


def start_token(stack, directory, authority):
    tokens = stack.enter_context(token_server(*authority.issue("tokens")))
    return Place(
        stack.enter_context(docker_registry(directory, auth=tokens.auth())),
        CREDENTIALS,
        ["--tls-verify=false", f"--creds={USER}:{PASSWORD}"],
        token_server=tokens,
    )


def start_tls(stack, directory, authority):
    """Tokens over TLS, with our certificate authority."""
    tokens = stack.enter_context(token_server(*authority.issue("tokens"), tls=True))
    certificate, key = authority.issue("registry")
    tls = {"certificate": str(certificate), "key": str(key)}
    host = stack.enter_context(docker_registry(directory, auth=tokens.auth(), http={"tls": tls}))
    certificates = directory / "certificates"
    certificates.mkdir()
    (certificates / "ca.crt").write_bytes(authority.cert.read_bytes())
    return Place(
        host,
        {**CREDENTIALS, "ca_cert": authority.cert},
        [f"--cert-dir={certificates}", f"--creds={USER}:{PASSWORD}"],
        token_server=tokens,
    )


def start_redirect(stack, directory, authority):
    """Blobs are at another origin, as with object stores; the registry requires tokens."""
    web = directory / "nginx"
    web.mkdir()
    root = directory / "data"
    root.mkdir()
    url = stack.enter_context(nginx(web, root))
    tokens = stack.enter_context(token_server(*authority.issue("tokens")))
    middleware = {"storage": [{"name": "redirect", "options": {"baseurl": url}}]}
    return Place(
        stack.enter_context(docker_registry(directory, auth=tokens.auth(), middleware=middleware)),
        CREDENTIALS,
        ["--tls-verify=false", f"--creds={USER}:{PASSWORD}"],
        token_server=tokens,
        object_store=web,
    )


CONFIGURATIONS: dict[str, Callable[..., Place]] = {
    "plain": start_plain,
    "htpasswd": start_htpasswd,
    "token": start_token,
    "tls": start_tls,
    "redirect": start_redirect,
}


def skopeo(*arguments):
    done = subprocess.run(  # noqa: S603 (a tool of the test machine)
        [program("skopeo"), "--insecure-policy", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def prefixed(place, side):
    return [option.replace("--", f"--{side}-", 1) for option in place.skopeo_options]


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """A layout with a multi-platform image ``t`` with a large layer; tests must not change it."""
    directory = tmp_path_factory.mktemp("layout") / "made"
    with OciLayout(directory, write=True) as store:
        images = {
            "linux/amd64": make_image({"a": b"hello"}, {"big": LAYER}),
            "linux/arm64": make_image({"b": b"world"}, platform="linux/arm64"),
        }
        put_index(store, images, "t")
    return directory


def content(store, selector):
    """Return all manifests and blobs of an image, verified."""
    root = store.resolve(selector)
    found = {root.digest: store.manifest(root)}
    for entry in walk_manifests(store, root):
        found[entry.digest] = store.manifest(entry)
        manifest = parse_manifest(found[entry.digest], entry.media_type)
        for blob in (manifest.config, *manifest.layers):
            found[blob.digest] = b"".join(store.blob(blob))
    return found


def test_skopeo_pushes_and_we_read(place, layout):
    skopeo(
        "copy", "--all", *prefixed(place, "dest"), f"oci:{layout}:t", f"docker://{place.host}/a/b:1"
    )
    with OciLayout(layout) as made, place.store("a/b") as store:
        expected = content(made, "t")
        assert store.tags() == ["1"]
        assert content(store, "1") == expected
        root = store.resolve("1")
        assert root == store.resolve(root.digest)
        assert root.media_type == OCI_INDEX
        big = max(expected.items(), key=lambda item: len(item[1]))
        descriptor = Descriptor(OCI_LAYER_GZIP, big[0], len(big[1]))
        assert store.blob_range(descriptor, 5_000_000, 9_000_000) == big[1][5_000_000:9_000_000]
        assert store.blob_range(descriptor, 0, 1) == big[1][:1]
        assert store.has_blob(descriptor)
        with pytest.raises(NotFoundError):
            store.resolve("2")
    if place.object_store is not None:
        log = (place.object_store / "auth.log").read_text().splitlines()
        assert any("bytes=5000000-8999999" in line for line in log)
        assert all("[-]" in line for line in log)  # no Authorization


def test_we_push_and_skopeo_reads(place, layout, tmp_path):
    with OciLayout(layout) as made, place.store("new/image") as store:
        root = made.resolve("t")
        data = made.manifest(root)
        copy_manifest_blobs(made, store, data, root.media_type)
        assert store.tags() == []
        store.put_manifest(data, root.media_type, tag="v1")
        store.tag(root, "v2")
        assert store.tags() == ["v1", "v2"]
        skopeo(
            "copy",
            "--all",
            *prefixed(place, "src"),
            f"docker://{place.host}/new/image:v2",
            f"oci:{tmp_path / 'back'}:t",
        )
        with OciLayout(tmp_path / "back") as back:
            assert content(back, "t") == content(made, "t")


def test_we_mount_what_the_registry_has(place, layout):
    with OciLayout(layout) as made, place.store("team/base") as base:
        root = made.resolve("t")
        copy_manifest_blobs(made, base, made.manifest(root), root.media_type)
        base.put_manifest(made.manifest(root), root.media_type, tag="t")
        lines = []
        with place.store("team/derived", debug=lines.append) as derived:
            assert derived.origin.takes_from(base.origin)
            copy_manifest_blobs(base, derived, made.manifest(root), root.media_type)
            derived.put_manifest(made.manifest(root), root.media_type, tag="t")
            assert content(derived, "t") == content(made, "t")
    assert not any(line.startswith(("> PATCH", "> PUT")) and "/blobs/" in line for line in lines)
    assert any("mount=sha256" in line for line in lines)


def test_referrers_go_to_the_tag_and_many_writers_lose_none(place):
    image = make_image()
    with place.store("with/referrers") as store:
        subject = image.put(store, "v1")
        store.put_blob(b"{}")
    start = Barrier(4)

    def write(number):
        with place.store("with/referrers") as own:
            start.wait(60)
            own.put_manifest(referrer_to(subject, f"test/{number}"), OCI_MANIFEST)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    with place.store("with/referrers") as store:
        found = store.referrers(subject.digest)
        assert sorted(d.artifact_type for d in found) == [f"test/{n}" for n in range(4)]
        assert store.tags() == [f"sha256-{subject.digest.hex}", "v1"]
        store.delete(found[0])
        assert store.referrers(subject.digest) == found[1:]


def test_deleting_when_switched_on(place):
    image = make_image()
    with place.store("to/delete") as store:
        put = image.put(store, "v1")
        store.delete(put)
        with pytest.raises(NotFoundError):
            store.resolve(put.digest)
        store.delete_blob(image.layer_descriptors[0])
        assert not store.has_blob(image.layer_descriptors[0])


@pytest.mark.parametrize("configuration", ["htpasswd", "token", "tls"])
def test_wrong_or_missing_credentials(configuration, tmp_path, authority):
    with ExitStack() as stack:
        place = CONFIGURATIONS[configuration](stack, tmp_path, authority)
        wrong = {"username": USER, "password": "wrong"}
        with place.store("a/b", **wrong) as store:
            with pytest.raises(
                AuthError, match=f"docker://{place.host}/a/b: access denied"
            ) as caught:
                store.resolve("x")
            assert "given user name and password" in str(caught.value)
        missing = pytest.raises(AuthError, match=r"no credentials found \(searched: ")
        with place.store("a/b", username=None, password=None) as store, missing:
            store.put_blob(b"x")


def test_tokens_are_few_and_scopes_are_merged(tmp_path, authority):
    with ExitStack() as stack:
        place = start_token(stack, tmp_path, authority)
        with place.store("base/image") as base, place.store("new/image") as store:
            put = base.put_blob(b"data" * 1000)
            before = len(place.token_server.asked)
            assert store.take_over(put, base.origin) == TakenOver()
            [query] = place.token_server.asked[before:]
            assert query["scope"] == [
                "repository:base/image:pull",
                "repository:new/image:pull,push",
            ]
            for _ in range(5):
                assert b"".join(store.blob(put))
                store.put_blob(b"other")
            assert len(place.token_server.asked) == before + 1


@pytest.mark.parametrize("after", [1, 70_000, 5_000_000, 15_000_000])
def test_a_download_that_is_cut_is_resumed(plain, after):
    with plain.store("a/b") as store:
        put = store.put_blob(LAYER)
    with CuttingProxy(plain.host, [("down", after), ("down", 3_000_000)]) as proxy:
        with Place(proxy.host).store("a/b") as store:
            assert b"".join(store.blob(put)) == LAYER
        assert proxy.cuts == []


@pytest.mark.parametrize("after", [1_000, 5_000_000, 12_000_000])
def test_an_upload_that_is_cut_is_stored_whole_or_not_at_all(plain, after):
    """docker-registry loses a session with a broken chunk, so only replayable uploads succeed."""
    pieces = [LAYER[at : at + (1 << 20)] for at in range(0, len(LAYER), 1 << 20)]
    wanted = Descriptor.of(LAYER, OCI_LAYER_GZIP)
    with CuttingProxy(plain.host, [("up", after)]) as proxy:
        with Place(proxy.host).store("a/b") as store:
            assert store.put_blob(pieces).digest == wanted.digest
        assert proxy.cuts == []
        with plain.store("a/b") as store:
            assert store.has_blob(wanted)
            store.delete_blob(wanted)
        proxy.cuts.append(("up", after))
        with Place(proxy.host).store("a/b") as store:
            failure = None
            try:
                store.put_blob(iter(pieces))
            except RegistryError as error:
                failure = error
            assert failure is None or failure.temporary
            assert store.has_blob(wanted) == (failure is None)
