"""The Prometheus metrics of the snapshotter."""

import socket
from dataclasses import dataclass
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from tocsin.errors import ConflictError, FormatError
from tocsin.model.digest import Digest
from tocsin.mounting.snapshotter import metrics
from tocsin.mounting.snapshotter.metrics import parsed_address, serve_metrics
from tocsin.mounting.snapshotter.snapshot import Kind, Snapshot, Usage
from tocsin.mounting.status import MountStatus


@dataclass
class Mount:
    manifest: Digest
    status: MountStatus


def mount(image, number, state="lazy", **counters):
    status = MountStatus(
        **dict.fromkeys(("directory", "manifest", "platform", "index", "reason"), ""),
        **{"cache_dir": "", "front": "fuse", "pid": 1, "since": 0.0},
        image=image,
        state=state,
        **counters,
    )
    return Mount(Digest(f"{number:064x}"), status)


def snapshot(key, parent="", kind=Kind.COMMITTED, lazy=None, reason=None):
    labels = {} if lazy is None else {"dev.tocsin/lazy": lazy}
    if reason is not None:
        labels["dev.tocsin/reason"] = reason
    return Snapshot(1, key, parent, kind, 0, 0, labels, Usage())


class Snapshotter:
    def __init__(self):
        self.mounts = []
        self.snapshots = []

    def mounted(self):
        return self.mounts

    def matching(self, filters):
        assert filters == []
        return iter(self.snapshots)

    def values(self):
        """Return what Prometheus' own parser reads from the text that is served."""
        with (
            serve_metrics("127.0.0.1:0", self, self) as port,
            urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer,
        ):
            text = answer.read().decode()
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in parsed(text)
            for sample in family.samples
            if sample.name.startswith("tocsin_")
        }


@pytest.fixture
def snapshotter():
    return Snapshotter()


def test_metrics_when_nothing_is_mounted_then_zeros(snapshotter):
    values = snapshotter.values()
    assert set(values.values()) == {0}
    assert [name for name in values if name[0] == "tocsin_mounts"] == [
        ("tocsin_mounts", state) for state in ("starting", "lazy", "complete", "dead")
    ]


def test_metrics_when_images_are_mounted_then_counters_of_each_image(snapshotter):
    counters = {
        **{"fetches": 3, "bytes_fetched": 4096, "failures": 1, "reads": 20, "hits": 15},
        **{"reads_waiting": 2, "bytes_total": 9000, "bytes_left": 5000},
    }
    snapshotter.mounts = [
        mount("docker://host:5000/a@sha256:0", 1, **counters),
        mount("docker://host:5000/a@sha256:0", 1, fetches=2, bytes_fetched=4),
        mount("host/b", 2, state="dead"),
    ]
    values = snapshotter.values()
    labels = ("host:5000/a", f"sha256:{1:064x}")
    assert {name: value for (name, *rest), value in values.items() if (*rest,) == labels} == {
        "tocsin_image_fetches_total": 5,
        "tocsin_image_fetched_bytes_total": 4100,
        "tocsin_image_fetch_failures_total": 1,
        "tocsin_image_reads_total": 20,
        "tocsin_image_read_hits_total": 15,
        "tocsin_image_reads_waiting": 2,
        "tocsin_image_size_bytes": 9000,
        "tocsin_image_missing_bytes": 5000,
    }
    assert values["tocsin_mounts", "lazy"] == 2
    assert values["tocsin_mounts", "dead"] == 1
    assert values["tocsin_images_without_metrics",] == 0


def test_metrics_when_images_are_pulled_then_counted_by_reason(snapshotter):
    snapshotter.snapshots = [
        snapshot("base", lazy="true"),
        snapshot("lazy", "base", lazy="true"),
        snapshot("plain", lazy="false", reason="no index"),
        snapshot("plain-top", "plain", lazy="false", reason="no index"),
        snapshot("other", lazy="false", reason="the registry\nis away"),
        snapshot("container", "lazy", Kind.ACTIVE, lazy="true"),
        snapshot("look", "lazy", Kind.VIEW),
        snapshot("foreign"),
    ]
    values = snapshotter.values()
    assert {name[1:]: value for name, value in values.items() if name[0] == "tocsin_images"} == {
        ("true", ""): 1,
        ("false", "no index"): 1,
        ("false", "the registry\nis away"): 1,
    }
    assert {name[1:]: value for name, value in values.items() if name[0] == "tocsin_snapshots"} == {
        ("view",): 1,
        ("active",): 1,
        ("committed",): 6,
    }


def test_metrics_when_there_are_many_images_then_labels_are_limited(snapshotter):
    snapshotter.mounts = [mount("host/a", number, reads=1) for number in range(600)]
    snapshotter.snapshots = [
        snapshot(f"{number}", lazy="false", reason=f"reason {number % 50} " + "x" * 500)
        for number in range(200)
    ]
    values = snapshotter.values()
    assert sum(name[0] == "tocsin_image_reads_total" for name in values) == metrics.MAX_IMAGES
    assert values["tocsin_images_without_metrics",] == 100
    reasons = {name[2]: value for name, value in values.items() if name[:2] == REFUSED}
    assert len(reasons) == metrics.MAX_REASONS + 1
    assert reasons["other"] == 30 * 4
    assert max(map(len, reasons)) == 200


REFUSED = ("tocsin_images", "false")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_address_when_valid_then_host_and_port(address, expected):
    assert parsed_address(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "9100",
        ":9100",
        "host:",
        "host:x",
        "host:65536",
        "host:²",
        "::1:9",
        "h:-1",
        "h:" + "9" * 99,
    ],
)
def test_address_when_not_valid_then_error(address):
    with pytest.raises(FormatError, match="metrics: not an address"):
        parsed_address(address)


def test_server_when_the_port_is_used_then_error(snapshotter):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        served = serve_metrics(address, snapshotter, snapshotter)
        with pytest.raises(ConflictError, match=r"metrics: .*: cannot be served"):
            served.__enter__()
