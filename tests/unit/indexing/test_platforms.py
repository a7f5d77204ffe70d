"""A SOCI index for each platform; shared layers are indexed only once."""

import gzip
import json
import tarfile
from dataclasses import replace

import pytest

from support import goldens, tarmaker
from support.images import image_of
from support.layout_files import LayoutFiles, compact, digest_of, soci_index, ztoc_entry
from tocsin.errors import UnsupportedError
from tocsin.images.selection import PlatformImage
from tocsin.indexing.options import IndexingOptions
from tocsin.indexing.platforms import index_platforms
from tocsin.model.descriptor import write_descriptor
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import (
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_LAYER,
    OCI_LAYER_GZIP,
)
from tocsin.model.platform import Platform
from tocsin.stores.layout import OciLayout

USTAR, PAX, GNU = "ustar.zlib6.tar.gz", "pax.zlib6.tar.gz", "gnu.members.tar.gz"
RUNS = "runs.zlib6.tar.gz"
PREFETCH = "application/vnd.amazon.soci.prefetch.v1+json"
SMALL = gzip.compress(tarmaker.tar(tarmaker.entry("small")), mtime=0)


@pytest.fixture
def store(tmp_path):
    return OciLayout(tmp_path / "D", write=True)


def golden(*names, media_type=OCI_LAYER_GZIP):
    return [(goldens.layer(name), media_type) for name in names]


def platform_image(store, layers, platform="linux/amd64", *, docker=False):
    image = image_of(*layers, platform=platform, docker=docker)
    image.put(store)
    parsed = Platform.parse(platform)
    descriptor = replace(image.descriptor, platform=parsed)
    return PlatformImage(parsed, descriptor, Manifest.from_json(image.manifest))


def index(store, images, *, version=2, **options):
    options = {"min_layer_size": 0, **options}
    return index_platforms(
        store,
        store,
        images,
        version=version,
        tag=None,
        options=IndexingOptions(**options),
        carry=False,
        progress=None,
    )


def entries(*names, media_type=OCI_LAYER_GZIP, span_size=4 << 20, **how):
    return [ztoc_entry(goldens.case(name, span_size), media_type, **how) for name in names]


@pytest.mark.parametrize("jobs", [1, 4])
def test_v2_when_made_then_bytes_are_as_specified(store, jobs):
    image = platform_image(store, golden(USTAR, PAX, GNU))
    indexed = index(store, [image], jobs=jobs)
    expected = soci_index(entries(USTAR, PAX, GNU))
    assert indexed.indexes == (expected,)
    (result,) = indexed.results
    assert (result.platform, result.manifest) == (image.platform, image.descriptor)
    assert str(result.soci_index.digest) == digest_of(expected)
    assert result.soci_index.size == len(expected)
    assert [layer.layer for layer in result.layers] == list(image.manifest.layers)
    indexed.store(store)
    files = LayoutFiles(store.path)
    assert files.blob(digest_of(b"{}")) == b"{}"
    assert files.whole(write_descriptor(result.soci_index)) <= files.blobs


@pytest.mark.parametrize("docker", [False, True])
def test_v1_when_made_then_it_names_its_subject(store, docker):
    media_type = DOCKER_LAYER_GZIP if docker else OCI_LAYER_GZIP
    image = platform_image(store, golden(USTAR, media_type=media_type), docker=docker)
    subject = {
        "mediaType": DOCKER_MANIFEST if docker else "application/vnd.oci.image.manifest.v1+json",
        "digest": str(image.descriptor.digest),
        "size": image.descriptor.size,
    }
    expected = soci_index(entries(USTAR, media_type=media_type), subject=subject)
    assert index(store, [image], version=1).indexes == (expected,)


@pytest.mark.parametrize("span_size", [65536, 10000])
def test_index_when_the_span_size_differs_then_recorded(store, span_size):
    image = platform_image(store, golden(USTAR, PAX))
    expected = soci_index(entries(USTAR, PAX, span_size=span_size))
    assert index(store, [image], span_size=span_size).indexes == (expected,)


def test_index_when_a_layer_occurs_twice_then_its_ztoc_is_listed_twice(store):
    image = platform_image(store, golden(USTAR, PAX, USTAR))
    indexed = index(store, [image], jobs=4)
    assert indexed.indexes == (soci_index(entries(USTAR, PAX, USTAR)),)
    assert indexed.results[0].layers[0] == indexed.results[0].layers[2]


def test_index_when_layers_are_skipped_then_they_leave_no_gap(store):
    layers = [*golden(USTAR), (SMALL + b"\0", OCI_LAYER_GZIP), (b"z", "x/y"), *golden(PAX)]
    image = platform_image(store, layers)
    indexed = index(store, [image])
    assert indexed.indexes == (soci_index(entries(USTAR, PAX)),)
    skipped = [layer.skipped is not None for layer in indexed.results[0].layers]
    assert skipped == [False, True, True, False]


def test_index_when_a_layer_is_a_prefetch_artifact_then_skipped_silently(store):
    image = platform_image(store, [(b"{}", PREFETCH), *golden(USTAR)])
    indexed = index(store, [image])
    assert indexed.indexes == (soci_index(entries(USTAR)),)
    assert len(indexed.results[0].layers) == 1


def test_index_when_xattrs_are_optimized_then_only_entries_differ(store):
    # According to tarfile: USTAR has an opaque directory, PAX extended attributes, RUNS neither.
    image = platform_image(store, golden(USTAR, PAX, RUNS))
    marked = entries(USTAR, PAX) + entries(RUNS, disable_xattrs=True)
    indexed = index(store, [image], optimizations=frozenset({"xattr"}))
    assert indexed.indexes == (soci_index(marked),)
    assert index(store, [image]).indexes == (soci_index(entries(USTAR, PAX, RUNS)),)


def test_indexes_when_platforms_share_layers_then_each_layer_is_read_once(tmp_path):
    reads = []

    class Counting(OciLayout):
        def blob(self, descriptor, *, verify=True):
            reads.append(descriptor.digest)
            return super().blob(descriptor, verify=verify)

    store = Counting(tmp_path / "D", write=True)
    images = [
        platform_image(store, golden(USTAR, PAX)),
        platform_image(store, golden(USTAR, GNU), "linux/arm64"),
    ]
    indexed = index(store, images, jobs=4)
    assert len(reads) == 3
    assert indexed.indexes == (
        soci_index(entries(USTAR, PAX)),
        soci_index(entries(USTAR, GNU)),
    )


def test_indexes_when_a_platform_has_nothing_to_index_then_it_has_no_index(store):
    images = [
        platform_image(store, [(SMALL, OCI_LAYER_GZIP)]),
        platform_image(store, golden(USTAR), "linux/arm64"),
        platform_image(store, [], "linux/s390x"),
    ]
    indexed = index(store, images, min_layer_size=1000)
    assert indexed.indexes == (soci_index(entries(USTAR)),)
    assert [result.soci_index is None for result in indexed.results] == [True, False, True]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "image has no layers"),
        ([(SMALL, OCI_LAYER_GZIP)], "the only layer is skipped: size"),
        (
            [(SMALL, "x/y"), (SMALL, OCI_LAYER_GZIP)],
            r"all 2 layers are skipped: not a layer",
        ),
    ],
)
def test_indexes_when_no_layer_can_be_indexed_then_unsupported(store, layers, message):
    image = platform_image(store, layers)
    before = LayoutFiles(store.path).snapshot()
    with pytest.raises(UnsupportedError, match=message):
        index(store, [image], min_layer_size=1 << 30)
    assert LayoutFiles(store.path).snapshot() == before


# Prefetch artifacts: docs/format.md#the-prefetch-artifact


def prefetch_blobs(store, indexed, number=0):
    """Return (layer digest, ranges) of each prefetch artifact of an index on disk."""
    files = LayoutFiles(store.path)
    found = []
    for descriptor in json.loads(indexed.indexes[number])["layers"]:
        if descriptor["mediaType"] == PREFETCH:
            assert list(descriptor) == ["mediaType", "digest", "size", "annotations"]
            data = files.blob(descriptor["digest"])
            document = json.loads(data)
            assert data == compact(document)
            assert document["version"] == "1.0"
            ranges = [(r["start_span"], r["end_span"]) for r in document["prefetch_spans"]]
            ((key, layer),) = descriptor["annotations"].items()
            assert key == "com.amazon.soci.image-layer-digest"
            found.append((layer, ranges))
    return found


def test_prefetch_when_a_file_is_in_two_layers_then_the_upper_one_is_used(store):
    lower = gzip.compress(tarmaker.tar(tarmaker.entry("a", b"1"), tarmaker.entry("b", b"2")))
    upper = gzip.compress(tarmaker.tar(tarmaker.entry("a", b"3"), tarmaker.entry("./c", b"4")))
    image = platform_image(store, [(lower, OCI_LAYER_GZIP), (upper, OCI_LAYER_GZIP)])
    indexed = index(store, [image], prefetch=("/a", " b\n", "", "c", "x/../nope"))
    assert prefetch_blobs(store, indexed) == [
        (digest_of(lower), [(0, 0)]),
        (digest_of(upper), [(0, 0)]),
    ]
    # Prefetch artifacts come after all zTOCs, in layer order.
    types = [d["mediaType"] == PREFETCH for d in json.loads(indexed.indexes[0])["layers"]]
    assert types == [False, False, True, True]
    assert indexed.missing_prefetch == ("nope",)


@pytest.mark.parametrize("identical", [False, True])
def test_prefetch_when_a_tar_spells_names_differently_then_found(store, identical):
    layer = gzip.compress(tarmaker.tar(tarmaker.entry("./usr/x", b"1")))
    image = platform_image(store, [(layer, OCI_LAYER_GZIP)])
    indexed = index(store, [image], prefetch=("/usr/x",), reference_identical=identical)
    assert indexed.missing_prefetch == (("usr/x",) if identical else ())
    assert len(prefetch_blobs(store, indexed)) == (not identical)


def test_prefetch_when_the_path_contains_links_then_the_file_is_found(store):
    """/bin/sh in a usr-merged image: a link to a directory, then one to a file."""
    lower = tarmaker.tar(
        tarmaker.entry("bin", type=tarfile.SYMTYPE, linkname="usr/bin"),
        tarmaker.entry("usr/bin/dash", b"x" * 2000),
        tarmaker.entry("usr/bin/rdash", type=tarfile.LNKTYPE, linkname="./usr/bin/dash"),
        tarmaker.entry("loop", type=tarfile.SYMTYPE, linkname="/loop"),
    )
    upper = tarmaker.tar(
        tarmaker.entry("pad", b"y" * 3000),
        tarmaker.entry("usr/bin/sh", type=tarfile.SYMTYPE, linkname="../bin/./dash"),
    )
    image = platform_image(store, [(lower, OCI_LAYER), (upper, OCI_LAYER)])
    for path in ("/bin/sh", "usr/bin/sh", "bin/dash", "bin/rdash", "/usr/bin/rdash"):
        indexed = index(store, [image], prefetch=(path,), span_size=512)
        assert prefetch_blobs(store, indexed) == [(digest_of(lower), [(2, 5)])]
        assert indexed.missing_prefetch == ()
    indexed = index(store, [image], prefetch=("loop/x", "bin", "pad"), span_size=512)
    assert indexed.missing_prefetch == ("loop/x",)


def test_prefetch_when_a_file_has_several_spans_then_all_are_in_the_range(store):
    plain = tarmaker.tar(
        tarmaker.entry("a", b"x" * 1000), tarmaker.entry("b", b"y" * 5000), tarmaker.entry("c")
    )
    # Headers at 0, 1536 and 7168: a is bytes 512 to 1512, b 2048 to 7048, c nothing at 7680.
    image = platform_image(store, [(plain, OCI_LAYER)])
    for paths, ranges in [
        (["a"], [(0, 1)]),
        (["b"], [(2, 7)]),
        (["c"], [(7, 7)]),
        (["a", "b"], [(0, 7)]),
        (["a", "c"], [(0, 1), (7, 7)]),
        (["b", "b", "c"], [(2, 7)]),
    ]:
        indexed = index(store, [image], prefetch=tuple(paths), span_size=1000)
        assert prefetch_blobs(store, indexed) == [(digest_of(plain), ranges)]
        assert indexed.missing_prefetch == ()


def test_prefetch_when_a_file_ends_with_a_span_then_the_next_is_included(store):
    plain = tarmaker.tar(tarmaker.entry("a", b"x" * 512), tarmaker.entry("b", b"y" * 512))
    image = platform_image(store, [(plain, OCI_LAYER)])
    indexed = index(store, [image], prefetch=("a",), span_size=1024)
    assert prefetch_blobs(store, indexed) == [(digest_of(plain), [(0, 1)])]


def test_prefetch_when_a_layer_occurs_twice_then_it_has_one_artifact(store):
    layer = gzip.compress(tarmaker.tar(tarmaker.entry("a", b"1")))
    image = platform_image(store, [(layer, OCI_LAYER_GZIP)] * 2)
    indexed = index(store, [image], prefetch=("a",))
    assert prefetch_blobs(store, indexed) == [(digest_of(layer), [(0, 0)])]


def test_prefetch_when_a_name_is_repeated_in_a_layer_then_first_is_used(store):
    plain = tarmaker.tar(tarmaker.entry("a", b"x" * 512), tarmaker.entry("a", b"y" * 512))
    image = platform_image(store, [(plain, OCI_LAYER)])
    indexed = index(store, [image], prefetch=("a",), span_size=512)
    assert prefetch_blobs(store, indexed) == [(digest_of(plain), [(1, 2)])]


def test_prefetch_when_a_layer_is_skipped_then_it_is_not_searched(store):
    small = gzip.compress(tarmaker.tar(tarmaker.entry("a", b"1")))
    image = platform_image(store, [*golden(USTAR), (small, OCI_LAYER_GZIP)])
    indexed = index(store, [image], prefetch=("a",), min_layer_size=1000)
    assert prefetch_blobs(store, indexed) == []
    assert indexed.missing_prefetch == ("a",)


def test_prefetch_when_platforms_differ_then_missing_only_if_in_no_image(store):
    layers = [gzip.compress(tarmaker.tar(tarmaker.entry(name, b"1"))) for name in ("a", "b")]
    images = [
        platform_image(store, [(layers[0], OCI_LAYER_GZIP)]),
        platform_image(store, [(layers[1], OCI_LAYER_GZIP)], "linux/arm64"),
    ]
    indexed = index(store, images, prefetch=("a", "b", "c"))
    assert [prefetch_blobs(store, indexed, number) for number in (0, 1)] == [
        [(digest_of(layers[0]), [(0, 0)])],
        [(digest_of(layers[1]), [(0, 0)])],
    ]
    assert indexed.missing_prefetch == ("c",)
