"""Images whose data has all arrived: new containers need no process, and layers are verified."""

import os
import signal
import tarfile
from pathlib import Path

import pytest

from support.snapshotter import base_layer, data_layer, image_of
from support.tarmaker import entry, tar

EVERYTHING = ("cat", "/etc/base", "/etc/name", "/data/lazy")
CONTENT = "baselazy" + "lazy" * 75_000


@pytest.fixture
def lazy(cluster):
    """A pulled image that is mounted lazily."""
    reference = cluster.put("lazy", image_of(base_layer(), data_layer("lazy")), index=True)
    cluster.rpull(reference)
    return reference


def lower_of(mounts):
    """Return the lower directory of a container's root, from its list of mounts."""
    (root,) = (line for line in mounts.splitlines() if line.split(" ")[4] == "/")
    options = dict(each.partition("=")[::2] for each in root.split(" ")[-1].split(","))
    return Path(options["lowerdir"])


def kind_of(directory):
    """Return the type of the file system that is mounted in a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    (found,) = (line for line in lines if line.split(" ")[4] == str(directory))
    return found.partition(" - ")[2].split(" ")[0]


def test_container_when_the_image_is_complete_then_it_needs_no_process(cluster, lazy):
    with cluster.container(lazy) as older:
        first = lower_of(older("cat", "/proc/self/mountinfo").stdout)
        cluster.wait_until_complete()
        cluster.lose_registry()
        assert older(*EVERYTHING).stdout == CONTENT
        later = lower_of(cluster.run(lazy, "cat", "/proc/self/mountinfo", name="d"))
        assert (first.name, later) == ("fs", first.with_name("complete"))
        assert kind_of(later) == "erofs"
        for pid in cluster.mount_processes():
            os.kill(pid, signal.SIGKILL)
        assert cluster.run(lazy, *EVERYTHING, name="e") == CONTENT


def test_image_when_complete_and_the_machine_restarts_then_no_registry(cluster, lazy):
    cluster.wait_until_complete()
    cluster.kill()
    cluster.forget_mounts()
    cluster.lose_registry()
    cluster.start()
    assert cluster.run(lazy, *EVERYTHING) == CONTENT
    cluster.wait_until_complete()
    assert cluster.run(lazy, *EVERYTHING) == CONTENT


def test_image_when_removed_after_it_was_complete_then_nothing_is_left(cluster, lazy):
    cluster.wait_until_complete()
    assert cluster.run(lazy, *EVERYTHING) == CONTENT
    cluster.forget(lazy)
    cluster.collect()
    assert cluster.image_mounts() == []
    assert list((cluster.root / "images").iterdir()) == []


def test_image_when_its_diff_ids_are_forged_then_no_other_image_uses_it(cluster):
    honest = base_layer()
    forged = tar(entry("etc/", type=tarfile.DIRTYPE, mode=0o755), entry("etc/base", b"evil"))
    layers = forged, data_layer("forged")
    image = image_of(*layers, claimed=(honest, data_layer("forged")))
    cluster.rpull(cluster.put("forged", image, index=True))
    other = cluster.put("honest", image_of(honest, data_layer("honest")), index=False)
    refused = cluster.try_rpull(other)
    assert refused.returncode != 0
    assert "lies about layer 1" in refused.stderr
    assert f"{cluster.registry.host}/app/forged" in refused.stderr
    cluster.forget(f"{cluster.registry.host}/app/forged:1")
    cluster.rpull(other)
    assert cluster.run(other, "cat", "/etc/base", "/etc/name") == "basehonest"


@pytest.mark.parametrize("index", [True, "v1"])
def test_image_when_its_tars_are_padded_then_other_images_use_its_layers(cluster, index):
    base = base_layer()
    # As GNU tar does; the spans of a zTOC end before that.
    base += bytes(-len(base) % 10_240)
    assert base.endswith(bytes(1536))
    cluster.rpull(cluster.put("lazy", image_of(base, data_layer("lazy")), index=index))
    assert {each["dev.tocsin/lazy"] for each in cluster.labels().values()} == {"true"}
    plain = cluster.put("plain", image_of(base, data_layer("plain")), index=False)
    cluster.rpull(plain)
    assert cluster.run(plain, "cat", "/etc/base", "/etc/name") == "baseplain"


def test_image_when_not_loaded_in_full_then_no_other_image_uses_it(machine):
    machine.kill()
    machine.start("--no-background")
    with machine.containerd():
        base = base_layer()
        lazy = machine.put("lazy", image_of(base, data_layer("lazy")), index=True)
        machine.rpull(lazy)
        plain = machine.put("plain", image_of(base, data_layer("plain")), index=False)
        refused = machine.try_rpull(plain)
        assert "another image may use its layers only after all of them" in refused.stderr
        assert "not loaded in the background" in refused.stderr
        assert list((machine.root / "images").glob("*-1")) == [], "nothing was mounted, or fetched"
        machine.forget(lazy)
        machine.rpull(plain)
        assert machine.run(plain, "cat", "/etc/base", "/etc/name") == "baseplain"
