"""Tests of `tocsin.images.coverage`, which ``tocsin info`` prints."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support.images import make_image, put_index, referrer_to
from tocsin.errors import NotFoundError, UnsupportedError
from tocsin.images.coverage import image_coverage
from tocsin.layers.indexer import build_ztoc
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import OCI_INDEX, OCI_MANIFEST
from tocsin.model.platform import Platform
from tocsin.model.soci_index import CONFIG_BLOB, INDEX_DIGEST, IndexedLayer, make_soci_index
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OciLayout]:
    with OciLayout(tmp_path / "layout", write=True) as layout:
        layout.put_blob(CONFIG_BLOB)
        yield layout


def put_ztoc(store, layer: bytes, span_size: int = 1 << 20) -> Descriptor:
    return store.put_blob(build_ztoc(layer, span_size=span_size).to_bytes())


def put_soci_index(store, image, ztoc, subject=None) -> Descriptor:
    index = make_soci_index(
        [IndexedLayer(image.layer_descriptors[0], ztoc, 1 << 20)], subject=subject
    )
    return store.put_manifest(index.to_json(), OCI_MANIFEST)


def put_bound(store, image, named: str) -> Descriptor:
    """Put the image with an annotation that names its SOCI index, as ``convert`` does."""
    manifest = Manifest.from_json(image.manifest)
    bound = replace(manifest, annotations={INDEX_DIGEST: named})
    return store.put_manifest(bound.to_json(), OCI_MANIFEST)


def test_coverage_when_no_index_exists_then_no_layer_is_covered(store):
    image = make_image({"a": b"1"}, {"b": b"2"})
    (platform,) = image_coverage(store, image.put(store)).platforms
    assert [layer.covered for layer in platform.layers] == [False, False]
    assert str(platform.platform) == "linux/amd64"
    assert (platform.covered_size, platform.ztoc_size, platform.soci_indexes) == (0, 0, ())


def test_coverage_when_a_referrer_lists_one_layer_then_only_it_is_covered(store):
    image = make_image({"a": b"1"}, {"b": b"2"})
    put = image.put(store)
    put_soci_index(store, image, put_ztoc(store, image.layers[0]), subject=put)
    coverage = image_coverage(store, put)
    (platform,) = coverage.platforms
    first, second = platform.layers
    assert (first.covered, first.soci_versions, first.span_count) == (True, (1,), 1)
    assert not second.covered
    assert coverage.covered_size == len(image.layers[0])
    assert coverage.layer_size == sum(map(len, image.layers))


def test_coverage_when_both_versions_exist_then_version_2_is_used(store):
    image = make_image({"a": b"1"})
    image.put(store)
    other = put_ztoc(store, image.layers[0], span_size=1 << 10)
    v2 = put_soci_index(store, image, put_ztoc(store, image.layers[0]))
    bound = put_bound(store, image, str(v2.digest))
    put_soci_index(store, image, other, subject=bound)
    (platform,) = image_coverage(store, bound).platforms
    assert [found.version for found in platform.soci_indexes] == [2]
    assert platform.layers[0].soci_versions == (2,)
    assert platform.layers[0].span_size == 1 << 20


def test_coverage_when_the_soci_index_is_missing_then_it_has_a_problem(store):
    image = make_image({"a": b"1"})
    image.put(store)
    bound = put_bound(store, image, str(Digest.of(b"nowhere")))
    (platform,) = image_coverage(store, bound).platforms
    (found,) = platform.soci_indexes
    assert found.descriptor is None
    assert "not found" in (found.problem or "")
    assert not platform.layers[0].covered


def test_coverage_when_the_annotation_is_not_a_digest_then_ignored(store):
    image = make_image({"a": b"1"})
    image.put(store)
    (platform,) = image_coverage(store, put_bound(store, image, "../etc")).platforms
    assert platform.soci_indexes == ()


def test_coverage_when_a_ztoc_is_of_another_layer_then_not_covered(store):
    image, other = make_image({"a": b"1"}), make_image({"b": b"22" * 900})
    put = image.put(store)
    put_soci_index(store, image, put_ztoc(store, other.layers[0]), subject=put)
    (platform,) = image_coverage(store, put).platforms
    assert platform.layers[0].ztoc is not None
    assert not platform.layers[0].covered
    assert "does not belong to this layer" in (platform.layers[0].problem or "")


def test_coverage_when_a_layer_occurs_twice_then_it_is_listed_twice(store):
    image = make_image({"a": b"1"}, {"a": b"1"})
    put = image.put(store)
    put_soci_index(store, image, put_ztoc(store, image.layers[0]), subject=put)
    (platform,) = image_coverage(store, put).platforms
    assert [layer.covered for layer in platform.layers] == [True, True]


def test_coverage_when_entries_are_unusable_then_skipped_or_with_a_problem(store):
    image = make_image({"a": b"1"})
    listed = image.put(store)
    absent = Descriptor.of(b"absent", OCI_MANIFEST)
    index = ImageIndex(
        (
            replace(listed, platform=Platform("linux", "amd64")),
            replace(listed, platform=Platform("unknown", "unknown")),
            replace(absent, platform=Platform("linux", "s390x")),
            Descriptor.of(b"{}", "application/vnd.example"),
        )
    )
    put = store.put_manifest(index.to_json(), OCI_INDEX, tag="app")
    first, second = image_coverage(store, put).platforms
    assert first.problem is None
    assert "not found" in (second.problem or "")


def test_coverage_when_several_platforms_then_sizes_are_summed(store):
    images = {name: make_image({name: b"1"}, platform=name) for name in ("linux/arm", "linux/386")}
    coverage = image_coverage(store, put_index(store, images, tag="app"))
    assert coverage.layer_size == sum(len(image.layers[0]) for image in images.values())
    assert [str(p.platform) for p in coverage.platforms] == list(images)


def test_coverage_when_not_an_image_or_missing_then_typed_error(store):
    image = make_image({"a": b"1"})
    artifact = store.put_manifest(
        referrer_to(image.put(store), "application/vnd.example"), OCI_MANIFEST
    )
    with pytest.raises(UnsupportedError):
        image_coverage(store, artifact)
    with pytest.raises(NotFoundError):
        image_coverage(store, Descriptor.of(b"absent", OCI_MANIFEST))
