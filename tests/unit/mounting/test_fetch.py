"""Downloading images into the cache: every kind of index, faults, and continuing a run."""

import gzip
import sys

import pytest
import zstandard

import tocsin
from support.cli_inputs import BINARY
from support.disks import tiny_disk
from support.images import image_of, layer_tar
from support.registry import Registry
from tocsin.errors import NotFoundError, RegistryError
from tocsin.layers.cache_contents import cache_contents, prune_cache
from tocsin.model.events import Advanced
from tocsin.model.media_types import OCI_LAYER, OCI_LAYER_GZIP
from tocsin.model.reference import parse_reference
from tocsin.mounting import fetch
from tocsin.mounting.fetch import fetch_image
from tocsin.mounting.options import MountOptions
from tocsin.stores.layout import OciLayout

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts exist only on Linux")
TARS = [
    layer_tar({"usr/bin/app": BINARY}),
    layer_tar({"etc/a": b"a" * 3000}),
    layer_tar({"b": b""}),
]
INDEXES = {
    "none": None,
    "v1": tocsin.IndexingOptions(min_layer_size=0, span_size=1 << 20),
    "v2": tocsin.IndexingOptions(min_layer_size=0, span_size=1 << 20),
    "seek": tocsin.IndexingOptions(min_layer_size=0, seek_only=True),
}


def put_image(store_of, name, index):
    """Put an image with a gzip, a zstd and a plain layer, and an index; return its reference."""
    image = image_of(
        (gzip.compress(TARS[0], 6, mtime=0), OCI_LAYER_GZIP),
        (zstandard.compress(TARS[1]), f"{OCI_LAYER}+zstd"),
        (TARS[2], OCI_LAYER),
    )
    with store_of() as store:
        image.put(store, tag="app")
    options = INDEXES[index]
    if index == "v2":
        tocsin.convert(f"{name}:app", f"{name}:v2", options=options)
        return f"{name}:v2"
    if options is not None:
        tocsin.create(f"{name}:app", options=options)
    return f"{name}:app"


@pytest.fixture
def layout(tmp_path):
    return tmp_path / "layout"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def put_in_layout(layout, index="seek"):
    return put_image(lambda: OciLayout(layout, write=True), f"oci:{layout}", index)


def options_of(reference, cache, **options):
    return MountOptions(reference=parse_reference(reference), cache_dir=cache, **options)


def inflated(cache):
    """Return the inflated layers in the cache, by digest."""
    return {
        path.name.partition("-")[0]: (path / "data").read_bytes()
        for path in (cache / "inflated").iterdir()
    }


@pytest.mark.parametrize("index", INDEXES)
def test_fetch_when_done_then_all_layers_are_inflated_in_the_cache(layout, cache, index):
    result = fetch_image(options_of(put_in_layout(layout, index), cache))
    found = inflated(cache)
    assert len(found) == 3
    for layer, tar in zip(result.layers, TARS, strict=True):
        # The file ends at a whole block.
        assert found[layer.descriptor.digest.hex].rstrip(b"\0") == tar.rstrip(b"\0")
        assert layer.disk_size > 0
    assert result.bytes_total >= result.layers[0].descriptor.size
    assert result.fetches > 0


@pytest.mark.parametrize("index", INDEXES)
def test_fetch_when_all_is_cached_then_nothing_is_fetched(layout, cache, index):
    options = options_of(put_in_layout(layout, index), cache)
    first = fetch_image(options)
    again = fetch_image(options)
    assert (again.bytes_fetched, again.fetches) == (0, 0)
    assert (again.layers, again.manifest) == (first.layers, first.manifest)


def test_fetch_when_running_then_progress_goes_to_the_total(layout, cache):
    events = []
    result = fetch_image(options_of(put_in_layout(layout), cache), progress=events.append)
    advances = [event for event in events if isinstance(event, Advanced)]
    done = [event.done for event in advances]
    assert done == sorted(done)
    assert done[-1] == result.bytes_total
    assert {event.total for event in advances} == {result.bytes_total}


def test_fetch_when_the_image_has_no_index_then_a_note_says_so(layout, cache):
    notes = []
    options = options_of(put_in_layout(layout, "none"), cache)
    result = fetch_image(options, note=notes.append)
    assert result.notes == tuple(notes)
    assert any("no index" in note for note in notes)
    assert {layer.index for layer in result.layers} == {"made"}


def test_fetch_when_done_then_no_layer_is_pinned(layout, cache):
    fetch_image(options_of(put_in_layout(layout), cache))
    assert [layer.is_pinned for layer in cache_contents(cache).layers] == [False] * 3
    assert len(prune_cache(cache, max_size=0).layers) == 3


def test_fetch_when_running_then_its_layers_are_pinned(layout, cache):
    pinned = []

    def look(event):
        if isinstance(event, Advanced):
            pinned.append([layer.is_pinned for layer in cache_contents(cache).layers])

    fetch_image(options_of(put_in_layout(layout), cache), progress=look)
    assert all(each == [True] * 3 for each in pinned)


def test_fetch_when_the_cache_is_full_then_other_images_are_removed(layout, cache):
    first = put_in_layout(layout, "none")
    fetch_image(options_of(first, cache))
    fetch_image(options_of(put_in_layout(layout, "seek"), cache, cache_size=1))
    # The same layers, but cut into spans by another index: those of the first run are gone.
    tables = {layer.table for layer in cache_contents(cache).layers}
    assert len(tables) == 3
    fetch_image(options_of(first, cache, index="none", cache_size=1))
    again = {layer.table for layer in cache_contents(cache).layers}
    assert len(again) == 3
    assert again != tables


def test_fetch_when_it_is_stopped_then_the_next_run_continues(layout, cache, monkeypatch):
    class StoppedError(Exception):
        pass

    def stop(event):
        if isinstance(event, Advanced) and event.done:
            raise StoppedError

    options = options_of(put_in_layout(layout), cache)
    with pytest.raises(StoppedError):
        fetch_image(options, progress=stop)
    first = sum(part.count(b"\0") != len(part) for part in inflated(cache).values())
    result = fetch_image(options)
    assert first
    assert result.bytes_fetched < result.bytes_total + (64 << 10)
    assert len(inflated(cache)) == 3


@pytest.fixture
def registry():
    with Registry() as found:
        yield found


def test_fetch_when_complete_then_the_registry_is_not_needed(registry, layout, cache):
    local = put_in_layout(layout, "v2")
    tocsin.copy(local, f"{registry.host}/r:v2")
    digest = tocsin.resolve(f"{registry.host}/r:v2").digest
    fetch_image(options_of(f"{registry.host}/r@{digest}", cache))
    before = len(registry.requests)
    result = fetch_image(options_of(f"{registry.host}/r@{digest}", cache))
    assert result.fetches == 0
    assert len(registry.requests) == before


def test_fetch_when_a_layer_is_missing_then_it_fails_at_once(registry, layout, cache):
    tocsin.copy(put_in_layout(layout, "v2"), f"{registry.host}/r:v2")
    largest = tocsin.info(f"{registry.host}/r:v2").platforms[0].layers[0].layer.digest
    registry.fault("GET", f"/blobs/{largest}", times=1000, status=404)
    with pytest.raises((NotFoundError, RegistryError)):
        fetch_image(options_of(f"{registry.host}/r:v2", cache))
    registry.faults.clear()
    assert fetch_image(options_of(f"{registry.host}/r:v2", cache)).fetches > 0


def test_fetch_when_the_registry_lies_then_it_fails_and_can_be_repeated(
    registry, layout, cache, monkeypatch
):
    monkeypatch.setattr(fetch, "_MAX_FAILURES", 2)
    tocsin.copy(put_in_layout(layout, "v2"), f"{registry.host}/r:v2")
    largest = tocsin.info(f"{registry.host}/r:v2").platforms[0].layers[0].layer.digest
    registry.fault("GET", f"/blobs/{largest}", times=1000, corrupt=True)
    with pytest.raises(RegistryError, match="the rest of the image cannot be fetched"):
        fetch_image(options_of(f"{registry.host}/r:v2", cache))
    registry.faults.clear()
    fetch_image(options_of(f"{registry.host}/r:v2", cache))
    assert inflated(cache)[largest.hex].rstrip(b"\0") == TARS[0].rstrip(b"\0")


def test_fetch_when_a_request_fails_once_then_it_is_repeated(registry, layout, cache):
    tocsin.copy(put_in_layout(layout, "v2"), f"{registry.host}/r:v2")
    registry.fault("GET", "/blobs/", skip=8, corrupt=True)
    assert len(fetch_image(options_of(f"{registry.host}/r:v2", cache)).layers) == 3


def problem_of(options):
    """Return the text of the error; the error itself would keep files of the cache open."""
    try:
        fetch_image(options)
    except OSError as error:
        return str(error)
    return ""


def test_fetch_when_the_disk_is_full_then_os_error(layout, tmp_path):
    reference = put_in_layout(layout)
    with tiny_disk(tmp_path / "disk", size=1 << 20) as disk:
        problem = problem_of(options_of(reference, disk / "cache"))
        assert "the cache cannot hold the image: " in problem
        assert str(disk / "cache") in problem


def test_fetch_when_the_cache_is_a_file_then_os_error(layout, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="the cache cannot hold the image"):
        fetch_image(options_of(put_in_layout(layout), tmp_path / "file"))


def test_fetch_when_the_image_is_missing_then_not_found(layout, cache):
    put_in_layout(layout)
    with pytest.raises(NotFoundError):
        fetch_image(options_of(f"oci:{layout}:other", cache))
