"""Images of umoci, skopeo and buildah: indexed, read with zTOCs, and copied by skopeo."""

import hashlib
import json
import os
from random import Random

import pytest

from support.layout_files import LayoutFiles
from support.tools import tool
from tocsin import IndexingOptions, UnsupportedError, Ztoc, convert, create

pytestmark = pytest.mark.interop

OPTIONS = IndexingOptions(min_layer_size=0, span_size=50_000)
SOCI_INDEX_V2 = "application/vnd.amazon.soci.index.v2+json"
INDEX_DIGEST = "com.amazon.soci.index-digest"
LAYER_DIGEST = "com.amazon.soci.image-layer-digest"


@pytest.fixture
def skopeo():
    return tool("skopeo", "--insecure-policy")


@pytest.fixture
def umoci():
    return tool("umoci")


@pytest.fixture
def buildah(tmp_path):
    run = tool("buildah", "--root", str(tmp_path / "storage"), "--runroot", str(tmp_path / "run"))
    return lambda *args: run("--storage-driver", "vfs", *args)


@pytest.fixture
def tree(tmp_path):
    """Files of many kinds."""
    top = tmp_path / "tree"
    (top / "deep" / "er").mkdir(parents=True)
    random = Random(1)  # noqa: S311 (test data)
    words = [random.randbytes(random.randrange(3, 9)).hex() for _ in range(300)]
    (top / "text").write_text(" ".join(random.choices(words, k=60_000)))
    (top / "deep" / "noise").write_bytes(random.randbytes(300_000))
    (top / "deep" / "er" / "zeros").write_bytes(bytes(1_000_000))
    (top / "empty").touch()
    (top / ("long" * 40)).write_text("a long name")
    (top / "caf\u00e9 \u2603").write_text("snow")
    (top / "tool").write_text("#!/bin/sh\n")
    (top / "tool").chmod(0o4755)
    (top / "link").symlink_to("text")
    os.link(top / "text", top / "same")
    for number in range(200):
        (top / "deep" / f"{number}").write_text(str(number) * number)
    return top


@pytest.fixture
def umoci_image(umoci, tree, tmp_path):
    """A layout with the tag ``t``: the tree under ``/one``, a part of it under ``/two``."""
    layout = tmp_path / "umoci"
    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:t")
    umoci("insert", "--image", f"{layout}:t", tree, "/one")
    umoci("insert", "--image", f"{layout}:t", tree / "deep", "/two")
    return layout


@pytest.fixture
def layout(tmp_path):
    return LayoutFiles(tmp_path / "converted")


def blob_path(layout, digest):
    return layout.path / "blobs" / digest.replace(":", "/")


def images_of(layout, tag):
    """Return (manifest, SOCI index) for each image of a converted one."""
    index = layout.image(tag)
    found = []
    for entry in index["manifests"]:
        manifest = layout.document(entry["digest"])
        soci = manifest.get("annotations", {}).get(INDEX_DIGEST)
        if soci is not None:
            found.append((manifest, layout.document(soci)))
    return found


def names(ztoc):
    return {path.rstrip("/") for path in ztoc.paths}


def check_files(layout, manifest, soci, tree, prefix):
    """Read every file of `tree` with the zTOCs and compare it with the original."""
    ztocs = {
        entry["annotations"][LAYER_DIGEST]: Ztoc.from_bytes(layout.blob(entry["digest"]))
        for entry in soci["layers"]
    }
    assert list(ztocs) == [layer["digest"] for layer in manifest["layers"]]
    seen = 0
    for path in sorted(tree.rglob("*")):
        name = f"{prefix}/{path.relative_to(tree)}"
        digest, ztoc = next(found for found in ztocs.items() if name in names(found[1]))
        entry = ztoc.entry(name)
        seen += 1
        status = path.lstat()
        if path.is_symlink():
            assert (entry.type, entry.linkname) == ("symlink", str(path.readlink()))
        elif path.is_dir():
            assert entry.type == "dir"
        else:
            assert entry.mode & 0o7777 == status.st_mode & 0o7777
            layer = blob_path(layout, digest)
            assert ztoc.cat(name, layer) == path.read_bytes(), name
    assert seen > 200


AS_THEY_ARE = "--dest-oci-accept-uncompressed-layers"
"""Without this option, skopeo compresses plain layers, which then do not match the zTOCs."""


def check_copy(skopeo, layout, tmp_path):
    """Let skopeo copy the converted image; the copy is identical.

    But for one field: skopeo 1.9 (Debian 12) knows no ``artifactType`` and writes the image index
    again without it.
    """
    copy = LayoutFiles(tmp_path / "copy")
    skopeo("copy", "--all", AS_THEY_ARE, f"oci:{layout.path}:c", f"oci:{copy.path}:c")
    ours, theirs = layout.tags["c"], copy.tags["c"]
    assert copy.whole(theirs) == copy.blobs
    assert layout.whole(ours) - {ours["digest"]} == copy.whole(theirs) - {theirs["digest"]}
    if ours["digest"] != theirs["digest"]:
        index = layout.image("c")
        dropped = [entry.pop("artifactType", None) for entry in index["manifests"]]
        assert SOCI_INDEX_V2 in dropped
        assert copy.image("c") == index


def check_image(skopeo, source, layout, tmp_path, *trees, platforms=1):
    """Convert an image and check the result."""
    result = convert(source, f"oci:{layout.path}:c", options=OPTIONS)
    assert all(layer.skipped is None for p in result.platforms for layer in p.layers)
    assert layout.whole(layout.tags["c"]) == layout.blobs
    images = images_of(layout, "c")
    assert len(images) == platforms
    for tree, prefix in trees:
        for manifest, soci in images:
            check_files(layout, manifest, soci, tree, prefix)
    check_copy(skopeo, layout, tmp_path)
    # Converting the copy gives the original again.
    again = convert(f"oci:{tmp_path}/copy:c", f"oci:{tmp_path}/again:c", options=OPTIONS)
    assert again.image == result.image
    return images


# umoci


def test_image_of_umoci_when_converted_then_files_and_copy_are_the_same(
    umoci_image, skopeo, layout, tree, tmp_path
):
    source = f"oci:{umoci_image}:t"
    trees = [(tree, "one"), (tree / "deep", "two")]
    ((manifest, soci),) = check_image(skopeo, source, layout, tmp_path, *trees)
    assert [layer["mediaType"][-5:] for layer in manifest["layers"]] == ["+gzip"] * 2
    spans = [Ztoc.from_bytes(layout.blob(entry["digest"])).span_count for entry in soci["layers"]]
    assert all(count > 1 for count in spans)


def test_umoci_image_when_indexed_in_place_then_umoci_and_skopeo_read_it(
    umoci_image, umoci, skopeo, tree, tmp_path
):
    result = create(f"oci:{umoci_image}:t", options=OPTIONS)
    files = LayoutFiles(umoci_image)
    (soci,) = files.referrers(files.tags["t"]["digest"])
    assert soci["subject"]["digest"] == str(result.platforms[0].manifest.digest)
    check_files(files, files.image("t"), soci, tree, "one")
    umoci("unpack", "--rootless", "--image", f"{umoci_image}:t", tmp_path / "bundle")
    unpacked = tmp_path / "bundle" / "rootfs" / "one"
    assert (unpacked / "text").read_bytes() == (tree / "text").read_bytes()
    skopeo("copy", f"oci:{umoci_image}:t", f"oci:{tmp_path}/copy:t")
    umoci("gc", "--layout", umoci_image)
    assert files.referrers(files.tags["t"]["digest"]) == [soci]


def test_converted_image_when_one_platform_is_copied_then_umoci_unpacks_it(
    umoci_image, skopeo, layout, tree, tmp_path
):
    convert(f"oci:{umoci_image}:t", f"oci:{layout.path}:c", options=OPTIONS)
    # umoci 0.4 does not support image indexes; skopeo selects this machine's image.
    skopeo("copy", f"oci:{layout.path}:c", f"oci:{tmp_path}/one:c")
    tool("umoci")("unpack", "--rootless", "--image", f"{tmp_path}/one:c", tmp_path / "bundle")
    for path in tree.rglob("*"):
        there = tmp_path / "bundle" / "rootfs" / "one" / path.relative_to(tree)
        if path.is_file():
            assert there.read_bytes() == path.read_bytes()
    (manifest, _), *_ = images_of(layout, "c")
    one = LayoutFiles(tmp_path / "one")
    assert one.image("c") == manifest


# skopeo


@pytest.mark.parametrize("place", ["oci", "oci-archive", "docker-archive"])
def test_image_of_skopeo_when_converted_then_files_and_copy_are_the_same(
    umoci_image, skopeo, layout, tmp_path, place
):
    source = f"{place}:{tmp_path}/from-skopeo:localhost/x:1"
    skopeo("copy", f"oci:{umoci_image}:t", source)
    trees = [(tmp_path / "tree", "one"), (tmp_path / "tree" / "deep", "two")]
    ((manifest, soci),) = check_image(skopeo, source, layout, tmp_path, *trees)
    suffix = ".tar" if place == "docker-archive" else "+gzip"
    assert all(layer["mediaType"].endswith(suffix) for layer in manifest["layers"])
    assert len(soci["layers"]) == 2


def test_skopeo_docker_manifest_when_converted_then_layer_types_stay(
    umoci_image, skopeo, layout, tree, tmp_path
):
    # skopeo writes Docker manifests only to its ``dir:`` format; put one into a layout.
    skopeo("copy", "--format", "v2s2", f"oci:{umoci_image}:t", f"dir:{tmp_path}/dir")
    source = LayoutFiles(tmp_path / "docker")
    blobs = source.path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for path in (tmp_path / "dir").iterdir():
        if path.name not in ("manifest.json", "version"):
            (blobs / path.name).write_bytes(path.read_bytes())
    data = (tmp_path / "dir" / "manifest.json").read_bytes()
    hexes = hashlib.sha256(data).hexdigest()
    (blobs / hexes).write_bytes(data)
    entry = {
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "digest": f"sha256:{hexes}",
        "size": len(data),
        "annotations": {"org.opencontainers.image.ref.name": "t"},
    }
    (source.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (source.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    result = convert(f"oci:{source.path}:t", f"oci:{layout.path}:c", options=OPTIONS)
    assert str(result.platforms[0].manifest.digest) == entry["digest"]
    ((manifest, soci),) = images_of(layout, "c")
    check_files(layout, manifest, soci, tree, "one")
    assert {layer["mediaType"] for layer in manifest["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }


def test_image_of_skopeo_when_its_layers_are_zstd_then_they_are_skipped(
    buildah, tree, skopeo, layout, tmp_path
):
    container = buildah("from", "scratch")
    buildah("copy", container, tree, "/one")
    buildah("commit", container, f"oci:{tmp_path}/plain:t")
    zstd = LayoutFiles(tmp_path / "zstd")
    how = ("--dest-compress", "--dest-compress-format", "zstd")
    skopeo("copy", *how, f"oci:{tmp_path}/plain:t", f"oci:{zstd.path}:t")
    if not all(found["mediaType"].endswith("+zstd") for found in zstd.image("t")["layers"]):
        pytest.skip("this skopeo does not write zstd into a layout")
    with pytest.raises(UnsupportedError, match=r"the only layer is skipped: .*zstd"):
        convert(f"oci:{zstd.path}:t", f"oci:{layout.path}:c", options=OPTIONS)
    assert layout.snapshot() == {}


# buildah


def test_image_of_buildah_when_converted_then_its_plain_layers_are_indexed(
    buildah, skopeo, layout, tree, tmp_path
):
    container = buildah("from", "scratch")
    buildah("copy", container, tree, "/one")
    buildah("commit", container, f"oci:{tmp_path}/plain:t")
    source = f"oci:{tmp_path}/plain:t"
    ((manifest, soci),) = check_image(skopeo, source, layout, tmp_path, (tree, "one"))
    assert {layer["mediaType"] for layer in manifest["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar"
    }
    ztoc = Ztoc.from_bytes(layout.blob(soci["layers"][0]["digest"]))
    assert ztoc.compression_algorithm == "uncompressed"


def test_plain_layers_when_skopeo_compressed_them_then_converted_again(
    buildah, skopeo, layout, tree, tmp_path
):
    container = buildah("from", "scratch")
    buildah("copy", container, tree, "/one")
    buildah("commit", container, f"oci:{tmp_path}/plain:t")
    convert(f"oci:{tmp_path}/plain:t", f"oci:{layout.path}:c", options=OPTIONS)
    skopeo("copy", "--all", f"oci:{layout.path}:c", f"oci:{tmp_path}/copy:c")
    ((manifest, soci),) = images_of(LayoutFiles(tmp_path / "copy"), "c")
    zipped, indexed = manifest["layers"][0], soci["layers"][0]["annotations"]
    assert zipped["mediaType"].endswith("+gzip")
    assert zipped["digest"] != indexed[LAYER_DIGEST]
    healed = LayoutFiles(tmp_path / "healed")
    convert(f"oci:{tmp_path}/copy:c", f"oci:{healed.path}:c", options=OPTIONS)
    ((manifest, soci),) = images_of(healed, "c")
    check_files(healed, manifest, soci, tree, "one")
    assert healed.whole(healed.tags["c"]) == healed.blobs
    assert len(healed.image("c")["manifests"]) == 2


def test_docker_archive_of_buildah_when_converted_then_it_is_read(
    buildah, skopeo, layout, tree, tmp_path
):
    container = buildah("from", "scratch")
    buildah("copy", container, tree, "/one")
    place = f"docker-archive:{tmp_path}/saved.tar:localhost/x:1"
    buildah("commit", "--format", "docker", container, place)
    check_image(skopeo, place, layout, tmp_path, (tree, "one"))


def test_images_of_buildah_when_for_two_platforms_then_each_has_its_index(
    buildah, skopeo, layout, tree, tmp_path
):
    buildah("manifest", "create", "both")
    for architecture in ("amd64", "arm64"):
        container = buildah("from", "--arch", architecture, "scratch")
        buildah("config", "--arch", architecture, container)
        (tree / "architecture").write_text(architecture)
        buildah("copy", container, tree, "/one")
        name = f"localhost/{architecture}:1"
        buildah("commit", "--manifest", "both", container, name)
    (tree / "architecture").unlink()
    buildah("manifest", "push", "--all", "both", f"oci:{tmp_path}/both:t")
    source = f"oci:{tmp_path}/both:t"
    images = check_image(skopeo, source, layout, tmp_path, (tree, "one"), platforms=2)
    for (manifest, soci), architecture in zip(images, ("amd64", "arm64"), strict=True):
        (entry,) = soci["layers"]
        ztoc = Ztoc.from_bytes(layout.blob(entry["digest"]))
        layer = blob_path(layout, manifest["layers"][0]["digest"])
        assert ztoc.cat("one/architecture", layer) == architecture.encode()
    platforms = [
        (entry["platform"]["architecture"], "artifactType" in entry)
        for entry in layout.image("c")["manifests"]
    ]
    assert platforms == [("amd64", False), ("arm64", False), ("amd64", True), ("arm64", True)]


# Our archives


def test_our_archive_when_skopeo_copies_it_then_same_image(umoci_image, skopeo, layout, tmp_path):
    convert(f"oci:{umoci_image}:t", f"oci:{layout.path}:c", options=OPTIONS)
    archive = f"oci-archive:{tmp_path}/ours.tar:c"
    convert(f"oci:{umoci_image}:t", archive, options=OPTIONS)
    copy = LayoutFiles(tmp_path / "copy")
    skopeo("copy", "--all", archive, f"oci:{copy.path}:c")
    without_index = layout.blobs - {layout.tags["c"]["digest"]}
    assert copy.blobs - {copy.tags["c"]["digest"]} == without_index
