"""For any layer and any span size, spans match zlib, and entries and files match tarfile."""

import hashlib
import io
import json
import math
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import ztocfile
from support.streams import FLUSHES, STRATEGIES, Shape, gunzip
from tocsin import build_ztoc

GOLDEN = Path(__file__).parents[1] / "golden"
BUILT = json.loads((GOLDEN / "expected.json").read_text())["built"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPES = {
    tarfile.REGTYPE: "reg",
    tarfile.AREGTYPE: "reg",
    tarfile.LNKTYPE: "hardlink",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.DIRTYPE: "dir",
    tarfile.FIFOTYPE: "fifo",
}
FORMATS = [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]


# Tars


def names(tar_format):
    alphabet = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/")
    wide = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/")
    part = st.text(alphabet if tar_format == tarfile.USTAR_FORMAT else wide, min_size=1)
    # USTAR allows at most 100 bytes for a name without slashes.
    longest = 100 if tar_format == tarfile.USTAR_FORMAT else 300
    return (
        st.lists(part.filter(lambda p: p not in (".", "..")), min_size=1, max_size=4)
        .map("/".join)
        .filter(lambda name: len(name.encode()) <= longest)
    )


def contents():
    """Bytes that compress well, poorly, or a mixture of both."""

    def make(seed, size, alphabet):
        random = Random(seed)  # noqa: S311 (test data)
        half = bytes(random.choices(range(alphabet), k=size))
        return half + half[: size // 2] + bytes(size // 3)

    sizes = st.one_of(st.integers(0, 1500), st.integers(0, 40_000))
    return st.builds(make, st.integers(0, 99), sizes, st.sampled_from([1, 4, 60, 256]))


def times(tar_format):
    whole = st.integers(0, 8**11 - 1)
    if tar_format == tarfile.USTAR_FORMAT:
        return whole
    latest = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
    wide = st.integers(-60_000_000_000, latest)
    if tar_format == tarfile.GNU_FORMAT:
        return wide
    # Quarters have an exact binary representation, so tarfile's float equals the header's number.
    return st.builds(lambda second, quarter: second + quarter / 4, whole, st.integers(0, 3))


@dataclass
class Tar:
    """An archive; its repr omits the bytes."""

    data: bytes = field(repr=False)
    entries: list[str]


@st.composite
def tars(draw):
    tar_format = draw(st.sampled_from(FORMATS))
    ids = st.integers(0, 0o7777777 if tar_format == tarfile.USTAR_FORMAT else 2**32 - 1)
    words = st.text(st.characters(min_codepoint=97, max_codepoint=122), max_size=20)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as archive:
        earlier = []
        # Names are unique, since tarfile handles repeated names differently; the tests of the zTOC
        # cover them.
        for name in draw(st.lists(names(tar_format), max_size=6, unique=True)):
            info = tarfile.TarInfo(name)
            info.type = draw(st.sampled_from(sorted(set(TYPES) - {tarfile.AREGTYPE})))
            if info.type == tarfile.LNKTYPE and not earlier:
                info.type = tarfile.REGTYPE
            info.mode = draw(st.integers(0, 0o7777))
            info.uid, info.gid = draw(ids), draw(ids)
            info.uname, info.gname = draw(words), draw(words)
            info.mtime = draw(times(tar_format))
            data = draw(contents()) if info.type == tarfile.REGTYPE else b""
            info.size = len(data)
            if info.type == tarfile.SYMTYPE:
                info.linkname = draw(names(tar_format))
            elif info.type == tarfile.LNKTYPE:
                info.linkname = draw(st.sampled_from(earlier))
            elif info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
                info.devmajor, info.devminor = draw(st.integers(0, 255)), draw(st.integers(0, 255))
            if info.type == tarfile.REGTYPE:
                earlier.append(info.name)
            archive.addfile(info, io.BytesIO(data))
        infos = [f"{info.name[:20]} {info.type!r} {info.size}" for info in archive.members]
    return Tar(out.getvalue(), infos)


shapes = st.builds(
    Shape,
    level=st.integers(0, 9),
    strategy=st.sampled_from(STRATEGIES),
    mem_level=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 200_000), max_size=5).map(tuple),
    flush=st.sampled_from(FLUSHES),
    members=st.booleans(),
)
span_sizes = st.one_of(st.integers(1, 3000), st.integers(0, 100_000), st.just(4 << 20))


# Checks


def check_spans(ztoc, layer, plain):
    """Compare every span with zlib, hashlib and the offsets in the blob."""
    blob = ztocfile.parse(ztoc.to_bytes())
    starts = blob.uncompressed_starts
    assert ztoc.span_count == len(starts) == len(blob.span_digests)
    assert [tuple(span) for span in ztoc.spans[["compressed_start", "compressed_end"]]] == (
        blob.compressed_ranges
    )
    assert ztoc.spans["uncompressed_start"].tolist() == starts
    for span_id, (start, end) in enumerate(blob.compressed_ranges):
        compressed = layer[start:end]
        assert hashlib.sha256(compressed).hexdigest() == blob.span_digests[span_id]
        assert ztoc.spans["sha256"][span_id].tobytes().hex() == blob.span_digests[span_id]
        last = span_id == len(starts) - 1
        content = plain[starts[span_id] : None if last else starts[span_id + 1]]
        assert ztoc.inflate_span(span_id, compressed) == content
        if blob.checkpoints:
            before = plain[: starts[span_id]][-ztocfile.WINDOW_LEN :]
            assert blob.checkpoints[span_id].window == before.rjust(ztocfile.WINDOW_LEN, b"\0")
            assert ztoc.window(span_id) == blob.checkpoints[span_id].window


def seconds(member):
    """Return a member's time without the rounding of tarfile's float."""
    return Decimal(member.pax_headers.get("mtime", member.mtime))


def rfc3339(time):
    """Return a time as Go writes it, without trailing zeros in the fraction."""
    whole = EPOCH + timedelta(seconds=math.floor(time))
    fraction = f"{time % 1 + (time % 1 < 0):.9f}"[1:].rstrip("0").rstrip(".")
    return f"{whole:%Y}".zfill(4) + f"{whole:-%m-%dT%H:%M:%S}{fraction}Z"


def check_entries(ztoc, archive):
    """Compare every entry with tarfile's."""
    members = archive.getmembers()
    assert len(ztoc.entries) == len(ztoc.paths) == len(ztoc.files) == len(members)
    for entry, path, row, member in zip(ztoc.entries, ztoc.paths, ztoc.files, members, strict=True):
        # tarfile removes the trailing slash of directories.
        assert entry.name.rstrip("/") == member.name.rstrip("/")
        assert path == entry.name
        assert entry.type == row["type"].decode() == TYPES[member.type]
        assert entry.uncompressed_offset == row["uncompressed_offset"] == member.offset_data
        assert entry.uncompressed_size == row["uncompressed_size"] == member.size
        assert entry.mode == row["mode"] == member.mode
        assert (entry.uid, entry.gid) == (row["uid"], row["gid"]) == (member.uid, member.gid)
        assert (entry.uname, entry.gname) == (member.uname, member.gname)
        assert entry.linkname == member.linkname
        assert entry.mod_time == rfc3339(seconds(member))
        microseconds = np.timedelta64(math.floor(seconds(member) * 1_000_000), "us")
        assert row["mod_time"] == np.datetime64("1970-01-01", "us") + microseconds
        if member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            device = (member.devmajor, member.devminor)
            assert (entry.devmajor, entry.devminor) == device
            assert (row["devmajor"], row["devminor"]) == device
        records = {os_bytes(k): os_bytes(v) for k, v in member.pax_headers.items()}
        assert entry.pax_records == records


def os_bytes(text):
    return text.encode("utf-8", "surrogateescape")


def check_files(ztoc, layer, archive, *, most=80):
    """Compare file contents with tarfile's, for at most about `most` evenly spread paths."""
    last = {member.name: member for member in archive.getmembers()}
    starts = ztoc.spans["uncompressed_start"].tolist()
    for name, member in list(last.items())[:: len(last) // most + 1]:
        if not (member.isreg() or member.islnk()):
            assert list(ztoc.spans_for(name)) == []
            continue
        target = member if member.isreg() else archive._find_link_target(member)
        content = archive.extractfile(member).read()
        assert ztoc.cat(name, layer) == content
        assert b"".join(ztoc.read(name, io.BytesIO(layer))) == content
        # Every span that starts inside the data, and the span of its first byte.
        first, end = target.offset_data, target.offset_data + target.size
        holding = [
            span_id
            for span_id, start in enumerate(starts)
            if start < end and (span_id + 1 == len(starts) or starts[span_id + 1] > first)
        ]
        assert list(ztoc.spans_for(name)) == (holding if content else [])


def check(layer, plain, **options):
    ztoc = build_ztoc(layer, **options)
    check_spans(ztoc, layer, plain)
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        check_entries(ztoc, archive)
        check_files(ztoc, layer, archive)


# Properties


@settings(max_examples=120, deadline=None)
@given(tars(), shapes, span_sizes, st.booleans())
def test_gzip_layer_when_arbitrary_then_matches_zlib_and_tarfile(tar, shape, span_size, identical):
    layer = shape.compress(tar.data)
    assert gunzip(layer) == tar.data
    check(layer, tar.data, span_size=span_size, reference_identical=identical)


@settings(max_examples=40, deadline=None)
@given(tars(), st.integers(1, 200), st.integers(0, 3))
def test_plain_layer_when_arbitrary_then_matches_slices_and_tarfile(tar, count, more):
    check(tar.data, tar.data, span_size=len(tar.data) // count + more)


@settings(max_examples=40, deadline=None)
@given(tars(), shapes, span_sizes, st.lists(st.integers(0, 5000), min_size=1, max_size=5))
def test_gzip_layer_when_pushed_in_any_pieces_then_same_ztoc(tar, shape, span_size, sizes):
    layer = shape.compress(tar.data)

    def pieces():
        at, turn = 0, 0
        while at < len(layer):
            size = sizes[turn % len(sizes)] or (turn % len(sizes) == 0)
            yield layer[at : at + size]
            at, turn = at + size, turn + 1

    whole = build_ztoc(layer, span_size=span_size)
    assert build_ztoc(pieces(), span_size=span_size).to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("case", BUILT, ids=lambda case: f"{case['layer']}-{case['span_size']}")
def test_golden_layer_when_indexed_then_matches_zlib_and_tarfile(case):
    layer = (GOLDEN / "layers" / case["layer"]).read_bytes()
    plain = gunzip(layer) if case["layer"].endswith(".gz") else layer
    ztoc = build_ztoc(layer, span_size=case["span_size"], reference_identical=True)
    check_spans(ztoc, layer, plain)
    with tarfile.open(fileobj=io.BytesIO(plain), errorlevel=2) as archive:
        check_entries(ztoc, archive)
        check_files(ztoc, layer, archive)
