"""Commands on registries; both run in this process unless a test says otherwise."""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from support.cli_in_process import tocsin
from support.cli_process import TIMEOUT, TOCSIN, environment, start
from support.cli_process import tocsin as tocsin_process
from support.images import make_image, put_index
from support.registry import Registry
from support.registry_client import noise, store_of
from tocsin.model.media_types import OCI_INDEX

LARGE = make_image({"usr/bin/app": noise(12 << 20)}, {"usr/lib/a": noise(5 << 20, 8)}, {"b": b"b"})
"""A layer of two upload chunks, a shorter one, and one too small to be indexed."""
SMALL = make_image({"usr/bin/app": noise(2 << 20)})
OPTIONS = ("--min-layer-size", "1KiB", "--span-size", "1MiB")


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def elsewhere():
    with Registry() as running:
        yield running


def put(registry, image=LARGE, repository="team/app", tag="1"):
    with store_of(registry, repository) as store:
        image.put(store, tag)
    registry.requests.clear()
    return f"{registry.host}/{repository}:{tag}"


def run(*arguments, code=0, by=tocsin, **how):
    done = by(*arguments, **how)
    assert done.returncode == code, done.stderr.decode()
    return done


def result(*arguments, **how):
    return json.loads(run(*arguments, *OPTIONS, "--json", **how).stdout)


def layer_reads(registry, image=LARGE):
    """Return how often each layer was requested."""
    return [
        len(registry.asked("GET", f"/blobs/{descriptor.digest}"))
        for descriptor in image.layer_descriptors
    ]


def uploaded(registry):
    """Return the number of bytes of received blobs."""
    return sum(len(r.body) for m in ("PUT", "PATCH") for r in registry.asked(m, "/blobs/uploads/"))


def indexes(document):
    return {p["platform"]: p["soci_index"]["digest"] for p in document["platforms"]}


def check_whole(registry):
    """Check that everything to which a tag, index or manifest refers exists."""
    for repository in registry.repositories.values():
        for digest in repository.tags.values():
            assert digest in repository.manifests
        for _, data in repository.manifests.values():
            document = json.loads(data)
            for entry in document.get("manifests") or []:
                assert entry["digest"] in repository.manifests
            for blob in [document.get("config"), *(document.get("layers") or [])]:
                assert blob is None or blob["digest"] in repository.blobs
            if document.get("subject"):
                assert document["subject"]["digest"] in repository.manifests


# Commands that succeed


@pytest.mark.parametrize("api", [True, False], ids=["api", "tags"])
def test_create_reads_each_layer_once_and_never_again(registry, api):
    registry.referrers_api = registry.oci_subject = api
    image = put(registry)
    first = result("create", image)
    assert layer_reads(registry) == [1, 1, 0]
    assert first["traffic"]["pushed"] == first["traffic"]["ztocs"] + first["traffic"]["manifests"]
    assert uploaded(registry) == first["traffic"]["ztocs"]
    registry.requests.clear()
    second = result("create", f"docker://{image}")
    assert layer_reads(registry) == [0, 0, 0]
    assert uploaded(registry) == second["traffic"]["ztocs"] == 0
    assert indexes(first) == indexes(second)
    assert [layer["reused"] for layer in second["platforms"][0]["layers"]] == [True, True, False]
    third = result("create", image, "--rebuild")
    assert layer_reads(registry) == [1, 1, 0]
    assert (indexes(third), third["traffic"]["ztocs"]) == (indexes(first), 0)
    listed = json.loads(run("index", "ls", image, "--json").stdout)["platforms"][0]
    assert [i["digest"] for i in listed["soci_indexes"]] == list(indexes(first).values())
    check_whole(registry)


@pytest.mark.parametrize("api", [True, False], ids=["api", "tags"])
def test_create_skip_reads_and_sends_nothing_if_an_index_exists(registry, api):
    registry.referrers_api = registry.oci_subject = api
    image = put(registry)
    first = result("create", image)
    registry.requests.clear()
    skipped = result("create", image, "--span-size", "2MiB", "--existing-index", "skip")
    assert layer_reads(registry) == [0, 0, 0]
    assert {r.method for r in registry.requests} <= {"GET", "HEAD"}
    (platform,) = skipped["platforms"]
    assert platform["skipped"]
    assert [i["digest"] for i in platform["existing_indexes"]] == list(indexes(first).values())


@pytest.mark.parametrize("api", [True, False], ids=["api", "tags"])
def test_index_rm_removes_one_of_several_by_its_digest(registry, api):
    registry.referrers_api = registry.oci_subject = api
    image = put(registry)
    (first,) = indexes(result("create", image)).values()
    warned = run("create", image, *OPTIONS, "--span-size", "2MiB", "--json")
    (second,) = indexes(json.loads(warned.stdout)).values()
    run("index", "rm", image, first)
    assert run("index", "ls", image, "-q").stdout.decode() == f"{second}\n"
    repository = registry.repository("team/app")
    assert first not in repository.manifests
    assert second in repository.manifests
    run("index", "rm", f"{registry.host}/team/app@{second}")
    assert run("index", "ls", image, "-q").stdout == b""


def test_create_in_a_registry_gives_the_same_result_as_in_a_layout(registry, tmp_path):
    image = put(registry)
    there = result("create", image)
    run("copy", image, f"oci:{tmp_path}/layout:x")
    here = result("create", f"oci:{tmp_path}/layout:x", "--rebuild")
    assert indexes(here) == indexes(there)
    converted = [
        result("convert", f"oci:{tmp_path}/layout:x", f"oci:{tmp_path}/layout:y"),
        result("convert", image, f"{registry.host}/team/app:y"),
        result("convert", image, f"{registry.host}/other:y"),
    ]
    assert len({document["image"]["digest"] for document in converted}) == 1


def test_a_dry_run_sends_nothing(registry):
    image = put(registry)
    said = run("create", image, *OPTIONS, "--dry-run").stdout.decode()
    dry = result("convert", image, f"{registry.host}/other:1", "--dry-run")
    assert {r.method for r in registry.requests} <= {"GET", "HEAD"}
    assert set(registry.repositories) == {"team/app"} | {"other"} & set(registry.repositories)
    assert "dry run: nothing was written" in said
    assert dry["traffic"]["mounted"] > 12 << 20
    real = result("convert", image, f"{registry.host}/other:1")
    assert real["image"] == dry["image"]
    assert real["traffic"] == dry["traffic"]


def test_output_goes_to_a_layout_and_nothing_to_the_registry(registry, tmp_path):
    image = put(registry)
    document = result("create", image, "--output", f"oci:{tmp_path}/out")
    assert {r.method for r in registry.requests} <= {"GET", "HEAD"}
    (digest,) = indexes(document).values()
    run("index", "info", f"oci:{tmp_path}/out@{digest}")


def test_convert_within_a_registry_mounts_layers(registry):
    image = put(registry)
    done = run("convert", image, f"{registry.host}/other:1", *OPTIONS)
    assert layer_reads(registry) == [1, 1, 0]
    assert uploaded(registry) < 1 << 20
    assert b"reused 17.0 MiB without sending" in done.stdout
    check_whole(registry)
    registry.requests.clear()
    run("convert", image, f"{registry.host}/other:1", *OPTIONS, "--force")
    assert layer_reads(registry) == [0, 0, 0]


def test_convert_where_mounts_are_refused_reads_each_layer_once(registry):
    image = put(registry)
    expected = result("convert", image, f"{registry.host}/team/app:x")["image"]
    registry.requests.clear()
    registry.mounts = False
    document = result("convert", image, f"{registry.host}/other:1")
    assert document["image"] == expected
    assert layer_reads(registry) == [1, 1, 1]
    assert document["traffic"]["mounted"] == 0
    assert document["traffic"]["blobs"] > 17 << 20
    check_whole(registry)


@pytest.mark.parametrize("chunks", [True, False], ids=["chunks", "whole"])
def test_convert_across_registries_reads_each_layer_once(registry, elsewhere, chunks):
    elsewhere.chunks = chunks
    image = put(registry)
    document = result("convert", image, f"{elsewhere.host}/app:1")
    assert layer_reads(registry) == [1, 1, 1]
    assert document["traffic"]["read"] < 18 << 20
    size = LARGE.layer_descriptors[0].size
    whole = [r for r in elsewhere.asked("PUT", "/blobs/uploads/") if len(r.body) == size]
    assert len(whole) == (not chunks)
    assert all(r.headers["content-length"] == str(size) for r in whole)
    check_whole(elsewhere)
    assert document["image"] == result("convert", image, f"{registry.host}/team/app:x")["image"]


def test_existing_tags_stay_unless_forced(registry):
    image = put(registry)
    before = dict(registry.repository("team/app").tags)
    assert b"is the source image" in run("convert", image, image, code=1).stderr
    put(registry, SMALL, tag="taken")
    taken = run("convert", image, f"{registry.host}/team/app:taken", code=1)
    assert b"already exists as a different image" in taken.stderr
    assert registry.repository("team/app").tags["1"] == before["1"]
    assert layer_reads(registry) == [0, 0, 0]
    run("convert", image, f"{registry.host}/team/app:taken", *OPTIONS, "--force")


@pytest.mark.parametrize("api", [True, False], ids=["api", "tags"])
def test_copy_copies_the_indexes_and_rm_removes_them(registry, elsewhere, api):
    registry.referrers_api = registry.oci_subject = api
    image = put(registry)
    (index,) = indexes(result("create", image)).values()
    run("copy", image, f"{elsewhere.host}/app:2")
    assert run("index", "ls", f"{elsewhere.host}/app:2", "-q").stdout.decode() == f"{index}\n"
    check_whole(elsewhere)
    assert run("index", "rm", image, "-q").stdout.decode() == f"{index}\n"
    assert index not in registry.repository("team/app").manifests
    assert run("index", "ls", image, "-q").stdout == b""
    assert run("info", f"{elsewhere.host}/app:2").stdout.count(b" v1 ") >= 2


# Features that a registry may refuse

WORDS = b'{"errors":[{"code":"DENIED","message":"not for you"}]}'
REFUSALS = {
    "403": {"status": 403, "body": WORDS},
    "500": {"status": 500, "body": WORDS},
    "nonsense": {"status": 200, "headers": {"Content-Type": OCI_INDEX}},
}


def refuse_referrers(registry, refusal):
    registry.fault("GET", "/referrers/", times=9999, **REFUSALS[refusal])


@pytest.mark.parametrize("refusal", REFUSALS)
def test_readers_are_warned_once_when_referrers_are_refused(registry, refusal, tmp_path):
    image = put(registry)
    refuse_referrers(registry, refusal)
    commands = {
        ("info", image): 0,
        ("index", "ls", image): 0,
        ("cat", image, "/b"): 0,
        ("verify", image): 3,  # the image has no index
        ("copy", image, f"oci:{tmp_path}/layout:x"): 0,
    }
    for command, code in commands.items():
        done = run(*command, code=code)
        plain = run(*command, "-q", code=code)
        said = [line for line in done.stderr.decode().splitlines() if "continuing without" in line]
        assert [line.startswith("warning: ") for line in said] == [True], command
        assert refusal == "nonsense" or 'DENIED: "not for you"' in said[0]
        assert b"continuing without" not in plain.stderr


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_converted_image_is_read_without_asking_for_referrers(registry, refusal):
    image = put(registry)
    refuse_referrers(registry, refusal)
    soci = f"{registry.host}/team/app:soci"
    assert b"continuing without" not in run("convert", image, soci, *OPTIONS).stderr
    registry.requests.clear()
    for command in (("info", soci), ("ls", soci, "/")):
        assert run(*command).stderr == b""
    assert registry.asked("GET", "/referrers/") == []


@pytest.mark.parametrize("refusal", REFUSALS)
def test_writers_stop_before_a_layer_is_read_when_referrers_are_refused(
    registry, elsewhere, refusal
):
    image = put(registry)
    run("create", image, *OPTIONS)
    refuse_referrers(registry, refusal)
    refuse_referrers(elsewhere, refusal)
    registry.requests.clear()
    code = 1 if refusal == "nonsense" else 6
    done = run("create", image, *OPTIONS, "--rebuild", code=code)
    assert refusal == "nonsense" or b'DENIED: "not for you"' in done.stderr
    run("index", "rm", image, code=code)
    registry.faults.clear()
    run("copy", image, f"{elsewhere.host}/app:2", code=code)
    run("create", image, f"{elsewhere.host}/app:2", *OPTIONS, code=code)
    assert set(layer_reads(registry)) == {0}
    assert registry.asked("DELETE") == []
    assert elsewhere.asked("PUT") == []


@pytest.mark.parametrize(
    ("command", "path", "refusal", "hint"),
    [
        (
            "create",
            "/sha256:",
            (400, "MANIFEST_INVALID"),
            "If the registry does not accept artifacts",
        ),
        (
            "create",
            "/sha256:",
            (403, "DENIED"),
            "Check that this registry allows the type of this ",
        ),
        (
            "create",
            "/sha256-",
            (415, "MANIFEST_INVALID"),
            "Use a registry that has the referrers ",
        ),
        (
            "create",
            "/sha256-",
            (403, "DENIED"),
            "Allow tags sha256-* to be overwritten in this registry, or use tocsin ",
        ),
        (
            "convert",
            "/soci$",
            (415, "MANIFEST_INVALID"),
            "Use a registry that accepts manifests of ",
        ),
        ("convert", "/sha256:", (403, "DENIED"), "Check that this registry allows this kind of "),
    ],
)
def test_hint_when_a_manifest_is_rejected_then_it_fits_the_cause(
    registry, command, path, refusal, hint
):
    image = put(registry)
    status, code = refusal
    body = json.dumps({"errors": [{"code": code}]}).encode()
    registry.fault("PUT", f"/manifests{path}", times=99, status=status, body=body)
    to = [image.rpartition(":")[0] + ":soci"] if command == "convert" else []
    done = run(command, image, *to, *OPTIONS, code=6)
    assert hint in done.stderr.decode()


# Credentials


def test_credentials_come_from_stdin_and_are_never_printed(registry):
    image = put(registry)
    registry.auth = "token"
    none = run("create", image, code=6, HOME="/proc/none")
    error, hint = none.stderr.decode().splitlines()
    assert (
        f"docker://{registry.host}/team/app: access denied for scope repository:team/app:" in error
    )
    assert "no credentials found (searched" in error
    assert hint.startswith("hint: Log in with docker login or podman login")
    login = ("--username", "alice", "--password-stdin")
    wrong = run("create", image, *login, stdin=b"wrong-secret", code=6)
    assert b"--username" in wrong.stderr
    done = run("--debug", "create", image, *OPTIONS, *login, stdin=b"secret\n")
    said = done.stderr.decode()
    assert f"> GET {registry.url}/v2/team/app/blobs/sha256:" in said
    assert "Authorization: Bearer" in said
    for secret in ("token-secret", "state-secret", "wrong-secret", "alice:secret", "YWxpY2U6"):
        assert secret not in said + wrong.stderr.decode()


def test_an_unreachable_registry_is_code_6(registry):
    host = registry.host
    registry.__exit__()
    done = run("info", f"{host}/team/app:1", code=6)
    said = done.stderr.decode()
    assert "connection refused" in said
    assert "hint: " not in said
    registry.__exit__ = lambda *_: None


def test_missing_images_are_code_3(registry):
    put(registry)
    assert b"tag 2" in run("create", f"{registry.host}/team/app:2", code=3).stderr
    run("info", f"{registry.host}/nothing", code=3)


def test_nothing_is_written_on_this_machine(registry, elsewhere):
    """Runs a process without home and temporary directory, and with a file size limit of 0."""
    image = put(registry)
    for arguments in (("create", image), ("convert", image, f"{elsewhere.host}/app:1")):
        done = subprocess.run(  # noqa: S603 (our own program)
            [TOCSIN, *arguments, *OPTIONS],
            capture_output=True,
            env=environment(HOME="/proc/none", TMPDIR="/proc/none", PYTHONDONTWRITEBYTECODE="1"),
            cwd="/proc",
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (0, 0)),
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    check_whole(registry)
    check_whole(elsewhere)


# Failures


def test_a_connection_that_breaks_changes_nothing(registry, elsewhere):
    image = put(registry)
    expected = result("create", image)
    size = LARGE.layer_descriptors[0].size
    for at in random.Random(3).sample(range(size), 3):  # noqa: S311 (no secret)
        blob = f"/blobs/{LARGE.layer_descriptors[0].digest}"
        registry.fault("GET", blob, reset_after=at)
        registry.fault("GET", blob, reset_after=min(1000, size - at))
        assert indexes(result("create", image, "--rebuild")) == indexes(expected)
        registry.fault("GET", blob, reset_after=at)
        document = result("convert", image, f"{elsewhere.host}/app/{at}:1")
        assert not any(fault.times for fault in registry.faults)
    assert document["image"] == result("convert", image, f"{registry.host}/team/app:x")["image"]
    check_whole(elsewhere)


def test_a_token_that_ends_in_the_middle_is_renewed(registry):
    image = put(registry)
    expected = result("create", image)
    registry.auth = "token"
    blob = f"/blobs/{LARGE.layer_descriptors[0].digest}"
    registry.fault("GET", blob, skip=1, reset_after=5 << 20)  # the first is refused: no token yet
    registry.fault("GET", blob, skip=2, times=1, before=registry.tokens.clear)
    login = ("--username", "alice", "--password-stdin")
    document = result("create", image, "--rebuild", *login, stdin=b"secret")
    assert indexes(document) == indexes(expected)
    assert registry.tokens_issued >= 2


@pytest.mark.parametrize("command", ["create", "convert", "convert-mount"])
@pytest.mark.parametrize("fault", [{"corrupt": True}, {"length_delta": -9}, {"length_delta": 9}])
def test_a_layer_that_does_not_match_its_digest_pushes_nothing(registry, elsewhere, command, fault):
    image = put(registry, SMALL)
    manifests = dict(registry.repository("team/app").manifests)
    blobs = set(registry.repository("team/app").blobs)
    registry.fault("GET", str(SMALL.layer_descriptors[0].digest), times=99, **fault)
    place = {"convert": elsewhere.host, "convert-mount": registry.host}.get(command)
    arguments = ("create", image) if place is None else ("convert", image, f"{place}/other:1")
    done = tocsin(*arguments, *OPTIONS)
    assert done.returncode in (1, 6)
    assert str(SMALL.layer_descriptors[0].digest) in done.stderr.decode()
    repository = registry.repository("team/app")
    assert (repository.manifests, set(repository.blobs)) == (manifests, blobs)
    for other in (registry.repository("other"), elsewhere.repository("other")):
        assert not other.manifests
        assert set(other.blobs) <= {str(SMALL.layer_descriptors[0].digest)} & (
            blobs if other is registry.repository("other") else set()
        )


def test_a_layer_that_is_missing_pushes_nothing(registry):
    image = put(registry, SMALL)
    del registry.repository("team/app").blobs[str(SMALL.layer_descriptors[0].digest)]
    before = set(registry.repository("team/app").manifests)
    done = run("create", image, *OPTIONS, code=3)
    assert str(SMALL.layer_descriptors[0].digest) in done.stderr.decode()
    assert set(registry.repository("team/app").manifests) == before
    assert not registry.asked("PUT")


def test_a_list_of_200_manifests(registry, elsewhere):
    registry.referrers_api = registry.oci_subject = True
    images = {f"linux/arm/v{n}": make_image({"a": noise(4 << 10)}) for n in range(200)}
    with store_of(registry) as store:
        put_index(store, images, "many")
    image = f"{registry.host}/team/app:many"
    created = result("create", image)
    assert len(created["platforms"]) == 200
    converted = result("convert", image, f"{elsewhere.host}/app:1")
    entries = json.loads(elsewhere.repository("app").manifests[converted["image"]["digest"]][1])
    assert len(entries["manifests"]) >= 201
    check_whole(elsewhere)


class KillingRegistry(Registry):
    """Calls `kill` when the request with number `moment` arrives."""

    moment = -1
    seen = 0
    process = None

    def take_fault(self, method, path):
        with self.lock:
            self.seen += 1
            if self.seen == self.moment and self.process is not None:
                self.process.send_signal(signal.SIGKILL)
        return super().take_fault(method, path)


@pytest.mark.parametrize("api", [True, False], ids=["api", "tags"])
@pytest.mark.parametrize("command", ["create", "convert", "across"])
def test_a_killed_run_leaves_no_dangling_references(command, api):
    """Runs a separate process, which is killed."""
    with Registry() as source, KillingRegistry() as place:
        for each in (source, place):
            each.referrers_api = each.oci_subject = api
        image = put(source if command == "across" else place, SMALL)
        arguments = {
            "create": ("create", image),
            "convert": ("convert", image, f"{place.host}/other:1", "--force"),
            "across": ("convert", image, f"{place.host}/other:1", "--force"),
        }[command]
        place.seen = 0
        expected = result(*arguments)
        total, kept = place.seen, place.repositories
        moments = random.Random(f"{command}{api}").sample(range(1, total + 1), 6)  # noqa: S311
        for moment in moments:
            place.repositories = {}
            if command != "across":
                put(place, SMALL)
            with start(*arguments, *OPTIONS, stderr=subprocess.DEVNULL, stdout=-3) as process:
                place.moment, place.seen = moment, 0
                place.process = process
                process.wait(TIMEOUT)
                place.process = None
            check_whole(place)
            again = result(*arguments)
            assert indexes(again) == indexes(expected)
            check_whole(place)
            for name, repository in kept.items():
                assert place.repository(name).tags == repository.tags
                assert set(repository.manifests) <= set(place.repository(name).manifests)


def test_creates_at_once_keep_each_others_indexes(registry):
    """In processes: several commands at the same time."""
    image = put(registry, SMALL)
    sizes = ["256KiB", "512KiB", "1MiB", "2MiB"]

    def create(size):
        options = ("--min-layer-size", "0", "--span-size", size, "-q")
        done = run("create", image, *options, by=tocsin_process)
        return done.stdout.decode().strip()

    with ThreadPoolExecutor(len(sizes)) as pool:
        made = list(pool.map(create, sizes))
    listed = run("index", "ls", image, "-q").stdout.decode().split()
    assert sorted(listed) == sorted(made)
    assert len(set(made)) == len(sizes)


def test_creates_of_two_platforms_at_once_keep_both(registry):
    """In processes: several commands at the same time."""
    images = {name: make_image({name: noise(9000)}, platform=name) for name in AMD_AND_ARM}
    with store_of(registry) as store:
        put_index(store, images, "1")
    image = f"{registry.host}/team/app:1"
    with ThreadPoolExecutor(2) as pool:
        create = partial(run, "create", image, *OPTIONS, by=tocsin_process)
        list(pool.map(lambda name: create("-p", name), AMD_AND_ARM))
    listed = json.loads(run("index", "ls", image, "--json").stdout)
    assert [len(p["soci_indexes"]) for p in listed["platforms"]] == [1, 1]
    assert re.search("v1", run("index", "ls", image).stdout.decode())


AMD_AND_ARM = ("linux/amd64", "linux/arm64")
