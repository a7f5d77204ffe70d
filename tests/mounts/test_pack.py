"""Mounts of images with a pack: what reads request, and what happens when the pack is bad."""

import json

import pytest

import tocsin
from support import json_page
from support.mounts import ACCOUNTS, Machine, data_of
from support.packs import Part, RawPack, change_pack, put_pack
from support.registry import Registry
from tocsin.model.access_log import AccessLog
from tocsin.model.manifest import Manifest
from tocsin.stores.layout import OciLayout

FRONTS = ("fuse", "erofs")


@pytest.fixture(scope="module")
def packed(layout, tmp_path_factory):
    """A layout with the image and a pack, bound as ``bound`` and referring to ``plain``."""
    path = tmp_path_factory.mktemp("packed")
    log = path / "start.log"
    recording = Machine(path)
    recording.mount(f"oci:{layout}:plain", "--record", log)
    read_recorded(recording)
    recording.ok("umount", recording.mount_point)
    recording.clean()
    directory = path / "layout"
    options = tocsin.IndexingOptions(
        min_layer_size=0, seek_only=True, seek_span_size=64 << 10, pack=AccessLog.read(log)
    )
    made = tocsin.convert(f"oci:{layout}:plain", f"oci:{directory}:bound", options=options)
    assert [each.pack_notes for each in made.platforms] == [()]
    tocsin.create(f"oci:{layout}:plain", f"oci:{directory}:plain", options=options)
    return directory


@pytest.fixture
def registry(packed):
    with Registry() as registry:
        for tag in ("bound", "plain"):
            tocsin.copy(f"oci:{packed}:{tag}", f"{registry.host}/app:{tag}")
        registry.requests.clear()
        yield registry


def layers_of(store, tag):
    entry = tocsin.resolve(f"oci:{store}:{tag}")
    with OciLayout(store) as found:
        manifest = Manifest.from_json(found.manifest(found.resolve(entry.digest)))
    return {str(layer.digest) for layer in manifest.layers or ()}


def layer_requests(registry, packed):
    """Return the requests for bytes of layers since the last call."""
    digests = layers_of(packed, "plain")
    asked = list(registry.asked("GET", "/blobs/"))
    registry.requests.clear()
    return [each for each in asked if each.path.rpartition("/")[2] in digests]


def read_recorded(machine):
    """Read what was recorded, and compare it."""
    assert (machine.mount_point / "etc/passwd").read_bytes() == ACCOUNTS
    assert (machine.mount_point / "data/3.bin").read_bytes() == data_of(3)
    with (machine.mount_point / "data/0.bin").open("rb") as file:
        assert file.read(65536) == data_of(0)[:65536]


def rewrite_pack(packed, tag, change, directory):
    """Copy an image whose seek table refers to it, with a pack whose content has been changed."""
    tocsin.copy(f"oci:{packed}:{tag}", f"oci:{directory}:{tag}")
    with OciLayout(directory, write=True) as store:
        change_pack(store, tag, change)


def status_with(machine, state):
    found = machine.status()
    assert found["pack"] is not None
    assert found["pack"]["state"] == state, found["pack"]
    assert json_page.problems("tocsin status", found) == []
    return found


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("tag", ["bound", "plain"])
def test_mount_when_reads_are_in_the_pack_then_no_layer_is_requested(
    machine, registry, packed, tag, front
):
    machine.mount(f"{registry.host}/app:{tag}", "--no-background", "--front", front)
    read_recorded(machine)
    assert layer_requests(registry, packed) == []
    found = status_with(machine, "ready")
    assert found["pack"]["reads"] > 0
    assert found["spans_here"] == 0
    assert found["last_error"] is None


@pytest.mark.parametrize("front", FRONTS)
def test_mount_when_a_read_is_not_in_the_pack_then_its_span_is_requested(
    machine, registry, packed, front
):
    machine.mount(f"{registry.host}/app:bound", "--no-background", "--front", front)
    assert (machine.mount_point / "data/1.bin").read_bytes() == data_of(1)
    assert (machine.mount_point / "data/0.bin").read_bytes() == data_of(0)
    assert layer_requests(registry, packed)
    assert machine.status()["last_error"] is None


def test_mount_when_pinned_then_only_a_bound_pack_is_used(machine, registry, packed):
    for tag, has_pack in (("bound", True), ("plain", False)):
        digest = tocsin.resolve(f"{registry.host}/app:{tag}").digest
        machine.mount(f"{registry.host}/app@{digest}", "--no-background")
        assert (machine.status()["pack"] is not None) == has_pack, tag
        machine.ok("umount", machine.mount_point)


def test_mount_when_complete_then_the_pack_is_replaced(machine, registry):
    machine.mount(f"{registry.host}/app:bound")
    found = machine.wait_for("complete")
    assert found["pack"]["state"] == "replaced"
    assert found["last_error"] is None
    assert found["spans_here"] == found["spans"]
    read_recorded(machine)


def test_mount_when_repeated_then_frames_come_from_the_cache(machine, registry, packed):
    machine.mount(f"{registry.host}/app:bound", "--no-background")
    read_recorded(machine)
    machine.ok("umount", machine.mount_point)
    digest = tocsin.resolve(f"{registry.host}/app:bound").digest
    registry.requests.clear()
    machine.mount(f"{registry.host}/app@{digest}", "--no-background")
    read_recorded(machine)
    assert registry.asked("GET", "/blobs/") == []


@pytest.mark.parametrize("front", FRONTS)
def test_mount_when_the_pack_lies_then_found_when_the_span_arrives(
    machine, packed, tmp_path, front
):
    def change(frame, content):
        at = content.index(data_of(3)[1000:1040])
        return content[:at] + b"lies" + content[at + 4 :]

    one_frame = lambda frame, content: change(frame, content) if frame == 0 else content  # noqa: E731
    rewrite_pack(packed, "plain", one_frame, tmp_path / "layout")
    with Registry() as registry:
        image = f"{registry.host}/app:plain"
        tocsin.copy(f"oci:{tmp_path / 'layout'}:plain", image)
        machine.mount(image, "--no-background", "--front", front, "--log", tmp_path / "log")
        with (machine.mount_point / "data/3.bin").open("rb") as file:
            file.seek(1 << 19)
            assert file.read(4096) == data_of(3)[1 << 19 : (1 << 19) + 4096]
        assert machine.status()["last_error"] is None
        # The end of the file before it is in the same span, and not in the pack.
        assert (machine.mount_point / "data/2.bin").read_bytes() == data_of(2)
        found = status_with(machine, "dropped")
        assert "the pack differs from layer 2 at uncompressed byte" in found["pack"]["problem"]
        assert found["last_error"] == found["pack"]["problem"]
        assert found["pack"]["problem"] in (tmp_path / "log").read_text()
        machine.ok("umount", machine.mount_point)
        machine.mount(image, "--no-background", "--front", front)


@pytest.mark.parametrize("front", FRONTS)
def test_mount_when_headers_in_the_pack_lie_then_those_of_the_layer_count(
    machine, packed, tmp_path, front
):
    def change(frame, content):
        return content.replace(b"data/3.bin", b"data/4.bin")

    rewrite_pack(packed, "plain", change, tmp_path / "layout")
    machine.mount(f"oci:{tmp_path / 'layout'}:plain", "--no-background", "--front", front)
    assert (machine.mount_point / "data/3.bin").read_bytes() == data_of(3)
    status_with(machine, "dropped")


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_mount_when_the_pack_is_damaged_then_spans_are_used(machine, packed, tmp_path, damage):
    directory = tmp_path / "layout"
    tocsin.copy(f"oci:{packed}:bound", f"oci:{directory}:bound")
    entry = next(each for each in tocsin.indexes(f"oci:{directory}:bound").platforms[0].seek_tables)
    path = directory / "blobs" / "sha256" / entry.manifest.pack.digest.hex
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "changed":
        path.write_bytes(bytes(len(data)))
    machine.mount(f"oci:{directory}:bound", "--no-background")
    read_recorded(machine)
    found = status_with(machine, "dropped")
    assert found["pack"]["problem"].startswith("the pack cannot be used: ")


def test_mount_when_the_index_is_of_another_image_then_noted(machine, packed, tmp_path):
    directory = tmp_path / "layout"
    tocsin.copy(f"oci:{packed}:plain", f"oci:{directory}:plain")
    other = RawPack([(bytes(32), 4096)], [([Part(0, 0, 4096)], bytes(4096))])
    with OciLayout(directory, write=True) as store:
        put_pack(store, "plain", other.index(), other.blob)
    done = machine.tocsin("mount", "--no-background", f"oci:{directory}:plain", machine.mount_point)
    assert "the pack of the image is not used: pack: made for another image" in done.stderr
    read_recorded(machine)
    assert machine.status()["pack"] is None


def test_create_when_given_a_recorded_log_then_info_shows_the_pack(packed, machine):
    found = json.loads(machine.ok("info", "--json", f"oci:{packed}:bound"))
    (table,) = found["platforms"][0]["seek_tables"]
    assert 0 < table["pack_size"] < table["size"]
    assert "with a pack of" in machine.ok("info", f"oci:{packed}:bound")
    assert "has a pack of" in machine.ok("index", "ls", f"oci:{packed}:bound")
    shown = machine.ok("index", "info", f"oci:{packed}:bound")
    assert "linux/amd64 · pack" in shown
    assert "the image names it" in shown
