"""Tests of `tocsin.info`, `tocsin.indexes` and `tocsin.resolve`."""

import pytest

import tocsin
from support.images import make_image, put_index
from support.registry import Registry
from support.registry_client import store_of
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_INDEX
from tocsin.stores.layout import OciLayout

ALL = tocsin.IndexingOptions(min_layer_size=0)


@pytest.fixture
def image():
    return make_image({"a": b"1" * 100_000}, {"b": b"2"})


@pytest.fixture
def name(tmp_path, image):
    with OciLayout(tmp_path / "D", write=True) as store:
        image.put(store, "t")
    return f"oci:{tmp_path / 'D'}:t"


def test_info_when_there_is_no_index_then_no_layer_is_covered(name, image):
    found = tocsin.info(name)
    assert (found.image, found.manifest.digest) == (name, image.descriptor.digest)
    (platform,) = found.platforms
    assert str(platform.platform) == "linux/amd64"
    assert [layer.covered for layer in platform.layers] == [False, False]
    assert (found.covered_size, found.layer_size) == (0, sum(map(len, image.layers)))


def test_info_when_indexed_then_layers_have_the_ztocs_that_create_made(name):
    made = tocsin.create(name, options=ALL)
    found = tocsin.info(tocsin.LayoutReference(name.split(":")[1], "t"))
    assert found.image == name
    for layer, result in zip(found.platforms[0].layers, made.platforms[0].layers, strict=True):
        assert layer.ztoc == result.ztoc
        assert (layer.span_count, layer.entry_count) == (result.span_count, result.entry_count)
    assert found.covered_size == found.layer_size


def test_indexes_when_of_both_versions_then_both_are_listed_with_ztocs(name):
    made = tocsin.create(name, options=ALL)
    assert [index.digest for index in tocsin.indexes(name).platforms[0].soci_indexes] == [
        made.platforms[0].soci_index.digest
    ]
    converted = tocsin.convert(name, f"{name}2", options=ALL)
    tocsin.create(f"{name}2", options=ALL)
    found = tocsin.indexes(f"{name}2")
    assert (found.image, found.manifest.digest) == (f"{name}2", converted.image.digest)
    (platform,) = found.platforms
    assert [index.version for index in platform.soci_indexes] == [2, 1]
    assert [index.ztoc_count for index in platform.soci_indexes] == [2, 2]
    assert platform.soci_indexes[0].soci_index.ztocs == tuple(
        layer.ztoc for layer in converted.platforms[0].layers
    )


@pytest.mark.parametrize("question", [tocsin.info, tocsin.indexes, tocsin.resolve])
def test_query_when_there_is_no_such_image_then_not_found(name, question, tmp_path):
    with pytest.raises(tocsin.NotFoundError):
        question(f"{name}x")
    with pytest.raises(FileNotFoundError):
        question(tmp_path / "nope")


def test_resolve_when_called_then_only_the_descriptor_of_the_tag(name, image):
    assert tocsin.resolve(name) == image.descriptor == tocsin.resolve(name).plain()
    digest = image.descriptor.digest
    assert tocsin.resolve(f"{name.rpartition(':')[0]}@{digest}") == image.descriptor


def test_resolve_when_in_a_registry_then_one_head_request_is_sent(image):
    with Registry() as registry, store_of(registry) as store:
        index = put_index(store, {"linux/amd64": image}, "t")
        with registry.lock:
            registry.requests.clear()
        assert tocsin.resolve(f"{registry.host}/team/app:t") == index
        assert [(asked.method, asked.path) for asked in registry.requests] == [
            ("HEAD", "/v2/team/app/manifests/t")
        ]
        assert index == Descriptor(OCI_INDEX, index.digest, index.size)


def test_resolve_when_the_tag_moves_then_the_new_image_is_returned(name, image, tmp_path):
    other = make_image({"c": b"3"})
    with OciLayout(tmp_path / "D", write=True) as store:
        other.put(store, "t")
    assert tocsin.resolve(name).digest == other.descriptor.digest != image.descriptor.digest
    assert isinstance(tocsin.resolve(name).digest, Digest)
