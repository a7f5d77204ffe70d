"""Reading images whose layers ``tocsin fetch`` left inflated in the cache."""

import hashlib
import re
import sys

import pytest

import tocsin
from support.cli_inputs import BINARY
from support.images import make_image
from support.registry import Registry
from tocsin.layers.cache_contents import cache_contents, prune_cache
from tocsin.model.reference import parse_reference
from tocsin.mounting.fetch import fetch_image
from tocsin.mounting.options import MountOptions
from tocsin.reading import layer as layers_module
from tocsin.stores.layout import OciLayout

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts exist only on Linux")
FILES = {"usr/bin/app": BINARY, "etc/name": b"one\n" * 500}
INDEXES = {
    "none": None,
    "v1": tocsin.IndexingOptions(min_layer_size=0, span_size=1 << 20),
    "v2": tocsin.IndexingOptions(min_layer_size=0, span_size=1 << 20),
    "seek": tocsin.IndexingOptions(min_layer_size=0, seek_only=True),
}
HEADER_SIZE = 32


@pytest.fixture
def registry():
    with Registry() as found:
        yield found


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


class Fetched:
    """An image in a registry, all of which is in the cache."""

    def __init__(self, registry, cache, tmp_path, index, image):
        self.registry, self.cache, self.to = registry, cache, tmp_path / "to"
        with OciLayout(tmp_path / "layout", write=True) as store:
            image.put(store, tag="app")
        self.name = f"{registry.host}/r:app"
        tocsin.copy(f"oci:{tmp_path / 'layout'}:app", self.name)
        if index == "v2":
            tocsin.convert(self.name, f"{registry.host}/r:v2", options=INDEXES[index])
            self.name = f"{registry.host}/r:v2"
        elif INDEXES[index] is not None:
            tocsin.create(self.name, options=INDEXES[index])
        options = MountOptions(reference=parse_reference(self.name), cache_dir=cache)
        self.layer = str(fetch_image(options).layers[0].descriptor.digest)
        registry.requests.clear()

    def open(self):
        return tocsin.open(self.name, cache_dir=self.cache)

    @property
    def layer_requests(self):
        return self.registry.asked("GET", f"/blobs/{re.escape(self.layer)}")

    @property
    def directory(self):
        (found,) = (self.cache / "inflated").glob(f"{self.layer.removeprefix('sha256:')}-*")
        return found

    def change(self, place, name="data"):
        """Flip a bit of a file in the cache."""
        data = bytearray((self.directory / name).read_bytes())
        data[place] ^= 1
        (self.directory / name).write_bytes(data)

    def extracted(self):
        with self.open() as image:
            result = image.extract("/", self.to, overwrite=True)
        assert not result.failed
        return {name: (self.to / name).read_bytes() for name in FILES}


@pytest.fixture
def fetch(registry, cache, tmp_path):
    def fetch(index="v2", image=None):
        return Fetched(registry, cache, tmp_path, index, image or make_image(FILES))

    return fetch


@pytest.mark.parametrize("index", INDEXES)
def test_extract_when_fetched_then_no_layer_is_requested(fetch, index):
    image = fetch(index)
    assert image.extracted() == FILES
    assert image.layer_requests == []


@pytest.mark.parametrize("index", INDEXES)
def test_cat_when_fetched_then_no_layer_is_requested(fetch, index):
    image = fetch(index)
    with image.open() as opened:
        assert opened.cat("/usr/bin/app") == FILES["usr/bin/app"]
        assert opened.read_range("/etc/name", 4, 12) == b"one\none\n"
    assert image.layer_requests == []


def test_cat_when_no_cache_is_given_then_the_default_one_is_read(fetch, monkeypatch, tmp_path):
    image = fetch()
    (tmp_path / "xdg").mkdir(mode=0o700)
    image.cache.rename(tmp_path / "xdg/tocsin")
    before = sorted(tmp_path.glob("xdg/**/*"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    with tocsin.open(image.name) as opened:
        assert opened.cat("/etc/name") == FILES["etc/name"]
    assert image.layer_requests == []
    assert sorted(tmp_path.glob("xdg/**/*")) == before


@pytest.mark.parametrize("index", ["v1", "v2", "seek"])
@pytest.mark.parametrize("place", [600, 1_500_000])
def test_layer_when_a_bit_differs_then_it_is_fetched(fetch, index, place):
    image = fetch(index)
    image.change(place)
    assert image.extracted() == FILES
    assert image.layer_requests


def test_cat_when_a_span_is_damaged_then_only_that_is_fetched_and_noted(fetch, monkeypatch):
    monkeypatch.setattr(layers_module, "_MAX_MISSING_SIZE", 0)
    image = fetch()
    image.change(1_500_000)
    with image.open() as opened:
        assert opened.cat("/usr/bin/app") == FILES["usr/bin/app"]
        assert any("has damaged spans there" in note for note in opened.notes)
    assert len(image.layer_requests) == 1


@pytest.mark.parametrize("index", ["v1", "v2", "seek"])
def test_extract_when_data_and_digests_are_changed_then_fetched(fetch, index):
    # Only the diff ID shows it.
    image = fetch(index)
    image.change(700)
    spans = (image.directory / "spans").read_bytes()
    data = (image.directory / "data").read_bytes()
    size = int.from_bytes(spans[24:32], "little")
    with image.open() as opened:
        table = opened._merged.layer(0).spans.table.core
    ends = [end for _, end in tocsin._core.uncompressed_ranges(table)]
    assert ends[-1] == size
    (image.directory / "spans").write_bytes(
        spans[:HEADER_SIZE] + hashlib.sha256(data[: ends[0]]).digest() + spans[HEADER_SIZE + 32 :]
    )
    assert image.extracted() == FILES
    assert image.layer_requests


@pytest.mark.parametrize("index", ["v1", "v2", "seek"])
def test_extract_when_the_config_has_other_diff_ids_then_fetched(fetch, index):
    other = make_image({"etc/name": b"other"})
    image = make_image(FILES)
    config = other.config
    manifest = image.manifest.replace(
        hashlib.sha256(image.config).hexdigest().encode(),
        hashlib.sha256(config).hexdigest().encode(),
    ).replace(b'"size":%d' % len(image.config), b'"size":%d' % len(config))
    lying = type(image)(image.layers, image.layer_descriptors, config, manifest)
    found = fetch(index, lying)
    assert found.extracted() == FILES
    assert found.layer_requests


def truncate(directory):
    with (directory / "data").open("r+b") as file:
        file.truncate(100_000)


def remove(directory):
    (directory / "data").unlink()


def drop_a_digest(directory):
    spans = bytearray((directory / "spans").read_bytes())
    spans[HEADER_SIZE : HEADER_SIZE + 32] = bytes(32)
    (directory / "spans").write_bytes(spans)


def shorten_digests(directory):
    spans = (directory / "spans").read_bytes()
    (directory / "spans").write_bytes(spans[:-1])


def link_elsewhere(directory):
    (directory / "data").rename(directory / "other")
    (directory / "data").symlink_to("other")


def let_others_write(directory):
    directory.chmod(0o777)


@pytest.mark.parametrize(
    "change", [truncate, remove, drop_a_digest, shorten_digests, link_elsewhere, let_others_write]
)
def test_layer_when_incomplete_or_not_private_then_it_is_fetched(fetch, change):
    image = fetch()
    change(image.directory)
    assert image.extracted() == FILES
    assert image.layer_requests


def test_layer_when_truncated_while_it_is_read_then_the_rest_is_fetched(fetch, monkeypatch):
    monkeypatch.setattr(layers_module, "_MAX_MISSING_SIZE", 0)
    image = fetch()
    with image.open() as opened:
        assert opened.read_range("/usr/bin/app", 0, 1000) == BINARY[:1000]
        assert image.layer_requests == []
        truncate(image.directory)
        assert opened.cat("/usr/bin/app") == BINARY
    assert image.layer_requests


def test_layer_when_an_image_reads_it_then_it_is_pinned(fetch):
    image = fetch()
    with image.open() as opened:
        opened.cat("/etc/name")
        assert [layer.is_pinned for layer in cache_contents(image.cache).layers] == [True]
        assert prune_cache(image.cache, max_size=0).layers == ()
    assert [layer.is_pinned for layer in cache_contents(image.cache).layers] == [False]


def test_extract_when_the_cache_has_no_layers_then_none_is_written(fetch, tmp_path):
    image = fetch()
    image.cache = tmp_path / "empty"
    assert image.extracted() == FILES
    assert image.layer_requests
    assert not (image.cache / "inflated").exists()


def test_cat_when_most_of_a_layer_is_not_needed_then_it_is_not_hashed(fetch, monkeypatch):
    monkeypatch.setattr(layers_module, "_MAX_MISSING_SIZE", 0)
    image = fetch()
    # In another span than the file that is read, so that only a digest of all would show it.
    image.change(1_500_000)
    with image.open() as opened:
        opened.extract("/etc/name", image.to)
        assert not any("has damaged spans there" in note for note in opened.notes)
    assert image.to.read_bytes() == FILES["etc/name"]
    assert image.layer_requests == []
