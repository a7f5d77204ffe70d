"""Images with containerd through the snapshotter: ordinary ones and lazy ones."""

import json
import subprocess

from support import json_page
from support.cli_process import TOCSIN, environment, tocsin
from support.snapshotter import base_layer, chain_ids, data_layer, image_of


def test_pull_when_image_has_no_index_then_it_runs_as_ever(cluster):
    layers = base_layer(), data_layer("plain")
    reference = cluster.put("plain", image_of(*layers), index=False)
    cluster.pull(reference)
    assert cluster.run(reference, "cat", "/etc/name", "/etc/base") == "plainbase"
    with cluster.client() as client:
        found = client.list("kind==committed")
    assert [info.name.partition("sha256:")[2] for info in found] == [
        each.removeprefix("sha256:") for each in chain_ids(*layers)
    ]
    for info in found:
        assert info.labels["dev.tocsin/lazy"] == "false"
        assert "did not say which image" in info.labels["dev.tocsin/reason"]
    cluster.forget(reference)
    with cluster.client() as client:
        assert client.list() == []
    assert list((cluster.root / "snapshots").iterdir()) == []


def test_pull_when_image_has_an_index_then_it_is_mounted_lazily(cluster):
    layers = base_layer(), data_layer("lazy")
    reference = cluster.put("lazy", image_of(*layers), index=True)
    cluster.rpull(reference)
    labels = cluster.labels()
    assert list(labels) == chain_ids(*layers)
    for each in labels.values():
        assert each["containerd.io/snapshot/remote"] == "tocsin"
        assert each["dev.tocsin/lazy"] == "true"
    assert cluster.run(reference, "cat", "/etc/name", "/etc/base") == "lazybase"
    cluster.forget(reference)
    assert cluster.image_mounts() == []
    with cluster.client() as client:
        assert client.list() == []


def test_status_when_images_are_lazy_or_not_then_it_says_why(cluster):
    base = base_layer()
    lazy = cluster.put("lazy", image_of(base, data_layer("lazy")), index=True)
    plain = cluster.put("plain", image_of(base, data_layer("plain")), index=False)
    cluster.rpull(lazy)
    cluster.rpull(plain)
    printed = json.loads(tocsin("status", "--address", cluster.address, "--json").stdout)
    assert printed["images"] == [
        {"image": lazy, "lazy": True, "layers": 2, "reason": ""},
        {"image": plain, "lazy": False, "layers": 1, "reason": "the image has no index"},
    ]
    for image in printed["images"]:
        assert json_page.problems("snapshotter image", image) == []
    shown = tocsin("status", "--address", cluster.address).stdout.decode().splitlines()
    assert shown[1].split()[:2] == [lazy, "yes"]
    assert shown[2].endswith("the image has no index")


def test_snapshotter_when_started_with_json_then_document_is_as_documented(machine):
    machine.kill()
    with subprocess.Popen(  # noqa: S603 (the program under test)
        [TOCSIN, "snapshotter", "--json", "--root", machine.root, "--address", machine.address],
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        text = b""
        while not text.endswith(b"\n}\n"):
            text += process.stdout.readline()
        process.terminate()
    assert json_page.problems("tocsin snapshotter", json.loads(text)) == []
    machine.start()
