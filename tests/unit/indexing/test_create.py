"""``create`` between stores: version 1 SOCI indexes, found by their subject."""

import json
import tarfile
from dataclasses import replace

import pytest

import tocsin
from support import goldens
from support.images import image_of, make_image, put_index
from support.layout_files import LayoutFiles, descriptor_of, digest_of, soci_index, ztoc_entry
from tocsin import (
    ConflictError,
    ConvertResult,
    CreateResult,
    IndexingOptions,
    NotFoundError,
    UnsupportedError,
    VerificationError,
    convert,
    create,
)
from tocsin.model.events import LayerAdvanced, LayerFinished, LayerStarted, Planned
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import (
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from tocsin.model.platform import Platform
from tocsin.stores.layout import OciLayout

USTAR, PAX, GNU = "ustar.zlib6.tar.gz", "pax.zlib6.tar.gz", "gnu.members.tar.gz"
SOCI_INDEX_V1 = "application/vnd.amazon.soci.index.v1+json"
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


def index_of(image, *names, docker=False):
    """Return the v1 SOCI index of an image with these golden layers."""
    media_type = DOCKER_LAYER_GZIP if docker else OCI_LAYER_GZIP
    subject = descriptor_of(image.manifest, DOCKER_MANIFEST if docker else OCI_MANIFEST)
    return soci_index([ztoc_entry(goldens.case(n), media_type) for n in names], subject=subject)


def options(*platforms, **others):
    parsed = tuple(map(Platform.parse, platforms)) or None
    return IndexingOptions(min_layer_size=0, platforms=parsed, **others)


def two_platforms():
    return {
        "linux/amd64": golden_image(USTAR, PAX),
        "linux/arm64": golden_image(USTAR, GNU, platform="linux/arm64"),
    }


def check_referrer(files, image, soci):
    """Check that an index is complete, and the only one that refers to its subject."""
    digest = digest_of(soci)
    assert files.blob(digest) == soci
    assert files.referrers(digest_of(image.manifest)) == [json.loads(soci)]
    (entry,) = (entry for entry in files.entries if entry["digest"] == digest)
    assert entry["mediaType"] == OCI_MANIFEST
    assert entry["artifactType"] == SOCI_INDEX_V1
    assert entry["size"] == len(soci)
    assert files.whole(entry) <= files.blobs


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("docker", [False, True])
def test_create_when_in_place_then_the_image_is_unchanged(source, files, jobs, docker):
    image = golden_image(USTAR, PAX, GNU, docker=docker)
    image.put(source, "t")
    before, entry = files.blobs, files.tags["t"]
    result = create(f"oci:{source.path}:t", options=options(jobs=jobs))
    soci = index_of(image, USTAR, PAX, GNU, docker=docker)
    check_referrer(files, image, soci)
    assert files.tags == {"t": entry}
    ztocs = {goldens.case(name)["ztoc_digest"] for name in (USTAR, PAX, GNU)}
    assert files.blobs == before | ztocs | {digest_of(soci), digest_of(b"{}")}
    assert isinstance(result, CreateResult)
    assert not isinstance(result, ConvertResult)
    assert result.source == result.destination == f"oci:{source.path}:t"
    (platform,) = result.platforms
    assert str(platform.soci_index.digest) == digest_of(soci)
    assert (str(platform.platform), platform.manifest.digest) == (
        "linux/amd64",
        image.descriptor.digest,
    )
    assert (result.missing_prefetch, result.seconds >= 0) == ((), True)


def test_create_when_several_platforms_then_each_has_its_own_index(source, files):
    images = two_platforms()
    put_index(source, images, tag="t")
    result = create(f"oci:{source.path}:t", options=ALL)
    amd64, arm64 = images.values()
    check_referrer(files, amd64, index_of(amd64, USTAR, PAX))
    check_referrer(files, arm64, index_of(arm64, USTAR, GNU))
    assert [str(platform.platform) for platform in result.platforms] == list(images)


def test_create_when_one_platform_is_given_then_only_it_is_indexed(source, files):
    images = two_platforms()
    put_index(source, images, tag="t")
    create(f"oci:{source.path}:t", options=options("linux/arm64"))
    amd64, arm64 = images.values()
    check_referrer(files, arm64, index_of(arm64, USTAR, GNU))
    assert files.referrers(digest_of(amd64.manifest)) == []
    with pytest.raises(NotFoundError, match="available: linux/amd64, linux/arm64"):
        create(f"oci:{source.path}:t", options=options("windows/amd64"))


def test_create_when_an_index_is_nested_then_all_its_images_are_indexed(source, files):
    images = two_platforms()
    amd64, arm64 = images.values()
    inner = put_index(source, {"linux/arm64": arm64})
    put_index(source, {"linux/amd64": amd64}, tag="t", more=(inner,))
    create(f"oci:{source.path}:t", options=ALL)
    check_referrer(files, amd64, index_of(amd64, USTAR, PAX))
    check_referrer(files, arm64, index_of(arm64, USTAR, GNU))


@pytest.mark.parametrize("where", ["in place", "elsewhere"])
def test_create_when_run_twice_then_nothing_changes(source, files, sink, where):
    put_index(source, two_platforms(), tag="t")
    destination = None if where == "in place" else f"oci:{sink.path}:c"
    written = files if where == "in place" else sink
    create(f"oci:{source.path}:t", destination, options=ALL)
    before = written.snapshot()
    create(f"oci:{source.path}:t", destination, options=ALL, force=True)
    assert written.snapshot() == before


def test_create_when_elsewhere_then_the_image_is_copied_with_its_indexes(source, files, sink):
    images = two_platforms()
    odd = replace(source.put_blob(b"odd"), media_type="application/x-odd")
    put = put_index(source, images, tag="t", more=(odd,))
    before = files.snapshot()
    result = create(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert files.snapshot() == before
    assert sink.tags["c"]["digest"] == str(put.digest)
    assert set(sink.tags) == {"c"}
    amd64, arm64 = images.values()
    check_referrer(sink, amd64, index_of(amd64, USTAR, PAX))
    check_referrer(sink, arm64, index_of(arm64, USTAR, GNU))
    assert files.blobs <= sink.blobs
    assert (result.source, result.destination) == (
        f"oci:{source.path}:t",
        f"oci:{sink.path}:c",
    )


def test_create_when_copied_and_wrapped_then_the_inner_index_is_copied(source, sink):
    inner = put_index(source, two_platforms())
    source.put_manifest(ImageIndex((inner,)).to_json(), OCI_INDEX, tag="t")
    create(f"oci:{source.path}:t", f"oci:{sink.path}", options=ALL)
    assert sink.tags["t"]["digest"] == str(inner.digest)


def test_create_when_the_destination_exists_then_force_is_needed(source, sink):
    image = golden_image(USTAR)
    image.put(source, "t")
    with OciLayout(sink.path, write=True) as store:
        make_image({"other": b""}).put(store, "c")
    before = sink.snapshot()
    with pytest.raises(ConflictError, match="already exists as a different image"):
        create(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL)
    assert sink.snapshot() == before
    create(f"oci:{source.path}:t", f"oci:{sink.path}:c", options=ALL, force=True)
    assert sink.tags["c"]["digest"] == str(image.descriptor.digest)
    check_referrer(sink, image, index_of(image, USTAR))


def test_create_when_given_another_tag_of_the_layout_then_image_is_tagged(source, files):
    image = golden_image(USTAR)
    image.put(source, "t")
    make_image({"other": b""}).put(source, "taken")
    result = create(f"oci:{source.path}:t", f"oci:{source.path}:u", options=ALL)
    assert result.destination == f"oci:{source.path}:u"
    assert files.tags["u"]["digest"] == files.tags["t"]["digest"] == digest_of(image.manifest)
    check_referrer(files, image, index_of(image, USTAR))
    before = files.snapshot()
    with pytest.raises(ConflictError, match="already exists as a different image"):
        create(f"oci:{source.path}:t", f"oci:{source.path}:taken", options=ALL)
    assert files.snapshot() == before
    create(f"oci:{source.path}:t", f"oci:{source.path}:taken", options=ALL, force=True)
    assert files.tags["taken"]["digest"] == digest_of(image.manifest)


def test_create_when_the_destination_is_the_source_then_it_is_in_place(source, files):
    image = golden_image(USTAR)
    image.put(source, "t")
    result = create(f"oci:{source.path}:t", f"oci:{source.path}:t", options=ALL)
    assert result.destination == f"oci:{source.path}:t"
    assert set(files.tags) == {"t"}
    check_referrer(files, image, index_of(image, USTAR))


def unpacked(archive, path):
    with tarfile.open(archive) as tar:
        tar.extractall(path, filter="data")
    return LayoutFiles(path)


def test_create_when_in_an_archive_then_the_index_is_in_it(source, tmp_path):
    image = golden_image(USTAR, PAX)
    image.put(source, "t")
    archive = tmp_path / "a.tar"
    create(f"oci:{source.path}:t", f"oci-archive:{archive}:c", options=ALL)
    files = unpacked(archive, tmp_path / "first")
    check_referrer(files, image, index_of(image, USTAR, PAX))
    # Indexing in place with another span size adds a second index.
    create(f"oci-archive:{archive}:c", options=options(span_size=10_000))
    files = unpacked(archive, tmp_path / "second")
    ours = files.referrers(digest_of(image.manifest))
    sizes = {
        layer["annotations"]["com.amazon.soci.span-size"] for d in ours for layer in d["layers"]
    }
    assert (len(ours), sizes) == (2, {"4194304", "10000"})
    assert set(files.tags) == {"c"}


def test_create_when_from_a_docker_archive_then_a_destination_is_needed(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be written") as caught:
        create(f"docker-archive:{tmp_path}/x.tar", options=ALL)
    assert caught.value.hint.startswith("Name a destination")


def test_create_when_the_image_was_converted_then_manifests_are_subjects(source, files):
    image = golden_image(USTAR)
    image.put(source, "t")
    convert(f"oci:{source.path}:t", f"oci:{source.path}:c", options=ALL)
    create(f"oci:{source.path}:c", options=ALL)
    (entry, _) = files.image("c")["manifests"]
    (referrer,) = files.referrers(entry["digest"])
    assert referrer["config"]["mediaType"] == SOCI_INDEX_V1
    assert files.referrers(digest_of(image.manifest)) == []


# Failures


def test_create_when_nothing_can_be_indexed_then_nothing_is_written(source, files, sink):
    make_image({"a": b"x"}).put(source, "t")
    before = files.snapshot()
    for destination in (None, f"oci:{sink.path}:c"):
        with pytest.raises(UnsupportedError, match="the only layer is skipped: size"):
            create(f"oci:{source.path}:t", destination)
    assert (files.snapshot(), sink.snapshot()) == (before, {})


@pytest.mark.parametrize("where", ["in place", "elsewhere"])
def test_create_when_a_layer_is_damaged_then_no_index_is_added(source, files, sink, where):
    image = golden_image(USTAR, PAX)
    image.put(source, "t")
    path = source.path / "blobs" / "sha256" / image.layer_descriptors[0].digest.hex
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    listed = files.entries
    destination = None if where == "in place" else f"oci:{sink.path}:c"
    with pytest.raises(VerificationError, match=str(image.layer_descriptors[0].digest)):
        create(f"oci:{source.path}:t", destination, options=ALL)
    assert (files.entries, sink.entries) == (listed, [])


@pytest.mark.parametrize("kind", [Planned, LayerStarted, LayerAdvanced, LayerFinished])
def test_create_when_interrupted_then_the_images_are_unchanged(source, files, kind):
    golden_image(USTAR, PAX).put(source, "t")
    before = files.snapshot()

    def stop(event):
        if isinstance(event, kind):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create(f"oci:{source.path}:t", options=ALL, progress=stop)
    after = files.snapshot()
    assert {name: data for name, data in after.items() if name in before} == before
    assert all(name.startswith("blobs/sha256/") for name in set(after) - set(before))
    create(f"oci:{source.path}:t", options=ALL)
    assert len(files.entries) == 2


def test_create_when_called_from_the_package_then_it_is_the_same_function():
    assert tocsin.create is create
