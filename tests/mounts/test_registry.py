"""Mounts of images in a registry: what is requested, and what happens when it fails."""

import errno
import time

import pytest
import zstandard

import tocsin
from support.mounts import ACCOUNTS, data_of, make_image, put
from support.registry import Registry
from tocsin.stores.layout import OciLayout

TAG = "app/it:1"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


@pytest.fixture
def registry(layout):
    with Registry() as registry:
        tocsin.copy(f"oci:{layout}:seek", f"{registry.host}/{TAG}")
        tocsin.copy(f"oci:{layout}:plain", f"{registry.host}/app/plain:1")
        registry.requests.clear()
        yield registry


def name(registry):
    return f"{registry.host}/{TAG}"


def pinned(registry):
    return f"{registry.host}/app/it@{tocsin.resolve(name(registry)).digest}"


def read(machine, number):
    return (machine.mount_point / f"data/{number}.bin").read_bytes()


def test_mount_when_one_file_is_read_then_little_is_fetched(machine, registry):
    machine.mount(name(registry), "--no-background")
    assert (machine.mount_point / "etc/passwd").read_bytes() == ACCOUNTS
    sent = sum(each.sent for each in registry.requests)
    total = machine.status()["bytes_total"]
    assert sent < total / 4


def test_mount_when_pinned_and_known_then_starts_without_the_registry(machine, registry):
    image = pinned(registry)
    machine.mount(image)
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)
    registry.__exit__()
    machine.mount(image)
    found = machine.wait_for("complete")
    assert found["bytes_fetched"] == 0
    assert read(machine, 5) == data_of(5)


def test_mount_when_pinned_and_known_then_nothing_is_requested(machine, registry):
    image = pinned(registry)
    machine.mount(image)
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)
    registry.requests.clear()
    machine.mount(image)
    assert read(machine, 0) == data_of(0)
    assert registry.requests == []


def test_mount_when_tag_and_registry_is_gone_then_last_image(machine, registry):
    machine.mount(name(registry))
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)
    registry.__exit__()
    done = machine.tocsin("mount", name(registry), machine.mount_point)
    assert done.returncode == 0, done.stderr
    assert "the registry cannot be reached" in done.stderr
    assert read(machine, 1) == data_of(1)


def test_mount_when_complete_and_registry_is_gone_then_reads_work(machine, registry):
    machine.mount(name(registry))
    machine.wait_for("complete")
    registry.__exit__()
    assert [read(machine, number) for number in range(3)] == [data_of(n) for n in range(3)]


def test_mount_when_no_index_then_layers_are_requested_once(machine, registry):
    image = f"{registry.host}/app/plain:1"
    done = machine.tocsin("mount", image, machine.mount_point)
    assert "no index" in done.stdout
    assert "no index that can be used" in done.stderr
    machine.wait_for("complete")
    asked = [each.path for each in registry.asked("GET", "/blobs/")]
    assert len(asked) == len(set(asked))
    machine.ok("umount", machine.mount_point)
    registry.requests.clear()
    machine.mount(image)
    assert read(machine, 2) == data_of(2)
    assert registry.asked("GET", "/blobs/") == []


@pytest.mark.parametrize("has_table", [False, True])
def test_mount_when_layers_are_zstd_then_requested_once(machine, tmp_path, has_table):
    zstd = zstandard.ZstdCompressor(level=1)
    image = make_image(compress=zstd.compress, media_type=ZSTD)
    put(OciLayout(tmp_path / "zstd", write=True), image, "1")
    if has_table:
        options = tocsin.IndexingOptions(min_layer_size=0, seek_only=True)
        tocsin.create(f"oci:{tmp_path / 'zstd'}:1", options=options)
    with Registry() as registry:
        tocsin.copy(f"oci:{tmp_path / 'zstd'}:1", name(registry))
        registry.requests.clear()
        for _ in range(2):
            machine.mount(name(registry))
            assert [read(machine, number) for number in range(6)] == [data_of(n) for n in range(6)]
            machine.ok("umount", machine.mount_point)
        layers = {str(each.digest) for each in image.layer_descriptors}
        asked = [each.path.rpartition("/")[2] for each in registry.asked("GET", "/blobs/")]
        assert sorted(each for each in asked if each in layers) == sorted(layers)


def test_read_when_registry_refuses_then_eio_in_time_and_the_next_works(machine, registry):
    machine.mount(name(registry), "--no-background", "--read-timeout", "2")
    fault = registry.fault("GET", "/blobs/", times=10_000, status=403)
    begun = time.monotonic()
    with pytest.raises(OSError, match=r".") as caught:
        read(machine, 3)
    assert caught.value.errno == errno.EIO
    assert time.monotonic() - begun < 6
    found = machine.status()
    assert found["failures"] > 0
    assert "403" in found["last_error"]
    registry.faults.remove(fault)
    time.sleep(0.15)  # what is repeated at once, as the kernel does, fails at once
    assert read(machine, 3) == data_of(3)


def test_read_when_registry_hangs_then_eio_in_time_and_the_next_works(machine, registry):
    machine.mount(name(registry), "--no-background", "--read-timeout", "2")
    fault = registry.fault("GET", "/blobs/", times=10_000, stall=True, close_after=0)
    begun = time.monotonic()
    with pytest.raises(OSError, match=r".") as caught:
        read(machine, 3)
    assert caught.value.errno == errno.EIO
    assert time.monotonic() - begun < 6
    registry.faults.remove(fault)
    time.sleep(0.15)  # what is repeated at once, as the kernel does, fails at once
    assert read(machine, 3) == data_of(3)


def test_read_when_a_byte_is_wrong_then_it_is_fetched_again(machine, registry):
    machine.mount(name(registry), "--no-background")
    registry.fault("GET", "/blobs/", times=2, corrupt=True)
    assert read(machine, 4) == data_of(4)
    assert machine.status()["failures"] > 0


def test_read_when_connections_break_then_they_are_made_again(machine, registry):
    machine.mount(name(registry), "--no-background")
    registry.fault("GET", "/blobs/", times=3, drop=True)
    assert read(machine, 4) == data_of(4)


def test_read_when_token_expires_then_a_new_one_is_used(machine, layout):
    with Registry() as registry:
        tocsin.copy(f"oci:{layout}:seek", f"{registry.host}/{TAG}")
        registry.auth = "token"
        registry.anonymous_scopes = {"repository:app/it:pull"}
        machine.mount(name(registry), "--no-background")
        assert read(machine, 0) == data_of(0)
        registry.tokens.clear()
        assert read(machine, 1) == data_of(1)


def test_mount_when_killed_while_loading_then_the_next_reads_right(machine, registry):
    machine.mount(name(registry), "--background-rate", "1MiB")
    read(machine, 2)
    machine.kill()
    machine.mount(name(registry))
    assert [read(machine, number) for number in range(6)] == [data_of(n) for n in range(6)]
