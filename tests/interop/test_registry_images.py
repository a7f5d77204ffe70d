"""Images in registries of other projects, with concurrent and killed writers."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from support.cli_in_process import tocsin
from support.cli_process import TIMEOUT, start
from support.cli_process import tocsin as tocsin_process
from support.images import make_image, put_index
from support.registry_client import noise
from support.registry_real import docker_registry, go_registry
from tocsin.errors import NotFoundError
from tocsin.images.coverage import image_coverage
from tocsin.images.walk import walk_manifests
from tocsin.model.manifest import parse_manifest
from tocsin.model.reference import RegistryReference
from tocsin.stores.registry import open_repository

pytestmark = pytest.mark.interop

IMAGES = {
    name: make_image({name: noise(3 << 20, seed)}, {"b": b"b"}, platform=name)
    for seed, name in enumerate(("linux/amd64", "linux/arm64"))
}
OPTIONS = ("--min-layer-size", "1KiB", "--span-size", "1MiB")
MAKERS = {"docker": docker_registry, "go": go_registry}


@pytest.fixture(params=list(MAKERS))
def host(request, tmp_path):
    with MAKERS[request.param](tmp_path) as address:
        with repository(address, "team/app") as store:
            put_index(store, IMAGES, "1")
        yield address


def repository(host, name):
    return open_repository(RegistryReference(host, name), write=True)


def run(*arguments, by=tocsin):
    done = by(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def check_whole(host, name):
    """Check that everything below each tag exists."""
    with repository(host, name) as store:
        for tag in store.tags():
            for entry in walk_manifests(store, store.resolve(tag)):
                document = parse_manifest(store.manifest(entry), entry.media_type)
                for blob in (document.config, *document.layers):
                    assert store.has_blob(blob), f"{tag}: {entry.digest} lists {blob.digest}"
                if document.subject:
                    assert store.manifest(document.subject)


def test_creates_when_many_run_at_once_then_no_index_is_lost(host):
    """In processes: several commands at the same time."""
    image = f"{host}/team/app:1"
    create = partial(run, "create", image, "-q", "--min-layer-size", "0", by=tocsin_process)
    how = [
        (*("-p", platform), *("--span-size", size))
        for platform in IMAGES
        for size in ("512KiB", "1MiB", "2MiB")
    ]
    with ThreadPoolExecutor(len(how)) as pool:
        made = pool.map(lambda one: create(*one), how)
        made = [digest.strip() for digest in made]
    listed = json.loads(run("index", "ls", image, "--json"))
    assert [len(p["soci_indexes"]) for p in listed["platforms"]] == [3, 3]
    assert sorted(run("index", "ls", image, "-q").split()) == sorted(made)
    check_whole(host, "team/app")


@pytest.mark.parametrize("command", ["create", "convert"])
def test_run_when_killed_at_any_time_then_everything_referenced_exists(host, command):
    """In a process: it is killed."""
    image = f"{host}/team/app:1"
    moments = random.Random(command)  # noqa: S311 (no secret)
    for attempt in range(5):
        target = f"{host}/other:{attempt}"
        arguments = (
            ("create", image, "--rebuild")
            if command == "create"
            else (
                "convert",
                image,
                target,
            )
        )
        with start(*arguments, *OPTIONS, stdout=-3, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(0.3 + 0.7 * moments.random())
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.wait(TIMEOUT)
        for name in ("team/app", "other"):
            check_whole(host, name)
        run(*arguments, *OPTIONS, *(("--force",) if command == "convert" else ()))
        named = image if command == "create" else target
        reference = RegistryReference(host, *named.removeprefix(f"{host}/").split(":"))
        with repository(host, reference.repository) as store:
            covered = image_coverage(store, store.resolve(reference.tag))
        layers = [layer for platform in covered.platforms for layer in platform.layers]
        assert [layer.covered for layer in layers] == [True, False] * 2


def test_indexes_when_removed_then_only_the_image_remains(host):
    image = f"{host}/team/app:1"
    made = run("create", image, *OPTIONS, "-q").split()
    assert run("index", "ls", image, "-q").split() == made
    assert sorted(run("index", "rm", image, "-q").split()) == sorted(made)
    assert run("index", "ls", image, "-q") == ""
    with repository(host, "team/app") as store:
        assert store.resolve("1")
        with pytest.raises(NotFoundError):
            store.manifest(store.resolve("nothing"))
