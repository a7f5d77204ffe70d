"""``convert`` between stores; the expected bytes are built independently from docs/format.md."""

import errno
import json
import tarfile
from dataclasses import replace

import pytest

import tocsin
from support import goldens
from support.disks import fill_up, tiny_disk
from support.images import image_of, make_image, put_index
from support.layout_files import (
    LayoutFiles,
    compact,
    descriptor_of,
    digest_of,
    soci_index,
    ztoc_entry,
)
from tocsin import (
    ConflictError,
    ConvertResult,
    IndexingOptions,
    NotFoundError,
    UnsupportedError,
    VerificationError,
    convert,
)
from tocsin.model.descriptor import Descriptor, write_descriptor
from tocsin.model.digest import Digest
from tocsin.model.events import LayerAdvanced, LayerFinished, LayerStarted, Planned
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import (
    DOCKER_LAYER_GZIP,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from tocsin.model.platform import Platform
from tocsin.stores.archive import OciArchive
from tocsin.stores.layout import OciLayout

USTAR, PAX, GNU = "ustar.zlib6.tar.gz", "pax.zlib6.tar.gz", "gnu.members.tar.gz"
SOCI_INDEX_V2 = "application/vnd.amazon.soci.index.v2+json"
INDEX_DIGEST = "com.amazon.soci.index-digest"
IMAGE_MANIFEST_DIGEST = "com.amazon.soci.image-manifest-digest"
ALL = IndexingOptions(min_layer_size=0)


@pytest.fixture
def source(tmp_path):
    return OciLayout(tmp_path / "source", write=True)


@pytest.fixture
def files(source):
    return LayoutFiles(source.path)


@pytest.fixture
def sink(tmp_path):
    return LayoutFiles(tmp_path / "sink")


def golden_image(*names, platform="linux/amd64", docker=False):
    media_type = DOCKER_LAYER_GZIP if docker else OCI_LAYER_GZIP
    layers = [(goldens.layer(name), media_type) for name in names]
    return image_of(*layers, platform=platform, docker=docker)


def options(*platforms, **others):
    parsed = tuple(map(Platform.parse, platforms)) or None
    return IndexingOptions(min_layer_size=0, platforms=parsed, **others)


# An independent implementation of the format


def index_of(*names, media_type=OCI_LAYER_GZIP):
    """Return the v2 SOCI index of an image with these golden layers."""
    return soci_index([ztoc_entry(goldens.case(name), media_type) for name in names])


def rewritten(manifest, soci=None):
    """Return the manifest of an image after step 4."""
    document = json.loads(manifest)
    annotations = document.get("annotations", {})
    if soci is not None:
        annotations = {**annotations, INDEX_DIGEST: digest_of(soci)}
    new = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {**document["config"], "mediaType": OCI_CONFIG},
        "layers": document["layers"],
    }
    if annotations:
        new["annotations"] = dict(sorted(annotations.items()))
    return compact(new)


def entry_of(manifest, platform=None):
    """Return the entry of a rewritten manifest."""
    entry = descriptor_of(manifest, OCI_MANIFEST)
    annotations = json.loads(manifest).get("annotations")
    if annotations:
        entry["annotations"] = annotations
    return {**entry, "platform": platform} if platform else entry


def soci_entry_of(soci, manifest, platform=None):
    """Return the entry of a SOCI index: step 5."""
    entry = descriptor_of(soci, OCI_MANIFEST)
    entry["annotations"] = {IMAGE_MANIFEST_DIGEST: digest_of(manifest)}
    if platform:
        entry["platform"] = platform
    return {**entry, "artifactType": SOCI_INDEX_V2}


def image_index(*entries, **more):
    return compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **more})


AMD64 = {"architecture": "amd64", "os": "linux"}
ARM64 = {"architecture": "arm64", "os": "linux"}
ARM64_V8 = {**ARM64, "variant": "v8"}


def converted_single(image, soci, platform=AMD64):
    manifest = rewritten(image.manifest, soci)
    return image_index(entry_of(manifest, platform), soci_entry_of(soci, manifest, platform))


# Results


@pytest.mark.parametrize("jobs", [1, 4])
def test_convert_when_one_manifest_then_bytes_are_as_specified(source, sink, jobs):
    image = golden_image(USTAR, PAX, GNU)
    image.put(source, "t")
    soci = index_of(USTAR, PAX, GNU)
    result = convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=options(jobs=jobs))
    expected = converted_single(image, soci)
    assert sink.blob(sink.tags["c"]["digest"]) == expected
    assert set(sink.tags) == {"c"}
    assert sink.whole(sink.tags["c"]) == sink.blobs
    for case in (goldens.case(name) for name in (USTAR, PAX, GNU)):
        assert case["layer_digest"] in sink.blobs
        assert len(sink.blob(case["ztoc_digest"])) == case["ztoc_size"]
    assert isinstance(result, ConvertResult)
    assert str(result.image.digest) == digest_of(expected)
    assert (result.image.size, result.image.media_type) == (len(expected), OCI_INDEX)
    assert (result.source, result.destination) == (
        f"oci:{source.path}:t",
        f"oci:{sink.path}:c",
    )
    assert [str(platform.platform) for platform in result.platforms] == ["linux/amd64"]
    assert str(result.platforms[0].soci_index.digest) == digest_of(soci)
    assert (result.missing_prefetch, result.seconds >= 0) == ((), True)


def test_convert_when_a_docker_image_then_oci_types_but_same_layers(source, sink):
    image = golden_image(USTAR, docker=True)
    put_index(source, {"linux/amd64": image}, tag="t", docker=True)
    soci = index_of(USTAR, media_type=DOCKER_LAYER_GZIP)
    convert(f"oci:{source.path}:t", f"oci:{sink.path}", options=ALL)
    assert sink.blob(sink.tags["t"]["digest"]) == converted_single(image, soci)
    (entry, _) = sink.image("t")["manifests"]
    manifest = sink.document(entry["digest"])
    assert manifest["layers"][0]["mediaType"] == DOCKER_LAYER_GZIP
    assert sink.whole(sink.tags["t"]) == sink.blobs


@pytest.mark.parametrize(
    ("spelled", "recorded"),
    [
        ("linux/arm64/v8", ARM64),
        ("linux/arm/v6", {"architecture": "arm", "os": "linux", "variant": "v6"}),
        ("linux/arm", {"architecture": "arm", "os": "linux", "variant": "v7"}),
    ],
)
def test_convert_when_one_manifest_then_config_platform_is_normalized(
    source, sink, spelled, recorded
):
    image = golden_image(USTAR, platform=spelled)
    image.put(source, "t")
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.blob(sink.tags["c"]["digest"]) == converted_single(image, index_of(USTAR), recorded)


def test_convert_when_the_platform_is_unknown_then_none_is_recorded(source, sink):
    image = image_of((goldens.layer(USTAR), OCI_LAYER_GZIP))
    config = b'{"rootfs":{"type":"layers","diff_ids":[]}}'
    manifest = json.loads(image.manifest)
    manifest["config"] |= {"digest": digest_of(config), "size": len(config)}
    source.put_blob(image.layers[0])
    source.put_blob(config)
    source.put_manifest(compact(manifest), OCI_MANIFEST, tag="t")
    soci = index_of(USTAR)
    new = rewritten(compact(manifest), soci)
    expected = image_index(entry_of(new), soci_entry_of(soci, new))
    for place in (source.path, sink.path):
        # The second conversion finds the SOCI index of the first one.
        result = convert(f"oci:{place}:t", f"oci:{sink.path}:t", options=ALL, force=True)
        assert str(result.image.digest) == digest_of(expected)
        assert result.platforms[0].platform is None
    assert sink.blob(sink.tags["t"]["digest"]) == expected


def two_platforms():
    return {
        "linux/amd64": golden_image(USTAR, PAX),
        "linux/arm64/v8": golden_image(USTAR, GNU, platform="linux/arm64/v8"),
    }


@pytest.mark.parametrize("jobs", [1, 4])
def test_convert_when_all_platforms_then_indexes_follow_the_images(source, sink, jobs):
    images = two_platforms()
    put_index(source, images, tag="t")
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=options(jobs=jobs))
    socis = [index_of(USTAR, PAX), index_of(USTAR, GNU)]
    manifests = [
        rewritten(image.manifest, soci) for image, soci in zip(images.values(), socis, strict=True)
    ]
    assert sink.blob(sink.tags["c"]["digest"]) == image_index(
        entry_of(manifests[0], AMD64),
        entry_of(manifests[1], ARM64_V8),
        soci_entry_of(socis[0], manifests[0], AMD64),
        soci_entry_of(socis[1], manifests[1], ARM64_V8),
    )
    assert sink.whole(sink.tags["c"]) == sink.blobs


@pytest.mark.parametrize(
    ("asked", "recorded"), [("linux/arm64", ARM64), ("linux/arm64/v8", ARM64_V8)]
)
def test_convert_when_a_platform_is_given_then_recorded_as_given(source, sink, asked, recorded):
    images = two_platforms()
    put_index(source, images, tag="t")
    result = convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=options(asked))
    soci = index_of(USTAR, GNU)
    amd64 = rewritten(images["linux/amd64"].manifest)
    arm64 = rewritten(images["linux/arm64/v8"].manifest, soci)
    assert sink.blob(sink.tags["c"]["digest"]) == image_index(
        entry_of(amd64, AMD64), entry_of(arm64, ARM64_V8), soci_entry_of(soci, arm64, recorded)
    )
    assert [str(platform.platform) for platform in result.platforms] == [asked]
    assert sink.whole(sink.tags["c"]) == sink.blobs


def test_convert_when_platforms_are_given_then_indexes_have_their_order(source, sink):
    put_index(source, two_platforms(), tag="t")
    asked = options("linux/arm64/v8", "linux/amd64")
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=asked)
    entries = sink.image("c")["manifests"]
    assert [entry["platform"] for entry in entries] == [AMD64, ARM64_V8, ARM64_V8, AMD64]


def test_convert_when_a_platform_is_missing_then_available_ones_are_listed(source, sink):
    put_index(source, two_platforms(), tag="t")
    with pytest.raises(NotFoundError, match="available: linux/amd64, linux/arm64/v8"):
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=options("linux/s390x"))
    assert sink.snapshot() == {}


def test_convert_when_a_platform_has_nothing_to_index_then_no_soci_index(source, sink):
    small = make_image({"a": b"x"}, platform="linux/s390x")
    images = {"linux/s390x": small, "linux/amd64": golden_image(USTAR)}
    put_index(source, images, tag="t")
    result = convert(
        f"oci:{source.path}:t",
        f"oci:{sink.path}:c",
        options=IndexingOptions(min_layer_size=30_000),
    )
    soci = index_of(USTAR)
    amd64 = rewritten(images["linux/amd64"].manifest, soci)
    s390x = {"architecture": "s390x", "os": "linux"}
    assert sink.blob(sink.tags["c"]["digest"]) == image_index(
        entry_of(rewritten(small.manifest), s390x),
        entry_of(amd64, AMD64),
        soci_entry_of(soci, amd64, AMD64),
    )
    assert [platform.soci_index is None for platform in result.platforms] == [True, False]


# Entries that are not images


def attestation_of(image):
    """Return an attestation as BuildKit writes it, and its entry."""
    statement = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
    made = image_of((statement, "application/vnd.in-toto+json"), platform="unknown/unknown")
    entry = replace(
        made.descriptor,
        platform=Platform("unknown", "unknown"),
        annotations={
            "vnd.docker.reference.digest": str(image.descriptor.digest),
            "vnd.docker.reference.type": "attestation-manifest",
        },
    )
    return made, entry


def test_convert_when_an_attestation_exists_then_rewritten_as_by_soci(source, sink):
    image = golden_image(USTAR)
    attestation, entry = attestation_of(image)
    attestation.put(source)
    put_index(source, {"linux/amd64": image}, tag="t", more=(entry,))
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    soci = index_of(USTAR)
    manifest = rewritten(image.manifest, soci)
    unknown = {"architecture": "unknown", "os": "unknown"}
    assert sink.blob(sink.tags["c"]["digest"]) == image_index(
        entry_of(manifest, AMD64),
        entry_of(rewritten(attestation.manifest), unknown),
        soci_entry_of(soci, manifest, AMD64),
    )
    assert sink.whole(sink.tags["c"]) == sink.blobs


def test_convert_when_entries_are_unknown_missing_or_nested_then_kept(source, sink):
    image = golden_image(USTAR)
    odd = replace(source.put_blob(b"odd"), media_type="application/x-odd", annotations={"a": "<"})
    inner_image = golden_image(PAX, platform="linux/s390x")
    inner = replace(put_index(source, {"linux/s390x": inner_image}), artifact_type="x/y")
    absent = Descriptor(OCI_MANIFEST, Digest("7" * 64), 7, platform=Platform("linux", "riscv64"))
    entries = (odd, absent, replace(odd, digest=Digest("8" * 64)))
    index = ImageIndex(
        (replace(image.put(source), platform=Platform("linux", "amd64")), *entries, inner),
        annotations={"top": "1"},
    )
    source.put_manifest(index.to_json(), OCI_INDEX, tag="t")
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    before = json.loads(index.to_json())["manifests"]
    after = sink.image("c")
    assert after["manifests"][1:5] == before[1:5]
    assert after["annotations"] == {"top": "1"}
    # Also byte for byte: Go escapes the "<".
    assert rb'"annotations":{"a":"\u003c"}' in sink.blob(sink.tags["c"]["digest"])
    assert {str(odd.digest), str(inner.digest)} <= sink.blobs
    assert sink.whole(json.loads(json.dumps(write_descriptor(inner)))) <= sink.blobs


def test_convert_when_an_image_is_in_a_nested_index_then_not_found(source, sink):
    image, other = golden_image(USTAR), golden_image(PAX, platform="linux/s390x")
    inner = put_index(source, {"linux/s390x": other})
    put_index(source, {"linux/amd64": image}, tag="t", more=(inner,))
    result = convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert [str(platform.platform) for platform in result.platforms] == ["linux/amd64"]
    assert sink.image("c")["manifests"][1]["digest"] == str(inner.digest)
    assert sink.whole(sink.tags["c"]) == sink.blobs
    with pytest.raises(NotFoundError, match="available: linux/amd64"):
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:d", options=options("linux/s390x"))
    only_nested = ImageIndex((inner, inner)).to_json()
    source.put_manifest(only_nested, OCI_INDEX, tag="nested")
    with pytest.raises(NotFoundError, match="does not list any image"):
        convert(f"oci:{source.path}:nested", f"oci:{sink.path}:d", options=ALL)


def test_convert_when_a_platform_was_never_fetched_then_its_entry_is_kept(source, sink):
    image = golden_image(USTAR)
    far = golden_image(PAX, platform="linux/s390x")
    absent = replace(far.descriptor, platform=Platform("linux", "s390x"))
    put_index(source, {"linux/amd64": image}, tag="t", more=(absent,))
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    soci = index_of(USTAR)
    manifest = rewritten(image.manifest, soci)
    s390x = {"architecture": "s390x", "os": "linux"}
    assert sink.blob(sink.tags["c"]["digest"]) == image_index(
        entry_of(manifest, AMD64),
        {**descriptor_of(far.manifest, OCI_MANIFEST), "platform": s390x},
        soci_entry_of(soci, manifest, AMD64),
    )


@pytest.mark.parametrize("depth", [1, 2])
def test_convert_when_an_index_is_wrapped_then_the_inner_one_is_converted(source, sink, depth):
    target = put_index(source, two_platforms(), tag="plain")
    for _ in range(depth):
        target = source.put_manifest(ImageIndex((target,)).to_json(), OCI_INDEX, tag="t")
    digests = {
        str(convert(f"oci:{source.path}:{tag}", f"oci:{sink.path}:{tag}", options=ALL).image.digest)
        for tag in ("plain", "t")
    }
    assert len(digests) == 1


def test_convert_when_a_manifest_is_indented_then_written_compactly(source, sink):
    image = golden_image(USTAR)
    for layer in image.layers:
        source.put_blob(layer)
    source.put_blob(image.config)
    pretty = json.dumps({"unknown": "field", **json.loads(image.manifest)}, indent=3).encode()
    source.put_manifest(pretty, OCI_MANIFEST, tag="t")
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.blob(sink.tags["c"]["digest"]) == converted_single(image, index_of(USTAR))


def test_convert_when_an_entry_embeds_data_then_the_stale_copy_is_dropped(source, sink):
    image = golden_image(USTAR)
    entry = replace(image.put(source), data=image.manifest, platform=Platform("linux", "amd64"))
    source.put_manifest(ImageIndex((entry,)).to_json(), OCI_INDEX, tag="t")
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.blob(sink.tags["c"]["digest"]) == converted_single(image, index_of(USTAR))


# Repeated conversions


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("where", ["elsewhere", "same place"])
def test_convert_when_repeated_then_the_digest_is_the_same(source, tmp_path, images, where):
    made = dict(list(two_platforms().items())[:images])
    attestation, entry = attestation_of(made["linux/amd64"])
    attestation.put(source)
    put_index(source, made, tag="t", more=(entry,))
    places = [source.path] * 3 if where == "same place" else [tmp_path / n for n in "abc"]
    previous, digests = f"oci:{source.path}:t", set()
    for number, place in enumerate(places):
        destination = f"oci:{place}:c{number}"
        digests.add(convert(previous, destination, options=ALL).image.digest)
        files = LayoutFiles(place)
        files.whole(files.tags[f"c{number}"])
        previous = destination
    assert len(digests) == 1


def test_convert_when_one_platform_is_repeated_then_the_image_is_complete(source, sink, tmp_path):
    put_index(source, two_platforms(), tag="t")
    first = convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    elsewhere = LayoutFiles(tmp_path / "elsewhere")
    again = convert(f"oci:{sink.path}:c", f"oci:{elsewhere.path}:c", options=options("linux/amd64"))
    assert again.image == first.image
    assert elsewhere.whole(elsewhere.tags["c"]) == elsewhere.blobs == sink.whole(sink.tags["c"])


def test_convert_when_repeated_with_other_span_size_then_indexes_replaced(source, sink, tmp_path):
    put_index(source, two_platforms(), tag="t")
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=options(span_size=10_000))
    fresh = convert(f"oci:{source.path}:t", f"oci:{tmp_path}/fresh:c", options=ALL)
    again = convert(f"oci:{sink.path}:c", f"oci:{tmp_path}/again:c", options=ALL)
    assert again.image == fresh.image
    assert LayoutFiles(tmp_path / "again").blobs == LayoutFiles(tmp_path / "fresh").blobs


# Sources and destinations


def test_convert_when_in_the_same_layout_then_the_source_tag_is_kept(source, files):
    image = golden_image(USTAR)
    put = image.put(source, "t")
    convert(f"oci:{source.path}:t", f"oci:{source.path}:c", options=ALL)
    assert set(files.tags) == {"t", "c"}
    assert files.tags["t"]["digest"] == str(put.digest)
    assert files.blob(files.tags["c"]["digest"]) == converted_single(image, index_of(USTAR))
    assert files.whole(files.tags["t"]) | files.whole(files.tags["c"]) == files.blobs


def test_convert_when_the_destination_is_the_source_then_force_is_needed(source, files):
    image = golden_image(USTAR)
    image.put(source, "t")
    before = files.snapshot()
    for destination in (f"oci:{source.path}:t", f"oci:{source.path}"):
        with pytest.raises(ConflictError, match="the source image"):
            convert(f"oci:{source.path}:t", destination, options=ALL)
    assert files.snapshot() == before
    convert(f"oci:{source.path}:t", f"oci:{source.path}:t", options=ALL, force=True)
    assert set(files.tags) == {"t"}
    assert files.blob(files.tags["t"]["digest"]) == converted_single(image, index_of(USTAR))


def test_convert_when_the_destination_exists_then_force_is_needed(source, sink):
    image = golden_image(USTAR)
    image.put(source, "t")
    other = make_image({"other": b""})
    with OciLayout(sink.path, write=True) as store:
        other.put(store, "c")
        other.put(store, "kept")
    before = sink.snapshot()
    events = []
    with pytest.raises(ConflictError, match="already exists as a different image"):
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL, progress=events.append)
    assert (sink.snapshot(), events) == (before, [])
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL, force=True)
    assert sink.blob(sink.tags["c"]["digest"]) == converted_single(image, index_of(USTAR))
    assert sink.tags["kept"]["digest"] == str(other.descriptor.digest)


@pytest.mark.parametrize("in_place", [True, False])
def test_convert_when_run_again_then_nothing_is_written_and_no_layer_read(source, sink, in_place):
    put_index(source, two_platforms(), tag="t")
    place = LayoutFiles(source.path) if in_place else sink
    command = (f"oci:{source.path}:t", f"oci:{place.path}:c")
    first = convert(*command, options=ALL)
    assert not first.unchanged
    before = place.snapshot()
    events = []
    again = convert(*command, options=ALL, progress=events.append)
    assert (again.unchanged, again.image) == (True, first.image)
    assert place.snapshot() == before
    assert not [event for event in events if isinstance(event, LayerStarted)]


@pytest.mark.parametrize(
    "other",
    [
        IndexingOptions(min_layer_size=0, span_size=1 << 20),
        IndexingOptions(min_layer_size=0, prefetch=("etc/conf",)),
    ],
    ids=["span-size", "prefetch"],
)
def test_convert_when_the_result_would_differ_then_no_layer_is_read(source, sink, other):
    golden_image(USTAR).put(source, "t")
    command = (f"oci:{source.path}:t", f"oci:{sink.path}:c")
    first = convert(*command, options=ALL)
    events = []
    with pytest.raises(ConflictError, match=f"a different image \\({first.image.digest}"):
        convert(*command, options=other, progress=events.append)
    assert not [event for event in events if isinstance(event, LayerStarted)]
    assert sink.tags["c"]["digest"] == str(first.image.digest)


def test_convert_when_no_tag_is_given_then_that_of_the_source_or_latest(source, tmp_path):
    put = golden_image(USTAR).put(source, "t")
    for number, (named, tag) in enumerate(
        [
            (f"oci:{source.path}:t", "t"),
            (f"oci:{source.path}", "latest"),
            (f"oci:{source.path}@{put.digest}", "latest"),
        ]
    ):
        place = tmp_path / str(number)
        result = convert(named, f"oci:{place}", options=ALL)
        assert result.destination == f"oci:{place}:{tag}"
        assert set(LayoutFiles(place).tags) == {tag}


def unpacked(archive, path):
    with tarfile.open(archive) as tar:
        tar.extractall(path, filter="data")
    return LayoutFiles(path)


def test_convert_when_to_an_archive_then_it_holds_the_same_image(source, sink, tmp_path):
    put_index(source, two_platforms(), tag="t")
    archive = tmp_path / "a.tar"
    in_layout = convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    in_archive = convert(f"oci:{source.path}:t", f"oci-archive:{archive}:c", options=ALL)
    assert in_archive.image == in_layout.image
    files = unpacked(archive, tmp_path / "unpacked")
    assert files.whole(files.tags["c"]) == files.blobs == sink.blobs
    # Then back to a layout, and inside the archive.
    again = convert(f"oci-archive:{archive}:c", f"oci:{tmp_path}/again:c", options=ALL)
    assert again.image == in_layout.image
    convert(f"oci-archive:{archive}:c", f"oci-archive:{archive}:d", options=ALL)
    files = unpacked(archive, tmp_path / "more")
    assert files.tags["c"]["digest"] == files.tags["d"]["digest"] == str(in_layout.image.digest)
    assert convert(f"oci:{source.path}:t", f"oci-archive:{archive}:c", options=ALL).unchanged


def saved(path, layers, name="localhost/x:1"):
    """Write an archive as old versions of ``docker save`` do: plain tars and no manifest."""
    config = compact(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    )
    names = [f"{digest_of(layer)[7:]}/layer.tar" for layer in layers]
    config_name = f"{digest_of(config)[7:]}.json"
    listing = [{"Config": config_name, "RepoTags": [name], "Layers": names}]
    members = dict(zip(names, layers, strict=True)) | {config_name: config}
    with tarfile.open(path, "w") as tar:
        for member, data in (members | {"manifest.json": compact_list(listing)}).items():
            file = path.with_name("member")
            file.write_bytes(data)
            tar.add(file, member)
    return config


def compact_list(items):
    return b"[" + b",".join(map(compact, items)) + b"]"


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_convert_when_from_a_docker_archive_then_layers_get_plain_ztocs(tmp_path, kind):
    layers = [goldens.layer(name) for name in ("ustar.tar", "pax.tar")]
    config = saved(tmp_path / "saved.tar", layers)
    place = tmp_path / "sink"
    result = convert(
        f"docker-archive:{tmp_path}/saved.tar:localhost/x:1", f"{kind}:{place}:c", options=ALL
    )
    files = LayoutFiles(place) if kind == "oci" else unpacked(place, tmp_path / "unpacked")
    manifest = compact(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor_of(config, OCI_CONFIG),
            "layers": [descriptor_of(layer, OCI_LAYER) for layer in layers],
        }
    )
    soci = index_of("ustar.tar", "pax.tar", media_type=OCI_LAYER)
    new = rewritten(manifest, soci)
    expected = image_index(entry_of(new, AMD64), soci_entry_of(soci, new, AMD64))
    assert files.blob(files.tags["c"]["digest"]) == expected
    assert files.whole(files.tags["c"]) == files.blobs
    assert result.source == f"docker-archive:{tmp_path}/saved.tar:localhost/x:1"


def test_convert_when_the_destination_is_not_writable_then_unsupported(source, tmp_path):
    golden_image(USTAR).put(source, "t")
    here = f"oci:{source.path}:t"
    with pytest.raises(UnsupportedError, match="cannot be written"):
        convert(here, f"docker-archive:{tmp_path}/x:c")
    with pytest.raises(FileNotFoundError):
        convert(f"oci:{tmp_path}/nope:t", f"oci:{tmp_path}/x:c")
    with pytest.raises(NotFoundError, match=r'image "nope" not found \(found tags: t'):
        convert(f"oci:{source.path}:nope", f"oci:{tmp_path}/x:c")
    assert not (tmp_path / "x").exists()


# Failures


def test_convert_when_nothing_can_be_indexed_then_nothing_is_written(source, files, sink):
    make_image({"a": b"x"}, {"b": b"y"}).put(source, "t")
    before = files.snapshot()
    for destination in (f"oci:{sink.path}:c", f"oci:{source.path}:c"):
        with pytest.raises(UnsupportedError, match="all 2 layers are skipped: size"):
            convert(f"oci:{source.path}:t", destination)
    assert (files.snapshot(), sink.snapshot()) == (before, {})


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_convert_when_a_layer_does_not_match_its_digest_then_not_tagged(
    source, tmp_path, kind, jobs
):
    image = golden_image(USTAR, PAX)
    image.put(source, "t")
    path = source.path / "blobs" / "sha256" / image.layer_descriptors[1].digest.hex
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(VerificationError, match=str(image.layer_descriptors[1].digest)):
        convert(f"oci:{source.path}:t", f"{kind}:{tmp_path}/sink:c", options=options(jobs=jobs))
    assert not (tmp_path / "sink").is_file()
    sink = LayoutFiles(tmp_path / "sink")
    assert sink.tags == {}
    assert sink.entries == []


def test_convert_when_a_small_layer_is_damaged_then_not_copied(source, sink):
    image = golden_image(USTAR)
    small = make_image({"a": b"x"})
    layers = (*image.layer_descriptors, *small.layer_descriptors)
    manifest = replace(Manifest.from_json(image.manifest), layers=layers)
    image.put(source)
    small.put(source)
    source.put_manifest(manifest.to_json(), OCI_MANIFEST, tag="t")
    path = source.path / "blobs" / "sha256" / layers[1].digest.hex
    path.write_bytes(bytes(layers[1].size))
    with pytest.raises(VerificationError, match=str(layers[1].digest)):
        convert(
            f"oci:{source.path}:t",
            f"oci:{sink.path}:c",
            options=IndexingOptions(min_layer_size=1000),
        )
    assert sink.tags == {}


@pytest.mark.parametrize("missing", ["layer", "config", "manifest"])
def test_convert_when_a_blob_is_missing_then_named_and_nothing_is_tagged(source, sink, missing):
    image = golden_image(USTAR, PAX)
    image.put(source, "t")
    digest = {
        "layer": image.layer_descriptors[1].digest,
        "config": Digest.of(image.config),
        "manifest": image.descriptor.digest,
    }[missing]
    (source.path / "blobs" / "sha256" / digest.hex).unlink()
    with pytest.raises(NotFoundError, match=str(digest)):
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.tags == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("kind", [Planned, LayerStarted, LayerAdvanced, LayerFinished])
@pytest.mark.parametrize("jobs", [1, 4])
def test_convert_when_interrupted_then_the_images_are_unchanged(source, sink, jobs, kind, error):
    golden_image(USTAR, PAX, GNU).put(source, "t")
    with OciLayout(sink.path, write=True) as store:
        make_image({"other": b""}).put(store, "c")
    before = sink.snapshot()

    def stop(event):
        if isinstance(event, kind):
            raise error

    with pytest.raises(error):
        convert(
            f"oci:{source.path}:t",
            f"oci:{sink.path}:c",
            options=options(jobs=jobs),
            force=True,
            progress=stop,
        )
    after = sink.snapshot()
    # Complete but unreferenced blobs may remain; the next run reuses them.
    assert {name: data for name, data in after.items() if name in before} == before
    assert all(name.startswith("blobs/sha256/") for name in set(after) - set(before))
    assert all(sink.blob(digest) for digest in sink.blobs)


@pytest.mark.parametrize("there", [False, True])
def test_convert_to_an_archive_when_interrupted_then_the_file_is_unchanged(source, tmp_path, there):
    golden_image(USTAR, PAX, GNU).put(source, "t")
    place = tmp_path / "archives"
    place.mkdir()
    archive = place / "a.tar"
    if there:
        with OciArchive(archive, write=True) as store:
            make_image({"other": b""}).put(store, "other")
    before = {path: path.read_bytes() for path in place.iterdir()}

    def stop(event):
        if isinstance(event, LayerFinished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(f"oci:{source.path}:t", f"oci-archive:{archive}:c", options=ALL, progress=stop)
    assert {path: path.read_bytes() for path in place.iterdir()} == before


def test_convert_when_interrupted_and_repeated_then_the_result_is_complete(source, sink):
    image = golden_image(USTAR, PAX)
    image.put(source, "t")

    def stop(event):
        if isinstance(event, LayerFinished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL, progress=stop)
    convert(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.blob(sink.tags["c"]["digest"]) == converted_single(image, index_of(USTAR, PAX))
    assert sink.whole(sink.tags["c"]) == sink.blobs


def check_disk_is_full(source, kind, place):
    with pytest.raises(OSError, match="the disk is full") as full:
        convert(f"oci:{source.path}:t", f"{kind}:{place}/sink:c", options=ALL)
    assert full.value.errno == errno.ENOSPC
    assert str(place) in str(full.value.filename)
    assert LayoutFiles(place / "sink").entries == []
    assert not (place / "sink").is_file()
    assert not list(place.rglob("*.tmp"))


@pytest.mark.parametrize("room", [0, 100, 40_000])
@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_convert_when_the_disk_fills_up_then_nothing_is_tagged(
    source, tmp_path, kind, room, monkeypatch
):
    golden_image(USTAR, PAX).put(source, "t")
    place = tmp_path / "place"
    place.mkdir()
    fill_up(monkeypatch, room)
    check_disk_is_full(source, kind, place)


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_convert_when_a_real_disk_is_full_then_nothing_is_tagged(source, tmp_path, kind):
    golden_image(USTAR, PAX, "noise.zlib6.tar.gz").put(source, "t")
    with tiny_disk(tmp_path / "disk", size=256 << 10) as disk:
        check_disk_is_full(source, kind, disk)


def test_convert_when_called_from_the_package_then_it_is_the_same_function():
    assert tocsin.convert is convert
