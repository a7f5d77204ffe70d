"""The metrics of a snapshotter with real mounts."""

from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from support.cli_process import tocsin
from support.registry import Registry
from support.registry_real import free_port
from support.snapshotter import base_layer, data_layer, image_of, node


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def cluster(port):
    with Registry() as registry, node(registry) as machine:
        machine.start("--metrics", f"127.0.0.1:{port}", "--no-background")
        with machine.containerd():
            yield machine


def test_metrics_when_images_run_then_fetches_and_reasons_are_counted(cluster, port):
    def values():
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in parsed(text)
            for sample in family.samples
        }

    lazy = cluster.put("lazy", image_of(base_layer(), data_layer("lazy")), index=True)
    plain = cluster.put("plain", image_of(data_layer("plain"), base_layer()), index=False)
    cluster.rpull(lazy)
    cluster.rpull(plain)
    assert cluster.run(lazy, "cat", "/etc/name") == "lazy"
    found = values()
    (fetched,) = (value for name, value in found.items() if name[0].endswith("fetched_bytes_total"))
    (size,) = (value for name, value in found.items() if name[0] == "tocsin_image_size_bytes")
    assert 0 < fetched <= 2 * size  # spans overlap
    assert found["tocsin_images", "true", ""] == 1
    (reason,) = (name[2] for name in found if name[:2] == ("tocsin_images", "false"))
    assert "index" in reason
    assert sum(value for name, value in found.items() if name[0] == "tocsin_mounts") == 1
    assert found["process_open_fds",] > 0


def test_snapshotter_when_metrics_address_is_wrong_then_it_does_not_start(tmp_path):
    done = tocsin("snapshotter", "--root", tmp_path, "--address", tmp_path / "s", "--metrics", "x")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"metrics: not an address (found x, expected HOST:PORT)" in done.stderr
    assert not (tmp_path / "s").exists()
