"""``tocsin fleet``: documents, reports, exit codes, engines; kills of a real process."""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

import tocsin
from support import fleets, json_page
from support.cli_in_process import tocsin as run
from support.registry import Registry
from tocsin import fleet

SMALL = ("--min-layer-size", "0")
NAMES = {"a/one": ("base", "one"), "a/two": ("base", "two"), "b/three": ("base", "three")}


@pytest.fixture
def registry():
    with Registry() as started:
        for name, layers in NAMES.items():
            fleets.put(started.host, name, *layers)
        yield started


@pytest.fixture
def plan(registry, tmp_path):
    path = tmp_path / "plan.json"
    done = run("fleet", "plan", f"{registry.host}/*", *SMALL, "-o", path)
    assert (done.returncode, done.stderr) == (0, b"")
    return path


def test_plan_when_printed_then_it_says_what_sharing_saves(registry, tmp_path):
    done = run("fleet", "plan", f"{registry.host}/*", *SMALL, "-o", tmp_path / "p")
    assert b"images  3 to index, 0 skipped" in done.stdout
    assert b"layers  4 layers to read" in done.stdout
    quiet = run("fleet", "plan", f"{registry.host}/*", *SMALL, "--quiet")
    assert quiet.stdout.decode().strip() == fleet.Plan.read(tmp_path / "p").fingerprint


def test_plan_when_printed_as_json_then_equal_to_the_file(registry, plan):
    done = run("fleet", "plan", f"{registry.host}/*", *SMALL, "--json")
    document = json.loads(done.stdout)
    assert document == json.loads(plan.read_bytes())
    assert json_page.problems("tocsin fleet plan", document) == []


def test_plan_when_given_a_list_then_its_images(registry, tmp_path):
    (tmp_path / "list").write_text(f"# ours\n{registry.host}/a/one:1\n")
    done = run("fleet", "plan", "--images", tmp_path / "list", *SMALL, "--json")
    assert [image["tags"] for image in json.loads(done.stdout)["images"]] == [["1"]]


def test_plan_when_no_image_is_given_then_wrong_usage():
    done = run("fleet", "plan")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no images" in done.stderr


def test_run_when_printed_as_json_then_as_documented(registry, plan):
    done = run("fleet", "run", plan, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    assert document["images"] == {"total": 3, "pending": 0, "done": 3, "skipped": 0, "failed": 0}
    assert json_page.problems("tocsin fleet run", document) == []
    status = json.loads(run("fleet", "status", f"{plan}.journal", "--json").stdout)
    assert json_page.problems("tocsin fleet status", status) == []
    assert {key: document[key] for key in status} == status


def test_run_when_an_image_fails_then_exit_code_1_and_reason(registry, plan):
    registry.fault("PUT", "/v2/a/one/manifests/", times=99, status=400)
    done = run("fleet", "run", plan)
    assert done.returncode == 1
    assert f"failed: {registry.host}/a/one:1: ".encode() in done.stdout
    assert b"images   2 of 3 done, 1 failed" in done.stdout
    assert run("fleet", "status", f"{plan}.journal", "-q").stdout == b"incomplete\n"


def test_run_when_limited_then_it_says_how_to_continue(registry, plan):
    done = run("fleet", "run", plan, "--max-bytes", "1")
    assert (done.returncode, b"stopped at --max-bytes" in done.stdout) == (0, True)
    assert run("fleet", "run", plan, "-q").returncode == 0
    assert run("fleet", "status", f"{plan}.journal", "-q").stdout == b"complete\n"


def test_run_when_the_journal_is_of_another_plan_then_error(registry, plan, tmp_path):
    run("fleet", "run", plan)
    other = tmp_path / "other.json"
    run("fleet", "plan", f"{registry.host}/a/one:1", *SMALL, "--rebuild", "-o", other)
    done = run("fleet", "run", other, "--journal", f"{plan}.journal")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"journal of another plan" in done.stderr


def test_run_when_the_plan_is_damaged_then_error(plan):
    plan.write_bytes(plan.read_bytes()[:-9])
    done = run("fleet", "run", plan)
    assert (done.returncode, b"not a plan" in done.stderr) == (1, True)


def test_run_when_ztocs_are_known_then_they_are_used(registry, plan, tmp_path):
    store = tocsin.ZtocDirectory(tmp_path / "ztocs")
    for name in NAMES:
        tocsin.create(
            f"{registry.host}/{name}:1",
            options=tocsin.IndexingOptions(min_layer_size=0),
            known=store,
            dry_run=True,
        )
    registry.requests.clear()
    assert run("fleet", "run", plan, "--known", tmp_path / "ztocs").returncode == 0
    read = fleets.blobs_read(registry)
    assert not read.keys() & set(fleets.layer_digests(["base", "one", "two", "three"]))


@pytest.mark.parametrize("url", ["dask://", "dask://host", "ray://h:1", "dask://u:p@h:1", ""])
def test_engine_when_unknown_then_wrong_usage(plan, url):
    done = run("fleet", "run", plan, "--engine", url)
    assert (done.returncode, b"unknown engine" in done.stderr) == (2, True)
    assert b"p@h" not in done.stdout


def test_engine_when_unreachable_then_error_before_work(registry, plan, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("tocsin.cli.engines._CONNECT_TIMEOUT", 1)
    registry.requests.clear()
    done = run("fleet", "run", plan, "--engine", "dask://127.0.0.1:9")
    assert done.returncode == 6
    assert b"the scheduler cannot be reached" in done.stderr
    assert registry.requests == []


def test_engine_when_dask_is_missing_then_the_extra_is_named(plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = run("fleet", "run", plan, "--engine", "dask://127.0.0.1:9")
    assert (done.returncode, b"tocsin[dask]" in done.stderr) == (4, True)


class Killed:
    """A real ``tocsin fleet run``, killed when the registry has seen a number of requests."""

    def __init__(self, registry, plan):
        self.registry, self.plan = registry, plan

    def __call__(self, request_count):
        command = [sys.executable, "-m", "tocsin", "fleet", "run", str(self.plan), "--jobs", "2"]
        process = subprocess.Popen(  # noqa: S603 (this interpreter)
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

        def kill():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        self.registry.fault("GET", "", skip=request_count, before=kill, times=1)
        self.registry.fault("POST", "", skip=request_count, before=kill, times=1)
        process.wait()
        self.registry.faults.clear()
        return process.returncode


@pytest.mark.slow
def test_run_when_killed_at_random_moments_then_same_result(registry, plan):
    """Kills processes, so it starts real ones."""
    kill, chance = Killed(registry, plan), random.Random(17)  # noqa: S311 (not a secret)
    codes = [kill(chance.randrange(1, 12)) for _ in range(10)]
    assert -signal.SIGKILL in codes
    assert run("fleet", "run", plan).returncode == 0
    with Registry() as other:
        for name, layers in NAMES.items():
            fleets.put(other.host, name, *layers)
        undisturbed = plan.with_name("other.json")
        run("fleet", "plan", f"{other.host}/*", *SMALL, "-o", undisturbed)
        run("fleet", "run", undisturbed)
        for name in NAMES:
            assert registry.repository(name).blobs == other.repository(name).blobs
            assert fleets.soci_indexes(registry, name) == fleets.soci_indexes(other, name)
