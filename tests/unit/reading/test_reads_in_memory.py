"""Reads of bytes in memory, which the core does alone: same bytes and errors as other reads."""

from __future__ import annotations

import io
import random
import tarfile
import threading
from pathlib import PurePosixPath

import pytest

import tocsin
from support import seek, tarmaker
from support.forked import exit_code, forked
from support.readable import OPTIONS, SPAN, put_image, text
from support.tarmaker import entry
from tocsin.errors import PathError
from tocsin.reading.filesystem import TocsinFileSystem
from tocsin.reading.merged import MergedLayers
from tocsin.reading.ranges import FileRange, read_ranges
from tocsin.stores.layout import OciLayout

BIG = text(400_001, seed=3)
OTHER = text(100_000, seed=4)
FILES = {"usr/big": BIG, "usr/other": OTHER, "lib/big": BIG, "usr/twin": BIG, "empty": b""}
RANGES = [(0, 10), (SPAN - 5, SPAN + 5), (-7, 9), (5, 5), (9, 3), (400_000, 1 << 70), (1 << 70, -1)]
TAR = tarmaker.tar(
    entry("usr/big", BIG),
    entry("usr/twin", type=tarfile.LNKTYPE, linkname="usr/big"),
    entry("usr/other", OTHER),
    entry("lib", type=tarfile.SYMTYPE, linkname="usr"),
    entry("empty"),
    entry("run/p", type=tarfile.FIFOTYPE),
)
UPPER = tarmaker.tar(entry("usr/upper", OTHER))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("layout") / "D"
    plain = put_image(directory, TAR, UPPER)
    tocsin.convert(plain, f"oci:{directory}:ztoc", options=OPTIONS)
    with OciLayout(directory, write=True) as store:
        seek.bind(store, "plain", "seek")
    return directory


@pytest.fixture(params=["ztoc", "seek"])
def reference(request, place):
    return f"oci:{place}:{request.param}"


@pytest.fixture
def alone(monkeypatch):
    """Returns a function after whose call only the core can read files."""

    def refuse(*_):
        raise AssertionError("not read by the core")

    return lambda: monkeypatch.setattr(MergedLayers, "file_data", refuse)


def test_read_range_when_in_memory_then_read_by_the_core_alone(reference, alone):
    with tocsin.open(reference) as image:
        for path in FILES:
            image.cat(path)
        alone()
        for path, data in FILES.items():
            assert image.cat(path) == data
            for start, end in RANGES[:-2]:
                assert image.read_range(path, start, end) == data[max(0, start) : end]
            assert image.read_range(f"/usr/../{path}", 1, 99) == data[1:99]


def test_read_range_when_repeated_then_always_a_slice(reference):
    rng = random.Random(9)  # noqa: S311 (not a secret)
    with tocsin.open(reference, cache_size=150_000) as image:
        for _ in range(400):
            path, data = rng.choice(list(FILES.items()))
            start = rng.randrange(len(data) + 100)
            end = start + rng.choice([0, 1, 100, 5000, 200_000])
            assert image.read_range(path, start, end) == data[start:end]


@pytest.mark.parametrize(("start", "end"), RANGES)
def test_read_range_when_in_memory_then_as_the_first_time(reference, start, end):
    with tocsin.open(reference) as first, tocsin.open(reference) as second:
        second.cat("usr/big")
        found = second.read_range("usr/big", start, end)
        assert found == first.read_range("usr/big", start, end) == BIG[max(0, start) : max(0, end)]


def test_read_range_when_the_path_is_a_pathlib_path_then_same(reference):
    with tocsin.open(reference) as image:
        for _ in range(2):
            assert image.read_range(PurePosixPath("/lib/big"), 3, 8) == BIG[3:8]


@pytest.mark.parametrize(
    "path", ["usr", "run/p", "missing", "usr/big/x", "usr/big/", "\udcff", "\0"]
)
def test_read_range_when_not_a_file_then_the_same_error_as_at_first(reference, path):
    with tocsin.open(reference) as image:
        with pytest.raises(PathError) as first:
            image.read_range(path, 0, 5)
        image.cat("usr/big")
        with pytest.raises(PathError) as second:
            image.read_range(path, 0, 5)
        assert second.value.message == first.value.message
        with pytest.raises(TypeError):
            image.read_range(b"usr/big", 0, 5)
        with pytest.raises(TypeError):
            image.read_range("usr/big", "0", 5)


def test_cat_file_when_in_memory_then_offsets_count_from_both_ends(reference, alone):
    fs = TocsinFileSystem(reference, skip_instance_cache=True)
    assert fs.cat_file("usr/big", -9, None) == BIG[-9:]
    assert fs.cat_file("usr/big", -9, -3) == BIG[-9:-3]
    assert fs.cat("usr/big") == BIG
    alone()
    assert fs.cat_file("usr/big", 10, 20) == BIG[10:20]
    assert fs.cat_file("lib/big") == BIG


def test_read_ranges_when_some_are_in_memory_then_each_once(reference):
    with tocsin.open(reference) as image:
        assert image.read_range("usr/big", 0, 5) == BIG[:5]
        wanted = [
            FileRange("usr/other", 7, 9),
            FileRange("usr/big", 1, 4),
            FileRange("missing"),
            FileRange("usr/upper", 5, None),
            FileRange("usr/big", -4, -1),
        ]
        found = dict(read_ranges(image._merged, wanted))
        assert isinstance(found.pop(2), PathError)
        assert found == {0: OTHER[7:9], 1: BIG[1:4], 3: OTHER[5:], 4: BIG[-4:-1]}


def test_file_when_in_memory_then_buffers_of_any_kind_are_filled(reference):
    with tocsin.open(reference) as image, image.open("usr/big", buffering=0) as file:
        assert file.read() == BIG
        for kind, count in (("B", 100), ("b", 100), ("i", 25), ("d", 12)):
            file.seek(SPAN - 50)
            buffer = memoryview(bytearray(96 if kind == "d" else 100)).cast(kind)
            assert len(buffer) == count
            assert file.readinto(buffer) == buffer.nbytes
            assert buffer.tobytes() == BIG[SPAN - 50 :][: buffer.nbytes]
            assert file.tell() == SPAN - 50 + buffer.nbytes
        file.seek(0)
        with pytest.raises(TypeError):
            file.readinto(b"read-only")
        assert file.readinto(bytearray()) == 0
        file.seek(-3, io.SEEK_END)
        buffer = bytearray(b"....")
        assert file.readinto(buffer) == 3
        assert buffer == BIG[-3:] + b"."
        assert file.readinto(buffer) == 0


def test_read_range_when_forked_then_spans_are_not_those_of_the_parent(reference):
    with tocsin.open(reference) as image:
        assert image.read_range("usr/big", 0, 100) == BIG[:100]
        spans = image._merged.layer(0).spans
        assert spans.cached.get(0) is not None

        def read():
            return spans.cached.get(0) is None and image.read_range("usr/big", 5, 50) == BIG[5:50]

        assert exit_code(forked(read)) == 0
        assert image.read_range("usr/big", 5, 50) == BIG[5:50]


def test_read_range_when_many_threads_evict_spans_then_each_has_its_bytes(reference):
    failures = []
    with tocsin.open(reference, cache_size=200_000) as image:

        def read(seed):
            rng = random.Random(seed)  # noqa: S311 (not a secret)
            for _ in range(150):
                path, data = rng.choice(list(FILES.items()))
                start = rng.randrange(len(data) + 1)
                if image.read_range(path, start, start + 3000) != data[start : start + 3000]:
                    failures.append((path, start))

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
