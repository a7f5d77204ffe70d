"""Labels: which layer of which image a snapshot is for, and users in containers."""

import pytest

from tocsin.mounting.snapshotter import labels as names

CRI = "containerd.io/snapshot/cri."
STARGZ = "containerd.io/snapshot/remote/stargz."
TARGET = {"containerd.io/snapshot.ref": "sha256:c"}


def test_target_when_labels_are_of_cri_then_all_is_known():
    target = names.target_of(
        {
            **TARGET,
            f"{CRI}image-ref": "r.example/app:1",
            f"{CRI}manifest-digest": "sha256:m",
            f"{CRI}layer-digest": "sha256:l1",
            f"{CRI}image-layers": "sha256:l1,sha256:l2",
        }
    )
    assert target == names.Target(
        "sha256:c", "r.example/app:1", "sha256:m", ("sha256:l1", "sha256:l2")
    )


def test_target_when_labels_are_of_stargz_then_manifest_is_unknown():
    target = names.target_of(
        {
            **TARGET,
            f"{STARGZ}reference": "r.example/app:1",
            f"{STARGZ}digest": "sha256:l2",
            f"{STARGZ}layers": "sha256:l2,sha256:l3,",
        }
    )
    assert target == names.Target("sha256:c", "r.example/app:1", None, ("sha256:l2", "sha256:l3"))


def test_target_when_there_is_none_then_snapshot_is_for_a_container():
    assert names.target_of({f"{CRI}image-ref": "r.example/app:1"}) is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("default/3/extract-395333814-IPXa sha256:34e4", True),
        ("k8s.io/7/extract-of-a-container", True),
        ("default/3/web", False),
        ("default/3/my/extract-1 sha256:34e4", False),
    ],
)
def test_key_when_of_a_layer_then_known(key, expected):
    assert names.is_for_layer(key) is expected


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [("0:1000:65536", 1000), ("5:7:1,0:4000000000:1", 4000000000), ("0:0:1", 0)],
)
def test_root_owner_when_mapped_then_it_is_the_one_of_the_machine(mapping, expected):
    given = {names.UID_MAPPING: mapping, names.GID_MAPPING: "0:5:1"}
    assert names.root_owner(given) == (expected, 5)
    assert names.root_owner({}) is None


@pytest.mark.parametrize(
    "mapping",
    ["", "1:0:5", "0:1", "0:x:1", "0:-1:1", "0:1:0", "0:4294967295:1", "0:1:1:1", "\u0660:1:1"],
)
def test_root_owner_when_mapping_is_invalid_then_error(mapping):
    with pytest.raises(ValueError, match=r"unpack|mapped|number"):
        names.root_owner({names.UID_MAPPING: mapping, names.GID_MAPPING: "0:5:1"})


def test_origin_when_reason_is_long_then_it_fits_into_a_label():
    given = names.with_origin({}, lazy=False, reason="x" * 10_000)
    assert len(given[names.REASON]) < 4096
