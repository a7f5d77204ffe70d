"""Images with containerd through the snapshotter: ordinary ones and lazy ones."""

from support.snapshotter import base_layer, chain_ids, data_layer, image_of
from tocsin.mounting.snapshotter.client import SnapshotterImage, images_at


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
    assert images_at(cluster.address) == [
        SnapshotterImage(lazy, lazy=True, layers=2, reason=""),
        SnapshotterImage(plain, lazy=False, layers=1, reason="the image has no index"),
    ]
