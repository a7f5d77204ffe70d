"""Fleets on docker-registry and on the workers of a real Dask scheduler."""

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

import tocsin
from support import fleets
from support.cli_process import tocsin as run
from support.registry import Registry
from support.registry_real import docker_registry
from support.tools import missing

pytestmark = pytest.mark.interop
NAMES = {f"team{at % 3}/app{at}": ("base", f"py{at % 2}", f"app{at}") for at in range(6)}
SMALL = ("--min-layer-size", "0")


def filled(host):
    for name, layers in NAMES.items():
        fleets.put(host, name, *layers)


def assert_verified(host):
    for name in NAMES:
        verified = tocsin.verify(f"{host}/{name}:1")
        assert verified.ok
        (index,) = verified.platforms[0].soci_indexes
        assert len(index.layers) == 3


def test_fleet_when_run_on_docker_registry_then_all_indexes_verify(tmp_path):
    with docker_registry(tmp_path) as host:
        filled(host)
        plan = tmp_path / "plan.json"
        assert run("fleet", "plan", f"{host}/*", *SMALL, "-o", plan).returncode == 0
        done = run("fleet", "run", plan)
        assert (done.returncode, done.stderr) == (0, b"")
        assert_verified(host)


@contextmanager
def dask(directory, worker_count):
    """Run a scheduler and workers; yield its URL and the processes of the workers."""
    try:
        import distributed  # noqa: F401, PLC0415
    except ImportError:
        missing("distributed (Dask) is not installed")
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}

    def start(*words):
        return subprocess.Popen(  # noqa: S603 (this interpreter)
            [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )

    processes = [start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
    drains = []

    def read_until(process, pattern):
        for line in process.stderr:
            if match := re.search(pattern, line):
                drains.append(threading.Thread(target=process.stderr.read, daemon=True))
                drains[-1].start()
                return match
        raise AssertionError("the process ended")

    try:
        address = read_until(processes[0], r"tcp://(127\.0\.0\.1:[0-9]+)")[1]
        for _ in range(worker_count):
            worker = start(
                *("dask_worker", f"tcp://{address}", "--nthreads", "1", "--no-nanny"),
                *("--no-dashboard", "--local-directory", str(directory)),
            )
            processes.append(worker)
            read_until(worker, "Registered to")
        yield f"dask://{address}", processes[1:]
    finally:
        for process in processes[::-1]:
            process.kill()
            process.wait()
            process.stderr.close()
        for drain in drains:
            drain.join(30)


@pytest.mark.slow
def test_fleet_when_run_on_dask_workers_then_all_indexes_verify(tmp_path):
    with docker_registry(tmp_path) as host, dask(tmp_path, 2) as (url, _):
        filled(host)
        plan = tmp_path / "plan.json"
        run("fleet", "plan", f"{host}/*", *SMALL, "-o", plan)
        done = run("fleet", "run", plan, "--engine", url)
        assert (done.returncode, done.stderr) == (0, b"")
        assert_verified(host)


@pytest.mark.slow
def test_fleet_when_a_worker_is_lost_for_good_then_all_images_are_done(tmp_path):
    with Registry() as registry, dask(tmp_path, 2) as (url, workers):
        filled(registry.host)
        plan = tmp_path / "plan.json"
        run("fleet", "plan", f"{registry.host}/*", *SMALL, "-o", plan)

        def kill():
            os.kill(workers[0].pid, signal.SIGKILL)

        registry.fault("GET", "/blobs/", skip=3, before=kill)
        registry.requests.clear()
        done = run("fleet", "run", plan, "--engine", url)
        assert (done.returncode, done.stderr) == (0, b"")
        assert workers[0].wait() == -signal.SIGKILL
        for name in NAMES:
            (layers,) = fleets.soci_indexes(registry, name).values()
            assert len(layers) == 3
