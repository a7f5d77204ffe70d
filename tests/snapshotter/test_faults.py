"""Whatever fails, containers keep their files, and nothing is left over."""

import errno
import itertools
import random
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

from support.cli_process import TOCSIN, environment
from support.disks import tiny_disk
from support.registry import Registry
from support.snapshotter import PATIENCE, base_layer, chain_ids, data_layer, image_of, node

ROUNDS = 6
IMAGES = 20
SNAPSHOTS = 1000
SEED = 20_261_128


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def lazy(cluster):
    """A pulled image that is mounted lazily."""
    reference = cluster.put("lazy", image_of(base_layer(), data_layer("lazy")), index=True)
    cluster.rpull(reference)
    return reference


def test_container_when_snapshotter_is_killed_then_it_can_read_new_files(cluster, lazy):
    with cluster.container(lazy) as inside:
        cluster.kill()
        assert inside("cat", "/etc/name").stdout == "lazy"
        cluster.start()
        assert cluster.run(lazy, "cat", "/etc/name", name="d") == "lazy"
        assert inside("cat", "/etc/base").stdout == "base"


def test_container_when_its_image_is_removed_then_it_keeps_its_files(cluster, lazy):
    with cluster.container(lazy) as inside:
        cluster.forget(lazy)
        assert inside("cat", "/etc/name").stdout == "lazy"
    cluster.collect()
    assert cluster.image_mounts() == []
    with cluster.client() as client:
        assert client.list() == []


@pytest.mark.slow
def test_registry_when_it_dies_then_reads_fail_until_it_is_back():
    with Registry() as registry, node(registry) as machine:
        machine.start("--no-background")
        with machine.containerd():
            layers = base_layer(), data_layer("large", 30_000_000)
            reference = machine.put("large", image_of(*layers), index=True)
            machine.rpull(reference)
            with machine.container(reference) as inside:
                # Programs whose pages are missing are killed; these have theirs afterwards.
                script = "cat /bin/busybox > /tmp/b; cat /no/such/file"
                assert "No such file" in inside("sh", "-c", script).stderr
                machine.lose_registry()
                begun = time.monotonic()
                failed = inside("cat", "/data/large")
                assert failed.returncode != 0
                assert failed.stderr == "cat: read error: Input/output error\n"
                assert time.monotonic() - begun < PATIENCE
                registry.faults.clear()
                wait_until(lambda: inside("cat", "/data/large").stdout == "large" * 6_000_000)


@pytest.mark.slow
def test_images_when_many_start_at_once_then_all_run(cluster):
    base = base_layer()
    images = {
        f"image{number}": cluster.put(
            f"image{number}", image_of(base, data_layer(f"image{number}")), index=True
        )
        for number in range(IMAGES)
    }

    def pull_and_run(name):
        cluster.rpull(images[name])
        return cluster.run(images[name], "cat", "/etc/name", name=name)

    with ThreadPoolExecutor(IMAGES) as pool:
        assert list(pool.map(pull_and_run, images)) == list(images)
    for reference in images.values():
        cluster.forget(reference)
    cluster.collect()
    assert cluster.image_mounts() == []


def test_registry_when_it_is_away_after_the_pull_then_containers_start(cluster, lazy):
    cluster.wait_until_complete()
    cluster.lose_registry()
    cluster.kill()
    cluster.start()
    assert cluster.run(lazy, "cat", "/etc/name", "/etc/base") == "lazybase"


def test_machine_when_restarted_without_registry_then_containers_start(cluster, lazy):
    cluster.wait_until_complete()
    cluster.lose_registry()
    cluster.kill()
    cluster.forget_mounts()
    assert cluster.image_mounts() == []
    cluster.start()
    assert cluster.run(lazy, "cat", "/etc/name", "/etc/base") == "lazybase"


def test_pull_when_registry_has_no_index_then_reason_is_given(cluster):
    reference = cluster.put("plain", image_of(base_layer(), data_layer("plain")), index=False)
    cluster.rpull(reference)
    assert cluster.run(reference, "cat", "/etc/name") == "plain"
    for labels in cluster.labels().values():
        assert labels["dev.tocsin/lazy"] == "false"
        assert labels["dev.tocsin/reason"] == "the image has no index"


@pytest.mark.slow
def test_snapshotter_when_killed_at_random_points_then_nothing_is_lost(cluster):
    choice = random.Random(SEED)  # noqa: S311 (not for secrets)
    base = base_layer()
    images = [
        cluster.put("lazy", image_of(base, data_layer("lazy")), index=True),
        cluster.put("plain", image_of(base, data_layer("plain")), index=False),
    ]
    stop = threading.Event()

    def kill_and_start():
        while not stop.wait(choice.uniform(0.05, 1.5)):
            cluster.kill()
            cluster.start()

    killer = threading.Thread(target=kill_and_start)
    killer.start()
    try:
        for number in range(ROUNDS):
            for reference in images:
                name = f"c{number}-{images.index(reference)}"
                pulled = cluster.try_rpull(reference).returncode == 0
                ran = cluster.try_run(reference, "cat", "/etc/name", name=name)
                if pulled and ran.returncode == 0:
                    assert ran.stdout in ("lazy", "plain")
                else:
                    cluster.try_ctr("task", "rm", "-f", name)
                    cluster.try_ctr("container", "rm", name)
                cluster.try_ctr("image", "rm", "--sync", reference)
    finally:
        stop.set()
        killer.join()
    for reference, name in zip(images, ("lazy", "plain"), strict=True):
        cluster.rpull(reference)
        assert cluster.run(reference, "cat", "/etc/base", "/etc/name") == f"base{name}"
    for reference in images:
        cluster.forget(reference)
    cluster.collect()
    with cluster.client() as client:
        assert client.list() == []
    assert list((cluster.root / "snapshots").iterdir()) == []
    assert cluster.image_mounts() == []


def test_second_snapshotter_when_directory_is_used_then_it_is_refused(machine):
    second = subprocess.run(  # noqa: S603 (the program under test)
        [TOCSIN, "snapshotter", "--root", machine.root, "--address", machine.directory / "2"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode != 0
    assert "another snapshotter uses the directory" in second.stderr


def test_second_snapshotter_when_socket_is_used_then_it_is_refused(machine):
    second = subprocess.run(  # noqa: S603 (the program under test)
        [TOCSIN, "snapshotter", "--root", machine.directory / "2", "--address", machine.address],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode != 0
    assert "another process listens there" in second.stderr


def test_snapshotter_when_terminated_then_it_ends_and_removes_its_socket(machine):
    assert machine.kill(signal.SIGTERM) == 0
    assert not machine.address.exists()
    machine.start()


def test_snapshotter_when_terminated_while_a_registry_hangs_then_it_ends(machine):
    layers = base_layer(), data_layer("lazy")
    image = image_of(*layers)
    reference = machine.put("lazy", image, index=True)
    labels = {
        "containerd.io/snapshot.ref": chain_ids(*layers)[0],
        "containerd.io/snapshot/cri.image-ref": reference,
        "containerd.io/snapshot/cri.image-layers": ",".join(
            str(each.digest) for each in image.layer_descriptors
        ),
    }
    with machine.client() as client, pytest.raises(grpc.RpcError) as failed:
        client.prepare("ns/1/extract-1 layer", "", **labels)
    assert failed.value.code() is grpc.StatusCode.ALREADY_EXISTS
    machine.kill()
    machine.forget_mounts()
    shutil.rmtree(machine.root / "cache")
    for method in ("GET", "HEAD"):
        machine.registry.fault(method, "", stall=True, times=1 << 30)
    asked = len(machine.registry.asked("GET")) + len(machine.registry.asked("HEAD"))
    machine.start()
    wait_until(
        lambda: len(machine.registry.asked("GET")) + len(machine.registry.asked("HEAD")) > asked
    )
    begun = time.monotonic()
    assert machine.kill(signal.SIGTERM) == 0
    assert time.monotonic() - begun < 20


@pytest.mark.slow
def test_snapshots_when_there_are_a_thousand_then_all_are_kept(machine):
    with machine.client() as client:
        for number in range(SNAPSHOTS):
            client.prepare(f"p{number}")
            client.commit(f"p{number}", f"c{number}", label=str(number))
        assert len(client.list()) == SNAPSHOTS
        assert [info.name for info in client.list("labels.label==77")] == ["c77"]
    machine.kill()
    machine.start()
    with machine.client() as client:
        assert len(client.list()) == SNAPSHOTS
        for number in range(SNAPSHOTS):
            client.remove(f"c{number}")
        assert client.list() == []
    assert list((machine.root / "snapshots").iterdir()) == []


def fails(action, kind):
    """Repeat an action until it fails, and return the error."""
    for _ in range(10_000):
        try:
            action()
        except kind as error:
            return error
    raise AssertionError("it does not fail")


@pytest.fixture
def small():
    """A machine whose snapshots are on a disk of 4 MiB."""
    with Registry() as registry, node(registry) as machine, ExitStack() as stack:
        stack.enter_context(tiny_disk(machine.root, size=4 << 20))
        machine.root.chmod(0o700)
        machine.start()
        stack.callback(lambda: machine.process and machine.kill())
        yield machine


def test_disk_when_full_then_snapshots_can_be_removed(small):
    with small.client() as client:
        [mount] = client.prepare("a")
        with open(f"{mount.source}/big", "wb", buffering=0) as file:  # noqa: PTH123 (unbuffered)
            assert fails(lambda: file.write(bytes(4096)), OSError).errno == errno.ENOSPC
        numbers = itertools.count()
        failed = fails(lambda: client.prepare(f"b{next(numbers)}"), grpc.RpcError)
        assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for info in client.list():
            client.remove(info.name)
        client.prepare("c")
        assert [info.name for info in client.list()] == ["c"]
    small.kill()
    small.start()
    with small.client() as client:
        assert [info.name for info in client.list()] == ["c"]
