"""Prometheus metrics of the snapshotter, read when they are requested.

Names follow Prometheus' conventions: base units, and ``_total`` for counters. Each image and each
reason is a label, so their numbers are limited. Source: docs/snapshotter.md#metrics.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tocsin.errors import ConflictError, FormatError
from tocsin.log import LOG
from tocsin.mounting.snapshotter.labels import LAZY, REASON
from tocsin.mounting.snapshotter.pulled import top_layers
from tocsin.mounting.snapshotter.snapshot import Kind
from tocsin.mounting.status import COMPLETE, DEAD, STARTING
from tocsin.mounting.status import LAZY as LAZY_STATE
from tocsin.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from tocsin.model.digest import Digest
    from tocsin.mounting.snapshotter.snapshot import Snapshot
    from tocsin.mounting.status import MountStatus

MAX_IMAGES = 500
"""Maximum images that are counted separately; a node seldom has more than some hundred."""
MAX_REASONS = 20
"""Maximum reasons that are counted separately; the others are counted together."""
_MAX_REASON_LEN = 200
_MAX_PORT = 65_535
_OTHER = "other"
_STATES = (STARTING, LAZY_STATE, COMPLETE, DEAD)
_COUNTERS = (
    ("fetches", "fetches", "Requests for data of the image."),
    ("fetched_bytes", "bytes_fetched", "Bytes fetched from the registry."),
    ("fetch_failures", "failures", "Fetches that failed; most are repeated."),
    ("reads", "reads", "Reads by programs that the kernel did not answer from its memory."),
    ("read_hits", "hits", "Reads that did not wait for data."),
)
"""Counters of an image: its name, the field of `MountStatus`, and what is counted."""
_GAUGES = (
    ("reads_waiting", "reads_waiting", "Reads that are waiting for data now."),
    ("size_bytes", "bytes_total", "Size of all data of the image, compressed."),
    ("missing_bytes", "bytes_left", "Data of the image that is not on this machine, compressed."),
)


class MountedImage(Protocol):
    """A mount of an image."""

    @property
    def manifest(self) -> Digest:
        """Digest of the image's manifest."""

    @property
    def status(self) -> MountStatus:
        """What the mount is doing."""


class Mounts(Protocol):
    """The mounts of a snapshotter."""

    def mounted(self) -> Iterable[MountedImage]:
        """Return all mounts."""


class SnapshotList(Protocol):
    """The snapshots of a snapshotter."""

    def matching(self, filters: Sequence[str]) -> Iterator[Snapshot]:
        """Return the snapshots that match a filter, or all without one."""


class SnapshotterCollector(Collector):
    """Reads the metrics from the snapshotter.

    Args:
        snapshots: the snapshots.
        mounts: the mounts.
    """

    def __init__(self, snapshots: SnapshotList, mounts: Mounts) -> None:
        self._snapshots = snapshots
        self._mounts = mounts
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Return the current values; requests at the same time wait for each other."""
        with self._lock:
            mounts = [(str(each.manifest), each.status) for each in self._mounts.mounted()]
            snapshots = list(self._snapshots.matching([]))
        yield _states(status for _, status in mounts)
        yield from _of_images(mounts)
        yield _kinds(snapshots)
        yield _images(snapshots)


def _states(statuses: Iterable[MountStatus]) -> Metric:
    states = Counter(status.state for status in statuses)
    metric = GaugeMetricFamily(
        "tocsin_mounts", "Mounts of images, or of their lowest layers.", labels=["state"]
    )
    for state in _STATES:
        metric.add_metric([state], states[state])
    return metric


def _of_images(mounts: Sequence[tuple[str, MountStatus]]) -> Iterator[Metric]:
    """Return what is counted for each image, over all its mounts."""
    manifests = sorted({manifest for manifest, _ in mounts})
    images: dict[str, list[MountStatus]] = {each: [] for each in manifests[:MAX_IMAGES]}
    for manifest, status in mounts:
        if manifest in images:
            images[manifest].append(status)
    labels = {manifest: [_name(each[0].image), manifest] for manifest, each in images.items()}
    for kind, table in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
        for name, field, text in table:
            metric = kind(f"tocsin_image_{name}", text, labels=["image", "manifest"])
            for manifest, statuses in images.items():
                total = sum(getattr(status, field) for status in statuses)
                metric.add_metric(labels[manifest], total)
            yield metric
    yield GaugeMetricFamily(
        "tocsin_images_without_metrics",
        f"Mounted images for which nothing is counted, because there are more than {MAX_IMAGES}.",
        value=len(manifests) - len(images),
    )


def _name(image: str) -> str:
    """Return the repository of an image; its digest is another label."""
    return image.removeprefix("docker://").partition("@")[0]


def _kinds(snapshots: Iterable[Snapshot]) -> Metric:
    kinds = Counter(snapshot.kind for snapshot in snapshots)
    metric = GaugeMetricFamily("tocsin_snapshots", "Snapshots.", labels=["kind"])
    for kind in Kind:
        metric.add_metric([kind.word], kinds[kind])
    return metric


def _images(snapshots: Sequence[Snapshot]) -> Metric:
    """Count images by their topmost layers, on which no other layer is."""
    tops = [each.labels for each in top_layers(snapshots)]
    lazy = sum(labels[LAZY] == "true" for labels in tops)
    reasons = Counter(
        labels.get(REASON, "")[:_MAX_REASON_LEN] for labels in tops if labels[LAZY] != "true"
    )
    metric = GaugeMetricFamily(
        "tocsin_images",
        "Images, by whether they are mounted lazily, and why not.",
        labels=["lazy", "reason"],
    )
    metric.add_metric(["true", ""], lazy)
    common = reasons.most_common(MAX_REASONS)
    for reason, count in common:
        metric.add_metric(["false", reason], count)
    others = reasons.total() - sum(count for _, count in common)
    if others:
        metric.add_metric(["false", _OTHER], others)
    return metric


@contextmanager
def serve_metrics(address: str, snapshots: SnapshotList, mounts: Mounts) -> Iterator[int]:
    """Serve the metrics by HTTP, and yield the port.

    Args:
        address: ``HOST:PORT``, with an IPv6 address in brackets; port 0 for any free one.
        snapshots: the snapshots.
        mounts: the mounts.

    Raises:
        FormatError: the address is not valid.
        ConflictError: another program uses it, or this machine does not have it.
    """
    host, port = parsed_address(address)
    registry = CollectorRegistry()
    registry.register(SnapshotterCollector(snapshots, mounts))
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConflictError(
            f"metrics: {shown(address)}: cannot be served ({error.strerror})",
            hint="Choose another address with --metrics HOST:PORT.",
        ) from error
    LOG.info("metrics are served at %s, port %d", host, server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def parsed_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    Raises:
        FormatError: the address is not valid.
    """
    host, colon, port = address.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and int(port[:6]) <= _MAX_PORT
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        is_port = False
    if not colon or not host or not is_port:
        raise FormatError(
            f"metrics: not an address (found {shown(address)}, expected HOST:PORT)",
            what="snapshotter.config",
        )
    return host, int(port)
