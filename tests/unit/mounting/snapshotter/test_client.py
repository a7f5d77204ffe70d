"""The images of a snapshotter, found by the labels of its snapshots."""

import pytest

from tocsin.containerd_api.messages_pb2 import SnapshotInfo
from tocsin.errors import NotFoundError
from tocsin.mounting.snapshotter.client import SnapshotterImage, images_at, images_of

REMOTE = {"containerd.io/snapshot/remote": "tocsin", "dev.tocsin/lazy": "true"}
PLAIN = {"dev.tocsin/lazy": "false", "dev.tocsin/reason": "no index"}


def of(image, labels):
    return SnapshotInfo(labels={"containerd.io/snapshot/cri.image-ref": image, **labels})


def test_images_when_snapshots_have_labels_then_each_image_is_listed():
    found = images_of(
        [
            of("b", PLAIN),
            of("b", REMOTE),  # on a base that was unpacked for another image
            of("a", PLAIN),
            SnapshotInfo(labels={"mine": "1"}),
            SnapshotInfo(labels=PLAIN),
        ]
    )
    assert found == [
        SnapshotterImage("", lazy=False, layers=1, reason="no index"),
        SnapshotterImage("a", lazy=False, layers=1, reason="no index"),
        SnapshotterImage("b", lazy=True, layers=2, reason=""),
    ]


def test_images_when_unpacked_on_a_lazy_base_then_not_lazy():
    labels = {"dev.tocsin/lazy": "true"}  # its parent is a stub, but it is not one
    assert not images_of([of("a", labels)])[0].lazy


def test_images_when_nobody_listens_then_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="no snapshotter answers there"):
        images_at(tmp_path / "s")
