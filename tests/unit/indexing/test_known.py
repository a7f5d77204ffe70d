"""``known=``: zTOCs from a store are used and kept, and unusable ones are ignored."""

import pytest

import tocsin
from support import goldens
from support.images import image_of
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.stores.layout import OciLayout

ALL = tocsin.IndexingOptions(min_layer_size=0)
LAYERS = [goldens.layer(name) for name in ("ustar.zlib6.tar.gz", "pax.zlib6.tar.gz")]


@pytest.fixture
def image(tmp_path):
    with OciLayout(tmp_path / "image", write=True) as store:
        image_of(*((layer, OCI_LAYER_GZIP) for layer in LAYERS)).put(store, "t")
    return f"oci:{tmp_path / 'image'}:t"


@pytest.fixture
def store(tmp_path):
    return tocsin.ZtocDirectory(tmp_path / "ztocs")


def indexed(image, tmp_path, name, **how):
    output = f"oci:{tmp_path / name}"
    return tocsin.create(image, output=output, options=how.pop("options", ALL), **how)


def facts(result):
    (platform,) = result.platforms
    return platform.soci_index, [layer.reused for layer in platform.layers]


def test_create_when_a_store_is_given_then_ztocs_are_kept_and_used(image, store, tmp_path):
    first = indexed(image, tmp_path, "one", known=store)
    for layer in LAYERS:
        assert store.find(Digest.of(layer), ALL.span_size) == tocsin.build_ztoc(layer).to_bytes()
    second = indexed(image, tmp_path, "two", known=store)
    plain = indexed(image, tmp_path, "three")
    assert facts(first) == facts(plain) == (facts(plain)[0], [False, False])
    assert facts(second) == (facts(plain)[0], [True, True])
    read = first.traffic.read - second.traffic.read
    assert read == sum(len(layer) for layer in LAYERS)


def test_convert_when_a_store_is_given_then_layers_are_not_read(image, store, tmp_path):
    indexed(image, tmp_path, "one", known=store)
    converted = tocsin.convert(image, f"oci:{tmp_path / 'image'}:c", options=ALL, known=store)
    plain = tocsin.convert(image, f"oci:{tmp_path / 'image'}:d", options=ALL)
    assert facts(converted) == (facts(plain)[0], [True, True])
    assert converted.image == plain.image


def test_store_when_the_span_size_differs_then_not_used(image, store, tmp_path):
    indexed(image, tmp_path, "one", known=store)
    other = tocsin.IndexingOptions(min_layer_size=0, span_size=10_000)
    assert facts(indexed(image, tmp_path, "two", known=store, options=other))[1] == [False, False]


@pytest.mark.parametrize(
    "options",
    [
        tocsin.IndexingOptions(min_layer_size=0, rebuild=True),
        tocsin.IndexingOptions(min_layer_size=0, reference_identical=True),
    ],
)
def test_store_when_rebuilding_then_layers_are_read(image, store, tmp_path, options):
    indexed(image, tmp_path, "one", known=store)
    result = indexed(image, tmp_path, "two", known=store, options=options)
    assert facts(result)[1] == [False, False]


def test_store_when_reference_identical_then_nothing_is_kept(image, store, tmp_path):
    options = tocsin.IndexingOptions(min_layer_size=0, reference_identical=True)
    indexed(image, tmp_path, "one", known=store, options=options)
    assert not (tmp_path / "ztocs").exists()


@pytest.mark.parametrize(
    "blob",
    [b"", b"not a zTOC" * 50, tocsin.build_ztoc(goldens.layer("runs.zlib6.tar.gz")).to_bytes()],
)
def test_store_when_a_ztoc_is_unusable_then_the_layer_is_read(image, store, tmp_path, blob):
    for layer in LAYERS:
        store.keep(Digest.of(layer), ALL.span_size, blob)
    result = indexed(image, tmp_path, "one", known=store)
    assert facts(result)[1] == [False, False]
    assert store.find(Digest.of(LAYERS[0]), ALL.span_size) != blob


def test_store_when_the_directory_cannot_be_read_then_os_error(image, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        indexed(image, tmp_path, "one", known=tocsin.ZtocDirectory(tmp_path / "file"))
