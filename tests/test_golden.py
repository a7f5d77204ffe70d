"""Every golden layer through the Python API: any kind of source gives the reference's digest.

The Rust test of the same name pushes every layer in pieces of every size. Here, only layers up to
`SMALL_LAYER` are pushed in pieces of 1 and 7 bytes, because each piece costs a Python call.
"""

import hashlib
import io
import json
from pathlib import Path

import pytest

from support import ztocfile
from tocsin import FormatError, GzipError, TarError, Ztoc, build_ztoc

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
SMALL_LAYER = 45_000
PIECE_SIZES = [1, 7, 4096, 1 << 20, None]

WHAT = {
    "bad.trailing-garbage.tar.gz": (GzipError, "gzip.trailing-bytes"),
    "bad.zero-padding.tar.gz": (GzipError, "gzip.trailing-bytes"),
    "bad.truncated.tar.gz": (GzipError, "gzip.truncated"),
    "bad.no-trailer.tar.gz": (GzipError, "gzip.truncated"),
    "bad.crc.tar.gz": (GzipError, "gzip.crc"),
    "bad.isize.tar.gz": (GzipError, "gzip.isize"),
    "bad.crc-in-second-member.tar.gz": (GzipError, "gzip.crc"),
    "bad.empty-file.tar.gz": (GzipError, "gzip.truncated"),
    "bad.not-gzip.tar.gz": (GzipError, "gzip.magic"),
    "bad.flipped-byte.tar.gz": (FormatError, None),
    "bad.tar-checksum.tar.gz": (TarError, "tar.checksum"),
    "bad.reserved-block.tar.gz": (GzipError, "deflate.reserved-block-type"),
}
"""The rule that each rejected layer breaks, as its name says. A flipped byte may break any rule,
including those of tar: entries are parsed before the checksum of the gzip member is read."""


def layer_path(case):
    return GOLDEN / "layers" / case["layer"]


def media_format(case):
    return "gzip" if case["layer"].endswith(".gz") else "uncompressed"


def pieces(data, size):
    size = size or max(len(data), 1)
    return (data[at : at + size] for at in range(0, len(data), size))


def sources(path):
    """Yield a name and a source of each kind."""
    data = path.read_bytes()
    yield "path", path
    yield "text path", str(path)
    yield "bytes", data
    yield "bytearray", bytearray(data)
    yield "view", memoryview(data)
    yield "file object", io.BytesIO(data)
    for size in PIECE_SIZES:
        if size is None or size > 7 or len(data) <= SMALL_LAYER:
            yield f"pieces of {size}", pieces(data, size)
    yield "views", (memoryview(piece) for piece in pieces(data, 4096))


def test_goldens_when_counted_then_none_is_missing():
    assert len({case["layer"] for case in EXPECTED["built"]}) == 84
    assert len(EXPECTED["built"]) == 247
    assert {case["layer"] for case in EXPECTED["refused"]} == set(WHAT)


@pytest.mark.parametrize("case", EXPECTED["built"], ids=lambda c: f"{c['layer']}-{c['span_size']}")
def test_golden_when_built_from_any_source_then_reference_digest(case):
    for kind, source in sources(layer_path(case)):
        ztoc = build_ztoc(
            source,
            span_size=case["span_size"],
            format=media_format(case),
            reference_identical=True,
        )
        assert (ztoc.digest, ztoc.size) == (case["ztoc_digest"], case["ztoc_size"]), kind
        assert ztoc.compression_algorithm == case["compression"]
        assert ztoc.compressed_archive_size == case["compressed_archive_size"]
        assert ztoc.uncompressed_archive_size == case["uncompressed_archive_size"]
        assert ztoc.span_count == case["max_span_id"] + 1
        assert len(ztoc.entries) == len(ztoc.paths) == case["file_count"]
    blob = ztoc.to_bytes()
    assert f"sha256:{hashlib.sha256(blob).hexdigest()}" == case["ztoc_digest"]
    again = Ztoc.from_bytes(blob)
    assert again.to_bytes() == blob
    assert (again.digest, again.size) == (case["ztoc_digest"], case["ztoc_size"])
    assert again == ztoc
    points = ztocfile.parse(blob).checkpoints
    found = [[point.compressed, point.uncompressed, point.bits] for point in points]
    assert found == (case["checkpoints"] or [])


@pytest.mark.parametrize("case", EXPECTED["built"], ids=lambda c: f"{c['layer']}-{c['span_size']}")
def test_golden_when_format_is_not_given_then_it_is_detected(case):
    ztoc = build_ztoc(layer_path(case), span_size=case["span_size"], reference_identical=True)
    assert ztoc.digest == case["ztoc_digest"]


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("span_size", sorted({case["span_size"] for case in EXPECTED["built"]}))
def test_golden_when_built_with_several_threads_then_reference_digest(span_size, threads):
    for case in EXPECTED["built"]:
        if case["span_size"] == span_size:
            ztoc = build_ztoc(
                layer_path(case), span_size=span_size, reference_identical=True, threads=threads
            )
            assert ztoc.digest == case["ztoc_digest"], case["layer"]


@pytest.mark.parametrize("case", EXPECTED["refused"], ids=lambda c: c["layer"])
def test_golden_when_reference_rejects_it_then_error_has_rule_and_place(case):
    error_class, what = WHAT[case["layer"]]
    found = set()
    for kind, source in sources(layer_path(case)):
        with pytest.raises(error_class) as refusal:
            build_ztoc(source, format="gzip", reference_identical=True)
        assert what in (None, refusal.value.what), kind
        found.add((type(refusal.value), refusal.value.offset, str(refusal.value)))
    ((kind, offset, message),) = found
    assert offset is not None
    assert offset in message
    assert offset.startswith("uncompressed byte" if kind is TarError else "compressed byte")
