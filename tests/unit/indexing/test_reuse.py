"""zTOCs that already exist at the destination: reused if they fit, otherwise rebuilt."""

import gzip
import json

import pytest

from support import goldens, tarmaker
from support.images import image_of
from support.layout_files import LayoutFiles, compact, descriptor_of
from tocsin import IndexingOptions, NotFoundError, VerificationError, convert, create
from tocsin.indexing.reuse import find_ztocs
from tocsin.model.descriptor import Descriptor
from tocsin.model.events import LayerFinished, LayerStarted, Planned
from tocsin.model.media_types import OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.stores.layout import OciLayout

USTAR, PAX, RUNS = "ustar.zlib6.tar.gz", "pax.zlib6.tar.gz", "runs.zlib6.tar.gz"
ALL = IndexingOptions(min_layer_size=0)
LAYER = Descriptor.of(b"layer", OCI_LAYER_GZIP)


@pytest.fixture
def source(tmp_path):
    with OciLayout(tmp_path / "source", write=True) as store:
        image_of(*((goldens.layer(name), OCI_LAYER_GZIP) for name in (USTAR, PAX))).put(store, "t")
    return LayoutFiles(tmp_path / "source")


@pytest.fixture
def sink(tmp_path):
    return LayoutFiles(tmp_path / "sink")


COMMANDS = {
    "create in place": lambda source, sink, **how: create(f"oci:{source.path}:t", **how),
    "create": lambda source, sink, **how: create(
        f"oci:{source.path}:t", f"oci:{sink.path}:c", force=True, **how
    ),
    "convert in place": lambda source, sink, **how: convert(
        f"oci:{source.path}:t", f"oci:{source.path}:c", force=True, **how
    ),
    "convert": lambda source, sink, **how: convert(
        f"oci:{source.path}:t", f"oci:{sink.path}:c", force=True, **how
    ),
}


def reused(result):
    return [layer.reused for platform in result.platforms for layer in platform.layers]


def facts(result):
    """Return the parts of a result that do not depend on time or reuse."""
    return [
        (platform.soci_index, [(layer.ztoc, layer.entry_count, layer.span_count, layer.skipped)])
        for platform in result.platforms
        for layer in platform.layers
    ]


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("command", COMMANDS)
def test_layers_when_indexed_again_then_not_read_and_same_result(source, sink, command, jobs):
    run, events = COMMANDS[command], []
    first = run(source, sink, options=ALL)
    before = source.snapshot(), sink.snapshot()
    options = IndexingOptions(min_layer_size=0, jobs=jobs)
    second = run(source, sink, options=options, progress=events.append)
    assert (reused(first), reused(second)) == ([False] * 2, [True] * 2)
    assert facts(second) == facts(first)
    assert (source.snapshot(), sink.snapshot()) == before
    assert {type(event) for event in events} == {Planned, LayerFinished}
    assert len(events) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_layers_when_the_span_size_differs_then_read_again(source, sink, command):
    COMMANDS[command](source, sink, options=ALL)
    other = IndexingOptions(min_layer_size=0, span_size=10_000)
    result = COMMANDS[command](source, sink, options=other)
    assert reused(result) == [False] * 2
    for name, layer in zip((USTAR, PAX), result.platforms[0].layers, strict=True):
        assert str(layer.ztoc.digest) == goldens.case(name, 10_000)["ztoc_digest"]


@pytest.mark.parametrize(
    "options", [{"rebuild": True}, {"reference_identical": True}], ids=lambda o: next(iter(o))
)
def test_layers_when_rebuild_is_set_then_they_are_read(source, sink, options):
    run = COMMANDS["convert"]
    first = run(source, sink, options=ALL)
    again = run(source, sink, options=IndexingOptions(min_layer_size=0, **options))
    assert reused(again) == [False] * 2
    assert facts(again) == facts(first)


def test_layers_when_shared_with_another_image_then_only_these_are_reused(source, sink):
    run = COMMANDS["convert"]
    run(source, sink, options=ALL)
    with OciLayout(source.path, write=True) as store:
        layers = ((goldens.layer(name), OCI_LAYER_GZIP) for name in (USTAR, RUNS))
        image_of(*layers).put(store, "t")
    assert reused(run(source, sink, options=ALL)) == [True, False]


def test_layers_when_options_differ_then_only_entries_differ(source, sink):
    run = COMMANDS["convert"]
    with OciLayout(source.path, write=True) as store:
        image_of((goldens.layer(RUNS), OCI_LAYER_GZIP)).put(store, "t")
    run(source, sink, options=ALL)
    optimised = IndexingOptions(
        min_layer_size=0, optimizations=frozenset({"xattr"}), prefetch=("runs/zeros",)
    )
    again = run(source, sink, options=optimised)
    (layer,) = again.platforms[0].layers
    assert layer.reused
    assert layer.ztoc.annotations["com.amazon.soci.disable-xattrs"] == "true"
    anew = convert(f"oci:{source.path}:t", f"oci:{sink.path}:anew", options=optimised)
    assert anew.image == again.image


def test_layer_when_reused_then_the_reported_sizes_are_the_same(source, sink):
    # The gzip stream continues for 8 KiB after the end of the tar.
    plain = tarmaker.tar(tarmaker.entry("a", b"x" * 5000)) + bytes(8192)
    with OciLayout(source.path, write=True) as store:
        image_of((gzip.compress(plain, mtime=0), OCI_LAYER_GZIP)).put(store, "t")
    first, again = (COMMANDS["convert"](source, sink, options=ALL) for _ in range(2))
    assert reused(again) == [True]
    assert first.platforms[0].layers[0].uncompressed_size == len(plain)
    # A zTOC has only the size of the tar.
    assert again.platforms[0].layers[0].uncompressed_size == len(plain) - 8192


def spoil(sink, digest, data):
    (sink.path / "blobs" / digest.replace(":", "/")).write_bytes(data)


@pytest.mark.parametrize("damage", ["missing", "short", "garbage"])
@pytest.mark.parametrize("what", ["ztoc", "soci index"])
def test_ztoc_when_the_existing_one_is_unusable_then_rebuilt(source, sink, what, damage):
    run = COMMANDS["convert"]
    first = run(source, sink, options=ALL)
    digest = str(
        first.platforms[0].soci_index.digest
        if what == "soci index"
        else first.platforms[0].layers[0].ztoc.digest
    )
    data = sink.blob(digest)
    if damage == "missing":
        (sink.path / "blobs" / digest.replace(":", "/")).unlink()
    else:
        spoil(sink, digest, data[:-1] if damage == "short" else bytes(len(data)))
    again = run(source, sink, options=ALL)
    assert reused(again) == ([False, True] if what == "ztoc" else [False, False])
    assert facts(again) == facts(first)
    # A manifest is recognized by its size; a zTOC is written again.
    if (what, damage) != ("soci index", "garbage"):
        assert sink.whole(sink.tags["c"]) <= sink.blobs


@pytest.mark.parametrize(
    "change",
    [
        {"layers": [{"mediaType": "x", "digest": "sha512:" + "a" * 128, "size": 5}]},
        {"layers": [{"mediaType": "x", "digest": "sha256:x", "size": 5}]},
        {"schemaVersion": 1},
        {"config": {"mediaType": "x/y", "digest": "sha256:" + "a" * 64, "size": 2}},
        {"config": None},
        {"layers": None},
    ],
)
def test_soci_index_when_broken_then_ignored(source, sink, change):
    run = COMMANDS["convert"]
    first = run(source, sink, options=ALL)
    digest = str(first.platforms[0].soci_index.digest)
    odd = compact({**sink.document(digest), **change})
    image = sink.image("c")
    image["manifests"][1] |= descriptor_of(odd, OCI_MANIFEST)
    listed = descriptor_of(compact(image), OCI_INDEX)
    for data in (odd, compact(image)):
        spoil(sink, descriptor_of(data, "")["digest"], data)
    index = json.loads((sink.path / "index.json").read_bytes())
    index["manifests"][0] |= listed
    (sink.path / "index.json").write_bytes(compact(index))
    again = run(source, sink, options=ALL)
    assert again.image == first.image


def test_listed_manifest_when_broken_then_ignored(source, sink):
    run = COMMANDS["convert"]
    first = run(source, sink, options=ALL)
    bad = descriptor_of(b"{}", OCI_MANIFEST)
    index = json.loads((sink.path / "index.json").read_bytes())
    index["manifests"].append(bad)
    (sink.path / "index.json").write_bytes(compact(index))
    spoil(sink, bad["digest"], b"[]")
    again = run(source, sink, options=ALL)
    assert again.image == first.image


def test_ztoc_when_for_another_layer_then_rebuilt(source, sink):
    run = COMMANDS["convert"]
    first = run(source, sink, options=ALL)
    soci = sink.document(str(first.platforms[0].soci_index.digest))
    one, other = soci["layers"]
    for field in ("digest", "size"):
        one[field], other[field] = other[field], one[field]
    image = sink.image("c")
    image["manifests"][1] |= descriptor_of(compact(soci), OCI_MANIFEST)
    for data in (compact(soci), compact(image)):
        spoil(sink, descriptor_of(data, "")["digest"], data)
    index = json.loads((sink.path / "index.json").read_bytes())
    index["manifests"][0] |= descriptor_of(compact(image), OCI_INDEX)
    (sink.path / "index.json").write_bytes(compact(index))
    again = run(source, sink, options=ALL)
    assert reused(again) == [False, False]
    assert facts(again) == facts(first)


def test_layer_when_reused_and_copied_then_still_verified(source, sink):
    run = COMMANDS["convert"]
    run(source, sink, options=ALL)
    digest = goldens.case(USTAR)["layer_digest"]
    (sink.path / "blobs" / digest.replace(":", "/")).unlink()
    run(source, sink, options=ALL)
    assert sink.whole(sink.tags["c"]) == sink.blobs
    (sink.path / "blobs" / digest.replace(":", "/")).unlink()
    spoil(source, digest, b"\0" * len(goldens.layer(USTAR)))
    with pytest.raises(VerificationError, match=digest):
        run(source, sink, options=ALL)


def test_ztoc_when_readers_reject_it_then_the_layer_is_read(source, sink):
    run = COMMANDS["convert"]
    with OciLayout(source.path, write=True) as store:
        image_of((goldens.layer("pax.emptyfirst.tar.gz"), OCI_LAYER_GZIP)).put(store, "t")
    identical = IndexingOptions(min_layer_size=0, reference_identical=True)
    first = run(source, sink, options=identical)
    case = goldens.case("pax.emptyfirst.tar.gz")
    assert str(first.platforms[0].layers[0].ztoc.digest) == case["ztoc_digest"]
    again = run(source, sink, options=ALL)
    assert reused(again) == [False]
    assert str(again.platforms[0].layers[0].ztoc.digest) != case["ztoc_digest"]


def test_events_when_layers_are_new_then_they_start(source, sink):
    events = []
    COMMANDS["convert"](source, sink, options=ALL, progress=events.append)
    assert sum(isinstance(event, LayerStarted) for event in events) == 2


def test_convert_when_another_tag_has_the_ztocs_then_no_layer_is_read(source):
    image = f"oci:{source.path}:t"
    options = IndexingOptions(min_layer_size=0, span_size=1 << 20)
    convert(image, f"oci:{source.path}:t-first", options=options)
    events = []
    with_prefetch = IndexingOptions(min_layer_size=0, span_size=1 << 20, prefetch=("hello",))
    result = convert(
        image, f"oci:{source.path}:t-second", options=with_prefetch, progress=events.append
    )
    assert all(reused(result))
    assert not [event for event in events if isinstance(event, LayerStarted)]


def test_convert_when_another_tag_has_other_span_sizes_then_layers_read(source):
    image = f"oci:{source.path}:t"
    convert(image, f"oci:{source.path}:t-first", options=ALL)
    smaller = IndexingOptions(min_layer_size=0, span_size=1 << 20)
    assert not any(reused(convert(image, f"oci:{source.path}:t-second", options=smaller)))


def test_other_tags_when_there_are_many_then_only_similar_ones_are_read():
    resolved = []

    class Tagged:
        name = "tagged"

        def tags(self):
            return [f"build-{n:03}" for n in range(100)] + ["main-7", "sha256-" + "0" * 64]

        def resolve(self, tag):
            resolved.append(tag)
            raise NotFoundError("missing")

    assert find_ztocs(Tagged(), [], "main-8").load(Tagged(), LAYER, span_size=1) is None
    assert resolved == ["main-8", "main-7", *(f"build-{n:03}" for n in range(99, 84, -1))]
