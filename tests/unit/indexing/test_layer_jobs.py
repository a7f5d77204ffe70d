"""Layers of an image in parallel: indexed or skipped with a reason, and progress events."""

import errno
import gzip
import os
import tarfile
import threading

import pytest

import tocsin
from support import goldens, tarmaker
from support.disks import unprivileged
from support.layout_files import LayoutFiles, digest_of
from tocsin import processors
from tocsin.errors import NotFoundError, VerificationError
from tocsin.indexing import layer_jobs
from tocsin.indexing.layer_jobs import LayerJobs, layer_key
from tocsin.indexing.options import IndexingOptions
from tocsin.indexing.reuse import ReusableZtocs
from tocsin.model.descriptor import Descriptor
from tocsin.model.events import LayerAdvanced, LayerFinished, LayerStarted, Planned
from tocsin.model.media_types import (
    DOCKER_LAYER,
    DOCKER_LAYER_FOREIGN_GZIP,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
    OCI_LAYER,
    OCI_LAYER_FOREIGN,
    OCI_LAYER_GZIP,
)
from tocsin.model.soci_index import make_soci_index
from tocsin.stores.archive import OciArchive
from tocsin.stores.base import MustStream, MustVerify
from tocsin.stores.layout import OciLayout
from tocsin.stores.window import PIECE_SIZE

NAMES = ["ustar.zlib6.tar.gz", "pax.zlib6.tar.gz", "gnu.members.tar.gz"]
PLAIN = tarmaker.tar(tarmaker.entry("a", b"hello" * 100))
LAYER = gzip.compress(PLAIN, mtime=0)


class Source(OciLayout):
    """A layout that records which blobs were read."""

    def __init__(self, path):
        super().__init__(path, write=True)
        self.reads = []

    def blob(self, descriptor, *, verify=True):
        self.reads.append(str(descriptor.digest))
        return super().blob(descriptor, verify=verify)


class Stream(OciLayout):
    """A layout without takeover: every blob is streamed to it, as to a registry."""

    def take_over(self, descriptor, origin):
        return MustStream()


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path / "source")


@pytest.fixture
def sink(tmp_path):
    return Stream(tmp_path / "sink", write=True)


def put(store, data, media_type=OCI_LAYER_GZIP):
    store.put_blob(data)
    return Descriptor.of(data, media_type)


def put_goldens(store, *names):
    return [put(store, goldens.layer(name)) for name in names or NAMES]


def run(source, layers, sink=None, *, carry=False, progress=None, known=None, **options):
    options = {"min_layer_size": 0, **options}
    jobs = LayerJobs(
        source,
        sink or source,
        options=IndexingOptions(**options),
        known=known or ReusableZtocs(),
        carry=carry,
        progress=progress,
    )
    return jobs.run(layers)


def outcome_of(source, layer, **options):
    (outcome,) = run(source, [layer], **options).values()
    return outcome


# Indexed


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("span_size", [4 << 20, 65536, 10000])
def test_layers_when_run_then_ztocs_are_the_references(source, jobs, span_size):
    layers = put_goldens(source)
    outcomes = run(source, layers, jobs=jobs, span_size=span_size)
    assert set(outcomes) == {layer_key(layer) for layer in layers}
    for name, layer in zip(NAMES, layers, strict=True):
        case, result = goldens.case(name, span_size), outcomes[layer_key(layer)].result
        assert str(result.ztoc.digest) == case["ztoc_digest"]
        assert result.ztoc.size == case["ztoc_size"]
        assert result.layer == layer
        assert (result.skipped, result.notes) == (None, ())
        assert result.entry_count == case["file_count"]
        assert result.span_count == case["max_span_id"] + 1
        assert result.uncompressed_size == len(gzip.decompress(goldens.layer(name)))
        assert result.seconds >= 0
        LayoutFiles(source.path).blob(case["ztoc_digest"])


def test_layer_when_the_docker_type_is_plain_then_indexed_as_plain_tar(source):
    for media_type in (OCI_LAYER, DOCKER_LAYER):
        layer = put(source, goldens.layer("ustar.tar"), media_type)
        case = goldens.case("ustar.tar")
        assert str(outcome_of(source, layer).result.ztoc.digest) == case["ztoc_digest"]


def test_layer_when_foreign_but_in_the_source_then_it_is_indexed(source):
    case = goldens.case(NAMES[0])
    for media_type in (DOCKER_LAYER_FOREIGN_GZIP, f"{OCI_LAYER_FOREIGN}+gzip", DOCKER_LAYER_GZIP):
        layer = put(source, goldens.layer(NAMES[0]), media_type)
        ztoc = outcome_of(source, layer).result.ztoc
        assert str(ztoc.digest) == case["ztoc_digest"]
        assert ztoc.annotations["com.amazon.soci.image-layer-mediaType"] == media_type


@pytest.mark.parametrize(("over", "built"), [(-1, True), (0, True), (1, False)])
def test_layer_when_it_has_the_minimum_size_then_it_is_indexed(source, over, built):
    layer = put(source, LAYER)
    outcome = outcome_of(source, layer, min_layer_size=len(LAYER) + over)
    assert (outcome.result.ztoc is not None) is built
    if not built:
        assert outcome.result.skipped == (
            f"size {len(LAYER)} is less than the minimum layer size {len(LAYER) + 1}"
        )
        assert (outcome.indexed, outcome.searchable) == (None, None)
        assert source.reads == []


def test_layers_when_one_occurs_twice_then_it_is_read_once(source):
    layers = put_goldens(source) * 3
    outcomes = run(source, layers, jobs=4)
    assert len(outcomes) == 3
    assert sorted(source.reads) == sorted({str(layer.digest) for layer in layers})


def test_layers_when_a_blob_has_several_types_then_each_has_an_outcome(source):
    layers = [put(source, LAYER), put(source, LAYER, DOCKER_LAYER_GZIP), put(source, LAYER, "x/y")]
    outcomes = run(source, layers)
    assert [outcomes[layer_key(layer)].result.skipped is None for layer in layers] == [1, 1, 0]
    first, second, _ = (outcomes[layer_key(layer)].result.ztoc for layer in layers)
    assert first.digest == second.digest
    assert first.annotations != second.annotations


@pytest.mark.parametrize(
    ("entries", "marked"),
    [
        ([tarmaker.entry("a", pax={"mtime": "1.5"})], True),
        ([tarmaker.entry("a", pax={"SCHILY.xattr.user.x": "1"})], False),
        ([tarmaker.entry("d/.wh..wh..opq")], False),
    ],
)
def test_layer_when_xattrs_are_optimized_then_layers_without_are_marked(source, entries, marked):
    layer = put(source, tarmaker.tar(*entries), OCI_LAYER)
    for optimizations, expected in ((frozenset({"xattr"}), marked), (frozenset(), False)):
        ztoc = outcome_of(source, layer, optimizations=optimizations).result.ztoc
        assert ("com.amazon.soci.disable-xattrs" in ztoc.annotations) is expected


# Skipped


def odd(*entries):
    return gzip.compress(tarmaker.tar(tarmaker.entry("a"), *entries), mtime=0)


SPARSE = {
    "GNU.sparse.major": "1",
    "GNU.sparse.minor": "0",
    "GNU.sparse.name": "s",
    "GNU.sparse.realsize": "100000",
}
FAILS_THE_REFERENCE = {
    "contiguous file": (odd(tarmaker.entry("c", b"x", type=b"7")), OCI_LAYER_GZIP, "'7'"),
    "old GNU sparse": (odd(tarmaker.entry("s", b"x", type=b"S")), OCI_LAYER_GZIP, "'S'"),
    "global header": (odd(tarmaker.global_header({"comment": "x"})), OCI_LAYER_GZIP, "'g'"),
    "trailing bytes": (LAYER + bytes(512), OCI_LAYER_GZIP, "after the last gzip member"),
    "bad trailer": (LAYER[:-4] + b"\0\0\0\1", OCI_LAYER_GZIP, "uncompressed size mismatch"),
    "truncated": (LAYER[:-20], OCI_LAYER_GZIP, "layer ends inside"),
    "empty": (b"", OCI_LAYER_GZIP, "layer ends inside"),
    "no tar": (gzip.compress(b"x" * 600), OCI_LAYER_GZIP, "tar:"),
    "no layer": (b"{}", "application/vnd.dev.cosign.simplesigning.v1+json", "not a layer"),
    "in-toto": (b"{}", "application/vnd.in-toto+json", "not a layer"),
    "no type": (LAYER, "", "media type: missing"),
    "encrypted": (b"\x8f" * 99, f"{OCI_LAYER_GZIP}+encrypted", "encrypted"),
    "odd type": (LAYER, "application/vnd.oci.image.layer.v2.odd", "unsupported compression"),
    "mislabelled gzip": (LAYER, DOCKER_LAYER, "found gzip"),
    "zstd in gzip": (b"\x28\xb5\x2f\xfd" + bytes(9), OCI_LAYER_GZIP, "zstd"),
}
"""Layers for which the reference fails the whole image: docs/format.md#which-layers-get-a-ztoc."""
SKIPPED_BY_THE_REFERENCE = {
    "zstd": (b"\x28\xb5\x2f\xfd", f"{OCI_LAYER}+zstd", "zstd"),
    "docker zstd": (b"\x28\xb5\x2f\xfd", DOCKER_LAYER_ZSTD, "zstd"),
    "encrypted zstd": (b"\x8f", f"{OCI_LAYER}+zstd+encrypted", "encrypted"),
    "encrypted tar": (b"\x8f", f"{OCI_LAYER}+encrypted", "encrypted"),
    "foreign plain": (PLAIN, OCI_LAYER_FOREIGN, "unsupported compression"),
    "erofs": (b"x", "application/vnd.erofs.layer.v1", "unsupported compression"),
}
ODD = FAILS_THE_REFERENCE | SKIPPED_BY_THE_REFERENCE


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_layer_when_odd_then_it_is_skipped_with_the_reason(source, sink, name, carry):
    data, media_type, reason = ODD[name]
    layers = [put(source, data, media_type), *put_goldens(source)]
    outcomes = run(source, layers, sink, carry=carry)
    outcome = outcomes[layer_key(layers[0])]
    assert reason in outcome.result.skipped
    assert (outcome.result.ztoc, outcome.indexed, outcome.searchable) == (None, None, None)
    assert (outcome.result.entry_count, outcome.result.span_count) == (0, 0)
    assert all(outcomes[layer_key(layer)].result.ztoc for layer in layers[1:])


@pytest.mark.parametrize("media_type", [OCI_LAYER_GZIP, DOCKER_LAYER_GZIP])
def test_layer_when_called_gzip_but_plain_then_indexed_as_plain_tar(source, sink, media_type):
    layer = put(source, PLAIN, media_type)
    outcome = run(source, [layer], sink)[layer_key(layer)]
    ztoc = tocsin.Ztoc.from_bytes(b"".join(sink.blob(outcome.result.ztoc)))
    assert ztoc.compression_algorithm == "uncompressed"
    assert ztoc.to_bytes() == tocsin.build_ztoc(PLAIN, format="uncompressed").to_bytes()


def test_layer_when_foreign_and_missing_then_skipped(source):
    layer = Descriptor.of(LAYER, DOCKER_LAYER_FOREIGN_GZIP)
    assert (
        outcome_of(source, layer).result.skipped == "foreign layer that is missing from the source"
    )


def test_layer_when_plain_and_spans_have_no_size_then_it_is_skipped(source):
    layers = [put(source, PLAIN, OCI_LAYER), put(source, LAYER)]
    outcomes = run(source, layers, span_size=0)
    assert "spans of 0 bytes" in outcomes[layer_key(layers[0])].result.skipped
    assert outcomes[layer_key(layers[1])].result.ztoc


HAZARDS = {
    "sparse": [tarmaker.entry("S/s", tarmaker.padded(b"1\n99995\n5\n") + b"data.", pax=SPARSE)],
    "size": [tarmaker.entry("l", type=tarfile.SYMTYPE, linkname="x", size=5)],
    "id": [tarmaker.entry("u", b"x", uid=1 << 32, format=tarfile.GNU_FORMAT)],
    "year": [tarmaker.entry("y", pax={"mtime": "253402300800"})],
    "hard link": [tarmaker.entry("h", type=tarfile.LNKTYPE, linkname="later")],
}
"""Layers that soci indexes but its reader rejects: docs/format.md#broken-for-readers."""


@pytest.mark.parametrize("name", HAZARDS)
def test_layer_when_readers_fail_then_skipped_unless_reference_identical(source, name):
    layer = put(source, odd(*HAZARDS[name], tarmaker.entry("z")))
    skipped = outcome_of(source, layer).result
    assert skipped.ztoc is None
    assert "soci-snapshotter cannot read it" in skipped.skipped
    assert "--reference-identical" in skipped.skipped
    identical = outcome_of(source, layer, reference_identical=True).result
    assert identical.skipped is None
    assert identical.entry_count == 3
    assert any("soci-snapshotter cannot read it" in note for note in identical.notes)


def test_layer_when_many_entries_are_hazards_then_three_are_named(source):
    links = [tarmaker.entry(f"l{n}", type=tarfile.SYMTYPE, linkname="x", size=5) for n in range(5)]
    reason = outcome_of(source, put(source, odd(*links))).result.skipped
    assert "l0:" in reason
    assert "l2:" in reason
    assert "l3:" not in reason
    assert "and 2 more" in reason


def test_layer_when_early_checkpoints_are_removed_then_noted(source):
    name = "pax.emptyfirst.tar.gz"
    case = goldens.case(name)
    starts = [point[1] for point in case["checkpoints"]]
    assert starts.count(0) > 1
    layer = put(source, goldens.layer(name))
    working = outcome_of(source, layer).result
    assert "removed checkpoints before the first output: 1" in working.notes[0]
    assert str(working.ztoc.digest) != case["ztoc_digest"]
    identical = outcome_of(source, layer, reference_identical=True).result
    assert str(identical.ztoc.digest) == case["ztoc_digest"]
    assert any("soci-snapshotter cannot read it" in note for note in identical.notes)


# Copied to another store


def test_layers_when_copied_then_each_is_read_once_and_stored(source, sink):
    layers = put_goldens(source)
    outcomes = run(source, layers, sink, carry=True, jobs=4)
    assert sorted(source.reads) == sorted(str(layer.digest) for layer in layers)
    there = LayoutFiles(sink.path)
    ztocs = {str(outcome.result.ztoc.digest) for outcome in outcomes.values()}
    assert there.blobs == {str(layer.digest) for layer in layers} | ztocs
    for name, layer in zip(NAMES, layers, strict=True):
        assert there.blob(str(layer.digest)) == goldens.layer(name)


def test_layers_when_not_copied_then_only_ztocs_are_stored(source, sink):
    outcomes = run(source, put_goldens(source), sink)
    assert LayoutFiles(sink.path).blobs == {str(f.result.ztoc.digest) for f in outcomes.values()}


def test_layers_when_the_sink_has_one_then_it_is_only_indexed(source, sink):
    layers = put_goldens(source)
    put(sink, goldens.layer(NAMES[0]))
    run(source, layers, sink, carry=True)
    assert len(source.reads) == 3
    assert {str(layer.digest) for layer in layers} <= LayoutFiles(sink.path).blobs


def test_layer_when_skipped_as_odd_then_still_copied_in_full(source, sink):
    data = LAYER[:-4] + b"\0\0\0\1" + bytes(3 * PIECE_SIZE)
    layer = put(source, data)
    assert outcome_of(source, layer, sink=sink, carry=True).result.skipped
    assert LayoutFiles(sink.path).blob(str(layer.digest)) == data


# Damaged


def corrupt(source, layer, data):
    (source.path / "blobs" / "sha256" / layer.digest.hex).write_bytes(data)


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize(
    "damage",
    {
        "another layer": lambda data: gzip.compress(PLAIN.replace(b"hello", b"hullo"), mtime=0),
        "flipped": lambda data: data[:60] + bytes([data[60] ^ 8]) + data[61:],
        "garbage": lambda data: bytes(len(data)),
        "short": lambda data: data[:-1],
        "empty": lambda data: b"",
        "long": lambda data: data + b"\0",
    }.values(),
)
def test_layer_when_damaged_then_an_error_instead_of_a_skip(source, sink, damage, jobs, carry):
    layers = [*put_goldens(source), put(source, LAYER)]
    corrupt(source, layers[3], damage(LAYER))
    with pytest.raises(VerificationError) as refusal:
        run(source, layers, sink, carry=carry, jobs=jobs)
    assert refusal.value.expected in (str(layers[3].digest), str(len(LAYER)))
    assert refusal.value.actual != refusal.value.expected
    assert str(layers[3].digest) not in LayoutFiles(sink.path).blobs


@pytest.mark.parametrize("carry", [False, True])
def test_layer_when_missing_then_not_found(source, sink, carry):
    layer = Descriptor.of(LAYER, OCI_LAYER_GZIP)
    with pytest.raises(NotFoundError, match=f"{layer.digest}: not found"):
        run(source, [*put_goldens(source), layer], sink, carry=carry)


def test_layer_when_unreadable_then_the_os_error_names_it(place):
    source = Source(place / "D")
    layer = put(source, LAYER)
    path = source.path / "blobs" / "sha256" / layer.digest.hex
    path.chmod(0)
    with unprivileged(), pytest.raises(PermissionError) as refusal:
        run(source, [layer])
    assert refusal.value.filename == str(path)


# Events


def finished(outcome):
    result = outcome.result
    return LayerFinished(result.layer, result.seconds, result)


def recorded(events):
    """Return the events for each layer digest, in order."""
    by_layer = {}
    for event in events:
        by_layer.setdefault(event.layer.digest, []).append(event)
    return by_layer


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("jobs", [1, 4])
def test_events_when_layers_run_then_each_starts_advances_and_finishes(source, sink, jobs, carry):
    big = gzip.compress(bytes(3 * PIECE_SIZE + 5), 0, mtime=0)
    layers = [*put_goldens(source), put(source, big), put(source, b"{}", "x/y")]
    events = []
    outcomes = run(source, layers, sink, jobs=jobs, carry=carry, progress=events.append)
    to_read = sorted(layers[:4], key=lambda layer: -layer.size)
    assert events[0] == Planned(tuple(to_read))
    assert events[1] == finished(outcomes[layer_key(layers[4])])
    by_layer = recorded(events[2:])
    assert list(by_layer) == [layer.digest for layer in to_read] or jobs > 1
    for layer in to_read:
        first, *advances, last = by_layer[layer.digest]
        assert first == LayerStarted(layer)
        assert last == finished(outcomes[layer_key(layer)])
        steps = range(PIECE_SIZE, layer.size + PIECE_SIZE, PIECE_SIZE)
        assert advances == [LayerAdvanced(layer, min(at, layer.size)) for at in steps]


def test_events_when_layers_run_in_parallel_then_never_concurrent(source):
    busy = threading.Lock()

    def progress(event):
        assert busy.acquire(blocking=False)
        busy.release()

    run(source, put_goldens(source), jobs=4, progress=progress)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_jobs_when_limited_then_exactly_that_many_run_in_parallel(tmp_path, jobs):
    together = threading.Barrier(jobs, timeout=60)

    class Meeting(OciLayout):
        """A layout that returns blobs only when `jobs` of them are requested at the same time."""

        def blob(self, descriptor, *, verify=True):
            together.wait()
            yield from super().blob(descriptor, verify=verify)

    source = Meeting(tmp_path / "D", write=True)
    layers = [put(source, gzip.compress(tarmaker.tar(tarmaker.entry(str(n))))) for n in range(6)]
    running, most = set(), 0

    def progress(event):
        nonlocal most
        if isinstance(event, LayerStarted):
            running.add(event.layer.digest)
        elif isinstance(event, LayerFinished):
            running.discard(event.layer.digest)
        most = max(most, len(running))

    run(source, layers, jobs=jobs, progress=progress)
    assert most == jobs


@pytest.fixture
def passes(monkeypatch):
    """Return the number of threads of each started pass, in order."""
    given = []

    class Pass(layer_jobs.LayerPass):
        def __init__(self, *, threads, **options):
            given.append(threads)
            super().__init__(threads=threads, **options)

    monkeypatch.setattr(layer_jobs, "LayerPass", Pass)
    return given


def test_threads_when_one_layer_is_largest_then_it_starts_first_with_all(source, passes):
    small = [put(source, gzip.compress(tarmaker.tar(tarmaker.entry(n)))) for n in "ab"]
    large = put(source, gzip.compress(bytes(PIECE_SIZE), 0))
    run(source, [*small, large], jobs=3, threads=4)
    # Then the two share the threads, in any order.
    assert passes[0] == 4
    assert all(2 <= threads <= 4 for threads in passes[1:])


def test_threads_when_layers_have_equal_sizes_then_one_each(source, passes):
    run(source, put_goldens(source), jobs=2, threads=2)
    assert passes[:2] == [1, 1]
    assert passes[2] in (1, 2)  # the last one may have been left alone


def test_threads_when_not_given_then_all_processors(source, passes, monkeypatch):
    monkeypatch.setattr(processors, "available", lambda: 6)
    run(source, [put(source, LAYER)])
    assert passes == [6]


def test_threads_when_a_larger_layer_is_reused_then_it_takes_none(source, passes):
    big = put(source, gzip.compress(tarmaker.tar(tarmaker.entry("b", bytes(PIECE_SIZE))), 0))
    made = run(source, [big])[layer_key(big)]
    index = make_soci_index([made.indexed], subject=None)
    small = put(source, LAYER)
    del passes[:]
    outcomes = run(source, [small, big], jobs=2, threads=8, known=ReusableZtocs((index,)))
    assert outcomes[layer_key(big)].result.reused
    assert passes == [8]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_run_when_stopped_while_layers_wait_for_threads_then_they_end(source, passes, error):
    small = [put(source, gzip.compress(tarmaker.tar(tarmaker.entry(n)))) for n in "abc"]
    large = put(source, gzip.compress(bytes(3 * PIECE_SIZE), 0))

    def progress(event):
        if isinstance(event, LayerAdvanced):
            raise error("stop")

    before = set(threading.enumerate())
    with pytest.raises(error, match="stop"):
        run(source, [*small, large], jobs=4, threads=4, progress=progress)
    assert set(threading.enumerate()) == before
    assert passes == [4]
    assert source.reads == [str(large.digest)]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_layers_when_run_with_any_threads_then_ztocs_are_the_references(source, threads):
    layers = put_goldens(source)
    outcomes = run(source, layers, threads=threads, span_size=65536)
    for name, layer in zip(NAMES, layers, strict=True):
        digest = str(outcomes[layer_key(layer)].result.ztoc.digest)
        assert digest == goldens.case(name, 65536)["ztoc_digest"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("kind", [Planned, LayerStarted, LayerAdvanced, LayerFinished])
@pytest.mark.parametrize("jobs", [1, 4])
def test_run_when_progress_raises_then_no_more_events_and_threads_end(source, jobs, kind, error):
    layers = put_goldens(source)
    stopped = []

    def progress(event):
        if stopped or isinstance(event, kind):
            stopped.append(event)
            raise error("stop")

    before = set(threading.enumerate())
    with pytest.raises(error, match="stop"):
        run(source, layers, jobs=jobs, progress=progress)
    assert set(threading.enumerate()) == before
    assert len(stopped) == 1
    if jobs == 1:
        assert len(source.reads) == (kind in (LayerAdvanced, LayerFinished))


@pytest.mark.parametrize("jobs", [1, 4])
def test_run_when_a_layer_fails_then_error_raised_and_others_not_started(source, jobs):
    layers = put_goldens(source)
    largest = max(layers, key=lambda layer: layer.size)
    corrupt(source, largest, b"x")
    with pytest.raises(VerificationError):
        run(source, layers, jobs=jobs)
    if jobs == 1:
        assert set(source.reads) == {str(largest.digest)}


def test_run_when_one_layer_fails_then_the_others_stop_in_the_middle(tmp_path):
    failed = threading.Event()

    class Slow(OciLayout):
        """Return the second piece of the large layer after the small one has failed."""

        def blob(self, descriptor, *, verify=True):
            if descriptor.size < PIECE_SIZE:
                failed.set()
                raise NotFoundError("gone")
            for piece in super().blob(descriptor, verify=verify):
                assert failed.wait(60)
                yield piece

    source = Slow(tmp_path / "D", write=True)
    layers = [put(source, gzip.compress(bytes(20 * PIECE_SIZE), 0)), put(source, LAYER)]
    events = []
    with pytest.raises(NotFoundError, match="gone"):
        # With more threads, the large layer would use all of them, and the small one wait.
        run(source, layers, jobs=2, threads=1, progress=events.append)
    assert not any(isinstance(event, LayerFinished) for event in events)


def test_run_when_there_are_no_layers_then_only_the_plan_is_reported(source):
    events = []
    assert run(source, [], progress=events.append) == {}
    assert events == [Planned(())]


def test_layer_when_it_will_be_linked_then_prepared_while_it_is_read(source, tmp_path):
    log = []

    class Link(MustVerify):
        def __init__(self, link):
            self.link = link

        def prepare(self):
            log.append(threading.current_thread().name)

        def finish(self):
            assert source.reads == [str(layer.digest)]
            log.append("finished")
            return self.link.finish()

        def verify_and_finish(self):
            raise AssertionError("it has been verified")

    class Preparing(OciLayout):
        def take_over(self, descriptor, origin):
            assert source.reads == []
            return Link(super().take_over(descriptor, origin))

    layer = put(source, LAYER)
    sink = Preparing(tmp_path / "E", write=True)
    run(source, [layer], sink, carry=True)
    assert log == ["layer-takeover", "finished"]
    assert source.reads == [str(layer.digest)]
    mine, theirs = (s.path / "blobs" / "sha256" / layer.digest.hex for s in (source, sink))
    assert mine.samefile(theirs)


def test_layer_when_not_copied_then_the_sink_takes_nothing_over(source, tmp_path):
    class Unasked(OciLayout):
        def take_over(self, descriptor, origin):
            raise AssertionError("nothing is carried")

    layer = put(source, LAYER)
    run(source, [layer], Unasked(tmp_path / "E", write=True))


def test_layer_when_linking_fails_after_it_is_indexed_then_it_is_streamed(
    source, tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(errno.EMLINK, "too many links")

    monkeypatch.setattr(os, "link", refuse)
    layer = put(source, LAYER)
    sink = OciLayout(tmp_path / "E", write=True)
    run(source, [layer], sink, carry=True)
    assert LayoutFiles(sink.path).blob(str(layer.digest)) == LAYER


def test_layer_when_the_sink_is_an_archive_then_read_once_and_copied_last(source, tmp_path):
    layer = put(source, LAYER)
    with OciArchive(tmp_path / "a.tar", write=True) as sink:
        run(source, [layer], sink, carry=True)
        assert source.reads == [str(layer.digest)]
    with OciArchive(tmp_path / "a.tar") as archive:
        assert b"".join(archive.blob(layer)) == LAYER


def test_layer_when_the_sink_is_on_another_file_system_then_read_once(
    source, tmp_path, monkeypatch
):
    sink = OciLayout(tmp_path / "E", write=True)
    monkeypatch.setattr(OciLayout, "_device", lambda self: hash(str(self.path)))
    layer = put(source, LAYER)
    run(source, [layer], sink, carry=True)
    assert source.reads == [str(layer.digest)]
    assert sink.has_blob(layer)


# Prefetch


def test_layer_when_prefetch_is_requested_then_only_those_names_are_kept(source):
    layer = put(source, LAYER)
    outcome = outcome_of(source, layer, prefetch=("/a", "b"))
    assert outcome.searchable.find("a")[2:] == (512, 500)
    assert outcome.searchable.find("b") is None
    assert outcome_of(source, layer).searchable is None
    assert outcome_of(source, layer, prefetch=("", " ")).searchable is None


def test_layer_when_a_prefetch_path_has_spaces_around_it_then_found(source):
    outcome = outcome_of(source, put(source, LAYER), prefetch=(" /x/../a\n",))
    assert outcome.searchable.find("a")[2:] == (512, 500)


# Options


def test_options_when_invalid_then_refused():
    for name, value in [
        ("span_size", -1),
        ("min_layer_size", -1),
        ("jobs", 0),
        ("threads", 0),
        ("threads", -2),
    ]:
        with pytest.raises(ValueError, match=rf"{name}.* {value}\b"):
            IndexingOptions(**{name: value})
    with pytest.raises(Exception, match="found 'zstd', expected one of: xattr"):
        IndexingOptions(optimizations=frozenset({"xattr", "zstd"}))


def test_options_when_not_given_then_the_defaults_of_the_reference():
    options = IndexingOptions()
    assert (options.span_size, options.min_layer_size) == (4194304, 10485760)
    assert (options.platforms, options.optimizations, options.prefetch) == (None, frozenset(), ())
    assert not options.reference_identical
    assert 1 <= options.jobs == processors.default_jobs() <= 4
    assert options.threads is None


def test_jobs_when_not_given_then_one_per_cpu_and_at_most_four(monkeypatch):
    for there, jobs in [(1, 1), (3, 3), (64, 4)]:
        monkeypatch.setattr(processors, "available", lambda there=there: there)
        assert IndexingOptions().jobs == jobs


def test_golden_when_hashed_then_its_digest_is_the_recorded_one():
    for name in NAMES:
        assert digest_of(goldens.layer(name)) == goldens.case(name)["layer_digest"]
