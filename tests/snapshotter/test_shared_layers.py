"""Images that share layers, with and without an index, in every order, with containerd."""

import pytest

from support.snapshotter import base_layer, data_layer, image_of


@pytest.fixture
def images(cluster):
    """Three images with the same base: a lazy one, one without an index, and the base alone."""
    base = base_layer()
    return {
        "lazy": cluster.put("lazy", image_of(base, data_layer("lazy")), index=True),
        "plain": cluster.put("plain", image_of(base, data_layer("plain")), index=False),
        "base": cluster.put("base", image_of(base), index=False),
        "other": cluster.put("other", image_of(base, data_layer("other")), index=True),
        "apart": cluster.put("apart", image_of(data_layer("apart"), base_layer()), index=False),
    }


NAMES = {"lazy": "lazy", "plain": "plain", "other": "other", "apart": "apart"}


@pytest.mark.parametrize(
    "order",
    [
        ("lazy", "plain", "base"),
        ("plain", "lazy", "base"),
        ("base", "lazy", "plain"),
        ("lazy", "base", "other"),
        ("apart", "lazy", "apart"),
    ],
    ids="-".join,
)
def test_images_when_layers_are_shared_then_each_has_its_own_files(cluster, images, order):
    for name in order:
        cluster.rpull(images[name])
        for known in order[: order.index(name) + 1]:
            said = cluster.run(images[known], "sh", "-c", "cat /etc/base; cat /etc/name || true")
            assert said == f"base{NAMES.get(known, '')}"
    lazy = {info["dev.tocsin/lazy"] for info in cluster.labels().values()}
    assert "true" in lazy, "an image with an index is mounted"
    for name in set(order):
        cluster.forget(images[name])
    with cluster.client() as client:
        assert client.list() == []
    assert cluster.image_mounts() == []


def test_images_when_lazy_one_is_removed_then_the_others_stay(cluster, images):
    cluster.rpull(images["lazy"])
    cluster.rpull(images["plain"])
    cluster.forget(images["lazy"])
    assert cluster.run(images["plain"], "cat", "/etc/base", "/etc/name") == "baseplain"
    cluster.kill()
    cluster.start()
    assert cluster.run(images["plain"], "cat", "/etc/base", "/etc/name") == "baseplain"
