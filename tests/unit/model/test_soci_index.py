import json
from dataclasses import replace
from pathlib import Path

import pytest

from support.images import make_image
from tocsin.errors import FormatError, NotFoundError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from tocsin.model.platform import Platform
from tocsin.model.soci_index import (
    IMAGE_MANIFEST_DIGEST,
    INDEX_DIGEST,
    SOCI_INDEX_V2,
    IndexedLayer,
    PlatformIndex,
    SociIndex,
    convert_image,
    is_go_exact,
    is_soci_entry,
    make_soci_index,
    place_soci_entry,
    rewrite_manifest,
    soci_entry,
    start_index,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "index"
DIGESTS = {
    "v1.json": "61f5f71d9c73956f359d39d630ecd4964772b2949adf010d9b68b994a40bdc17",
    "v2-xattrs-prefetch.json": "76a4cd0fe8af01695126ffc288e002230ee548b2b8fc02667eb051f7d76b1c71",
    "converted-index.json": "04985469753048dede3d773e14bf7c82c6e4fc2796d552440b3903fc485082f7",
}
SPAN_SIZE = 4 << 20


def golden(name: str) -> bytes:
    data = (GOLDEN / name).read_bytes()
    assert Digest.of(data).hex == DIGESTS[name]
    return data


def described(digit: int, size: int, media_type: str = "") -> Descriptor:
    return Descriptor(media_type, Digest(str(digit) * 64), size)


LAYER = described(2, 20_000_000, OCI_LAYER_GZIP)
ZTOC = described(1, 1000)
SUBJECT = replace(
    described(3, 500, OCI_MANIFEST), platform=Platform("linux", "amd64"), annotations={"a": "b"}
)


def test_v1_when_built_then_equals_the_golden():
    index = make_soci_index([IndexedLayer(LAYER, ZTOC, SPAN_SIZE)], subject=SUBJECT)
    assert index.to_json() == golden("v1.json")
    assert (index.version, index.media_type) == (1, "application/vnd.amazon.soci.index.v1+json")


def test_v2_when_built_with_xattrs_and_prefetch_then_equals_the_golden():
    layer = IndexedLayer(LAYER, ZTOC, SPAN_SIZE, disable_xattrs=True, prefetch=described(4, 63))
    index = make_soci_index([layer])
    assert index.to_json() == golden("v2-xattrs-prefetch.json")
    assert index.version == 2


@pytest.mark.parametrize("name", ["v1.json", "v2-xattrs-prefetch.json"])
def test_soci_index_when_parsed_then_encodes_to_the_same_bytes(name):
    data = golden(name)
    index = SociIndex.from_json(data)
    assert index.to_json() == data
    assert is_go_exact(data)
    assert not is_go_exact(json.dumps(json.loads(data), indent=2).encode())
    assert not is_go_exact(data.replace(b"{", b'{"artifactType":"x",', 1))
    assert [d.digest for d in index.ztocs] == [ZTOC.digest]
    assert index.ztoc_of(LAYER.digest) == index.ztocs[0]
    assert index.ztoc_of(LAYER.digest, span_size=SPAN_SIZE) == index.ztocs[0]
    assert index.ztoc_of(LAYER.digest, span_size=1) is None
    assert index.ztoc_of(ZTOC.digest) is None


def test_soci_index_when_layer_occurs_twice_then_prefetch_is_listed_once():
    layer = IndexedLayer(LAYER, ZTOC, SPAN_SIZE, prefetch=described(4, 63))
    other = IndexedLayer(described(7, 1, OCI_LAYER_GZIP), described(8, 9), SPAN_SIZE)
    index = make_soci_index([layer, other, layer])
    assert [d.digest.hex[0] for d in index.layers] == ["1", "8", "1", "4"]
    assert len(index.prefetches) == 1


def test_soci_index_when_config_type_is_unknown_then_format_error():
    with pytest.raises(FormatError, match=r"config\.mediaType") as refusal:
        SociIndex.from_json(make_image().manifest)
    assert refusal.value.what == "soci_index"


def test_converted_index_when_built_then_equals_the_golden():
    image = Descriptor(
        OCI_MANIFEST,
        Digest("5" * 64),
        600,
        annotations={INDEX_DIGEST: "sha256:" + "6" * 64},
        platform=Platform("linux", "arm64", "v8"),
    )
    entry = soci_entry(described(6, 700), image.digest, Platform("linux", "arm64"))
    index = place_soci_entry(ImageIndex((image,)), entry)
    assert index.to_json() == golden("converted-index.json")
    assert place_soci_entry(index, entry) == index


def test_place_soci_entry_when_platform_matches_then_replaces():
    def entry(digit, platform):
        return soci_entry(described(digit, 1), Digest("0" * 64), Platform.parse(platform))

    index = ImageIndex((entry(1, "linux/arm64"), entry(2, "linux/amd64")))
    replaced = place_soci_entry(index, entry(3, "linux/arm64/v8"))
    assert [d.digest.hex[0] for d in replaced.manifests] == ["3", "2"]
    appended = place_soci_entry(index, entry(3, "linux/arm/v7"))
    assert [d.digest.hex[0] for d in appended.manifests] == ["1", "2", "3"]
    image = replace(described(1, 1, OCI_MANIFEST), platform=Platform("linux", "arm64"))
    kept = place_soci_entry(ImageIndex((image,)), entry(3, "linux/arm64"))
    assert [d.digest.hex[0] for d in kept.manifests] == ["1", "3"]
    assert place_soci_entry(ImageIndex(None), image).manifests == (image,)


def test_rewrite_manifest_when_docker_then_oci_types_except_layers():
    manifest = Manifest(
        described(1, 2, DOCKER_CONFIG),
        (described(2, 3, DOCKER_LAYER_GZIP),),
        media_type=DOCKER_MANIFEST,
        annotations={"z": "1"},
    )
    rewritten = rewrite_manifest(manifest, Digest("6" * 64))
    assert rewritten.media_type == OCI_MANIFEST
    assert rewritten.config.media_type == OCI_CONFIG
    assert rewritten.layers[0].media_type == DOCKER_LAYER_GZIP
    assert rewritten.annotations == {"z": "1", INDEX_DIGEST: "sha256:" + "6" * 64}
    assert rewrite_manifest(manifest).annotations == {"z": "1"}


def test_start_index_when_target_is_a_docker_list_then_only_type_changes():
    entries = (replace(described(1, 2, DOCKER_MANIFEST), platform=Platform("linux", "amd64")),)
    target = ImageIndex(entries, DOCKER_INDEX, annotations={"a": "b"}).to_json()
    index = start_index(target, Descriptor.of(target, DOCKER_INDEX), None)
    assert index == ImageIndex(entries, OCI_INDEX, annotations={"a": "b"})


def test_start_index_when_target_is_a_manifest_then_only_entry():
    image = make_image()
    tagged = replace(image.descriptor, annotations={"org.opencontainers.image.ref.name": "t"})
    platform = Platform("linux", "amd64")
    (entry,) = start_index(image.manifest, tagged, platform).manifests
    assert entry == replace(image.descriptor, platform=platform)
    variant = replace(tagged, platform=Platform("linux", "arm64", "v8"))
    (entry,) = start_index(image.manifest, variant, platform).manifests
    assert entry.platform == variant.platform


class Source:
    """An image index with two platforms, an attestation, a missing entry and an unknown one."""

    def __init__(self):
        self.images = [make_image({"a": b"1"}), make_image({"a": b"2"}, platform="linux/arm64/v8")]
        attestation = Manifest(
            described(1, 2, "application/x"), (described(9, 9, "application/vnd.in-toto+json"),)
        )
        self.blobs = {Digest.of(m): m for m in (i.manifest for i in self.images)}
        self.blobs[Digest.of(attestation.to_json())] = attestation.to_json()
        platforms = ["linux/amd64", "linux/arm64/v8"]
        self.entries = [
            replace(i.descriptor, platform=Platform.parse(p), annotations={"old": "1"})
            for i, p in zip(self.images, platforms, strict=True)
        ] + [
            replace(
                Descriptor.of(attestation.to_json(), OCI_MANIFEST),
                platform=Platform("unknown", "unknown"),
                annotations={"vnd.docker.reference.type": "attestation-manifest"},
            ),
            replace(described(7, 7, OCI_MANIFEST), platform=Platform("linux", "s390x")),
            described(8, 8, "application/odd"),
            described(9, 9, OCI_INDEX),
        ]
        self.index = ImageIndex(tuple(self.entries), annotations={"top": "1"})
        self.made = [
            PlatformIndex(e.platform, e.digest, described(5 + n, 50))
            for n, e in enumerate(self.entries[:2])
        ]

    def load(self, entry):
        return self.blobs.get(entry.digest)


def test_convert_image_when_all_platforms_are_indexed_then_all_are_kept():
    source = Source()
    converted = convert_image(source.index, source.made, source.load)
    entries = converted.index.manifests
    assert len(entries) == 8
    stored = {Digest.of(data): Manifest.from_json(data) for data in converted.manifests}
    for n in (0, 1):
        manifest = stored[entries[n].digest]
        assert manifest.annotations[INDEX_DIGEST] == str(source.made[n].soci_index.digest)
        assert entries[n].annotations == manifest.annotations
        assert entries[n].platform == source.entries[n].platform
        soci = entries[6 + n]
        assert soci.digest == source.made[n].soci_index.digest
        assert soci.annotations == {IMAGE_MANIFEST_DIGEST: str(entries[n].digest)}
        assert (soci.artifact_type, soci.platform) == (SOCI_INDEX_V2, entries[n].platform)
        assert is_soci_entry(soci)
    attestation = entries[2]
    assert stored[attestation.digest].config.media_type == OCI_CONFIG
    assert attestation.annotations == {}
    assert attestation.platform == Platform("unknown", "unknown")
    assert entries[3:6] == tuple(source.entries[3:6])
    assert converted.index.annotations == {"top": "1"}
    assert converted.index.media_type == OCI_INDEX


def test_convert_image_when_repeated_then_unchanged():
    source = Source()
    once = convert_image(source.index, source.made, source.load)
    source.blobs |= {Digest.of(data): data for data in once.manifests}
    made = [
        replace(found, manifest=entry.digest)
        for found, entry in zip(source.made, once.index.manifests, strict=False)
    ]
    again = convert_image(once.index, made, source.load)
    assert again.index.to_json() == once.index.to_json()


def test_convert_image_when_artifact_types_were_lost_then_restored():
    source = Source()
    once = convert_image(source.index, source.made, source.load)
    source.blobs |= {Digest.of(data): data for data in once.manifests}
    copied = replace(
        once.index, manifests=tuple(replace(e, artifact_type="") for e in once.index.manifests)
    )
    made = [
        replace(found, manifest=entry.digest)
        for found, entry in zip(source.made, once.index.manifests, strict=False)
    ]
    assert convert_image(copied, made, source.load).index == once.index


def test_convert_image_when_one_platform_is_rebuilt_then_others_are_kept():
    source = Source()
    once = convert_image(source.index, source.made, source.load)
    source.blobs |= {Digest.of(data): data for data in once.manifests}
    made = replace(source.made[0], manifest=once.index.manifests[0].digest)
    again = convert_image(once.index, [made], source.load)
    assert again.index == once.index


def test_convert_image_when_indexed_platform_is_missing_then_not_found():
    source = Source()
    with pytest.raises(NotFoundError, match="not found"):
        convert_image(source.index, source.made, lambda _: None)
    stray = PlatformIndex(None, Digest("0" * 64), described(1, 1))
    with pytest.raises(NotFoundError, match="not listed"):
        convert_image(source.index, [stray], source.load)
