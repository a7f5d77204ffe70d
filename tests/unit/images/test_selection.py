"""Selection of the images to index: docs/format.md#which-platforms."""

from dataclasses import replace

import pytest

from support.images import image_of, make_image, put_index, referrer_to
from tocsin.errors import FormatError, NotFoundError
from tocsin.images.selection import platform_images, resolve_image
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import (
    DOCKER_INDEX,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from tocsin.model.platform import Platform
from tocsin.model.soci_index import IMAGE_MANIFEST_DIGEST, SOCI_INDEX_V2
from tocsin.stores.layout import OciLayout


@pytest.fixture
def store(tmp_path):
    return OciLayout(tmp_path / "D", write=True)


def found(store, target, *asked):
    platforms = tuple(map(Platform.parse, asked)) or None
    return [str(image.platform) for image in platform_images(store, target, platforms)]


def images_for(*platforms):
    return {text: make_image({"p": text.encode()}, platform=text) for text in platforms}


def put_manifest(store, config_type, **fields):
    """Put an artifact whose config is ``{}``."""
    store.put_blob(b"{}")
    manifest = Manifest(Descriptor.of(b"{}", config_type), (), media_type=OCI_MANIFEST, **fields)
    return store.put_manifest(manifest.to_json(), OCI_MANIFEST)


# Resolving


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_resolve_when_an_index_is_wrapped_then_the_innermost_is_returned(store, depth):
    inner = put_index(store, images_for("linux/amd64", "linux/arm64"))
    wrapped = inner
    for _ in range(depth):
        wrapped = store.put_manifest(ImageIndex((wrapped,)).to_json(), OCI_INDEX, tag="t")
    assert resolve_image(store, "t") == inner
    assert found(store, inner) == ["linux/amd64", "linux/arm64"]


def test_resolve_when_an_index_is_wrapped_too_deeply_then_no_image(store):
    wrapped = put_index(store, images_for("linux/amd64"))
    for _ in range(6):
        wrapped = store.put_manifest(ImageIndex((wrapped,)).to_json(), OCI_INDEX, tag="t")
    target = resolve_image(store, "t")
    with pytest.raises(NotFoundError, match="does not list any image"):
        platform_images(store, target, None, nested=False)


def test_resolve_when_an_index_lists_one_manifest_then_it_is_kept(store):
    index = put_index(store, images_for("linux/amd64"), tag="t")
    assert resolve_image(store, "t").digest == index.digest
    assert resolve_image(store, index.digest).digest == index.digest
    assert resolve_image(store, None).digest == index.digest


def test_resolve_when_an_index_is_empty_then_no_image_is_found(store):
    store.put_manifest(ImageIndex(()).to_json(), OCI_INDEX, tag="t")
    target = resolve_image(store, "t")
    for asked in ((), ("linux/amd64",)):
        with pytest.raises(NotFoundError):
            found(store, target, *asked)


# All platforms


def test_images_when_all_are_requested_then_in_the_order_of_the_index(store):
    images = images_for("linux/arm64/v8", "linux/amd64", "windows/amd64", "linux/arm/v7")
    target = put_index(store, images)
    assert found(store, target) == list(images)
    for image, made in zip(platform_images(store, target, None), images.values(), strict=True):
        assert image.descriptor.digest == made.descriptor.digest
        assert image.manifest == Manifest.from_json(made.manifest)


def test_images_when_the_target_is_a_manifest_then_platform_is_from_config(store):
    for text, normalized in [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v6", "linux/arm/v6"),
    ]:
        descriptor = make_image(platform=text).put(store)
        assert found(store, descriptor) == [normalized]
    carried = replace(descriptor, platform=Platform("linux", "arm64", "v8"))
    assert found(store, carried) == ["linux/arm64/v8"]


@pytest.mark.parametrize("config", [b"{}", b"not json", b'{"os":"linux"}'])
def test_images_when_a_config_has_no_platform_then_none(store, config):
    store.put_blob(config)
    manifest = Manifest(Descriptor.of(config, OCI_CONFIG), (), media_type=OCI_MANIFEST)
    target = store.put_manifest(manifest.to_json(), OCI_MANIFEST)
    (image,) = platform_images(store, target, None)
    assert image.platform is None
    with pytest.raises(NotFoundError, match="no image for linux/amd64"):
        found(store, target, "linux/amd64")


def test_images_when_entries_are_not_images_then_they_are_skipped(store):
    images = images_for("linux/amd64")
    soci = put_manifest(store, "application/vnd.amazon.soci.index.v2+json")
    unmarked = put_manifest(
        store, "application/vnd.amazon.soci.index.v2+json", annotations={"a": ""}
    )
    attestation = make_image({"attestation": b""}).put(store)
    artifact = put_manifest(store, OCI_EMPTY, artifact_type="application/x")
    referrer = store.put_manifest(
        referrer_to(images["linux/amd64"].descriptor, "application/x"), OCI_MANIFEST
    )
    linux = Platform("linux", "amd64")
    more = (
        replace(soci, artifact_type=SOCI_INDEX_V2, platform=linux),
        # skopeo 1.9 loses the artifact type.
        replace(soci, annotations={IMAGE_MANIFEST_DIGEST: "x"}, platform=linux),
        replace(unmarked, platform=Platform("linux", "s390x")),
        replace(attestation, platform=Platform("unknown", "unknown")),
        replace(attestation, platform=Platform("linux", "unknown")),
        replace(artifact, platform=Platform("linux", "riscv64")),
        referrer,
        Descriptor("application/x-odd", Digest("7" * 64), 7, platform=Platform("linux", "386")),
    )
    target = put_index(store, images, more=more)
    assert found(store, target) == ["linux/amd64"]


def test_images_when_a_platform_occurs_twice_then_the_first_is_used(store):
    images = images_for("linux/amd64", "linux/arm64")
    again = replace(
        make_image({"again": b""}).put(store), platform=Platform("linux", "arm64", "v8")
    )
    target = put_index(store, images, more=(again,))
    assert found(store, target) == ["linux/amd64", "linux/arm64"]
    (image,) = platform_images(store, target, [Platform.parse("linux/arm64/v8")])
    assert image.descriptor.digest == images["linux/arm64"].descriptor.digest


def test_images_when_windows_versions_differ_then_all_are_found(store):
    def entry(version):
        descriptor = make_image({version: b""}).put(store)
        return replace(descriptor, platform=Platform("windows", "amd64", os_version=version))

    entries = (entry("10.0.17763.1"), entry("10.0.20348.2"))
    target = store.put_manifest(ImageIndex(entries).to_json(), OCI_INDEX)
    assert found(store, target) == ["windows(10.0.17763.1)/amd64", "windows(10.0.20348.2)/amd64"]
    (first,) = platform_images(store, target, [Platform.parse("windows/amd64")])
    assert (first.descriptor, str(first.platform)) == (entries[0], "windows/amd64")


def test_images_when_indexes_are_nested_then_all_are_found(store):
    inner = put_index(store, images_for("linux/arm64"))
    outer = put_index(store, images_for("linux/amd64"), more=(inner,))
    assert found(store, outer) == ["linux/amd64", "linux/arm64"]


def test_images_when_in_docker_format_then_they_are_found(store):
    image = image_of((b"x", OCI_LAYER_GZIP), docker=True)
    target = put_index(store, {"linux/amd64": image}, docker=True)
    assert target.media_type == DOCKER_INDEX
    assert found(store, target) == ["linux/amd64"]


def test_images_when_indexes_are_nested_too_deeply_then_refused(store):
    deep = put_index(store, images_for("linux/amd64"))
    for _ in range(5):
        deep = store.put_manifest(ImageIndex((deep, deep)).to_json(), OCI_INDEX, tag="t")
    with pytest.raises(FormatError) as refusal:
        found(store, resolve_image(store, "t"))
    assert refusal.value.what == "manifest.depth"


# Chosen platforms


def test_images_when_platforms_are_requested_then_in_the_requested_order(store):
    images = images_for("linux/amd64", "linux/arm64/v8", "linux/arm/v7")
    target = put_index(store, images)
    assert found(store, target, "linux/arm64", "linux/amd64") == ["linux/arm64", "linux/amd64"]
    assert found(store, target, "linux/arm64/v8") == ["linux/arm64/v8"]
    assert found(store, target, "arm64", "linux/aarch64", "linux/arm64/v8") == ["linux/arm64"]
    assert found(store, target, "linux/arm") == ["linux/arm"]
    (image,) = platform_images(store, target, [Platform.parse("linux/arm64")])
    assert image.descriptor.digest == images["linux/arm64/v8"].descriptor.digest


def test_images_when_a_platform_is_missing_then_the_error_lists_available(store):
    target = put_index(store, images_for("linux/amd64", "linux/arm/v7"))
    with pytest.raises(NotFoundError) as refusal:
        found(store, target, "linux/amd64", "linux/arm/v6")
    message = str(refusal.value)
    assert "no image for linux/arm/v6" in message
    assert message.endswith("(available: linux/amd64, linux/arm/v7)")
    none = store.put_manifest(ImageIndex(None).to_json(), OCI_INDEX)
    with pytest.raises(NotFoundError, match="available: none"):
        found(store, none, "linux/amd64")


# Incomplete images, from ``docker save`` and partial pulls


def test_images_when_a_manifest_is_missing_then_the_others_are_indexed(store):
    absent = replace(make_image({"far": b""}).descriptor, platform=Platform("linux", "s390x"))
    target = put_index(store, images_for("linux/amd64"), more=(absent,))
    assert found(store, target) == ["linux/amd64"]
    assert found(store, target, "linux/amd64") == ["linux/amd64"]
    with pytest.raises(NotFoundError, match=r"no image for linux/s390x \(available: linux/amd64"):
        found(store, target, "linux/s390x")


def test_images_when_the_target_itself_is_missing_then_not_found(store):
    make_image().put(store)
    with pytest.raises(NotFoundError, match="not found"):
        found(store, make_image({"far": b""}).descriptor)
