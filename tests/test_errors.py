"""Every error of the core reaches Python with the right class and ``.what``."""

import copy
import gzip
import hashlib
import inspect
import mmap
import pickle
import re
import struct
import tarfile
import zlib
from pathlib import Path

import pytest
import zstandard

import hostile_ztocs
from support import tarmaker, ztocfile
from support.bitwriter import BitWriter, gzip_member
from support.streams import Shape
from tocsin import (
    AuthError,
    ConflictError,
    ContainerdError,
    EngineError,
    FormatError,
    GzipError,
    NotFoundError,
    PathError,
    RegistryError,
    SeekTableError,
    TarError,
    TocsinError,
    UnsupportedError,
    VerificationError,
    Ztoc,
    ZtocError,
    _core,
    build_ztoc,
    errors,
)
from tocsin.layers.indexer import LayerPass
from tocsin.tar.headers import read_headers

CORE_ERRORS = Path(__file__).parents[1] / "rust" / "core" / "src" / "error"


def core_codes():
    """Return the codes in the core's sources."""
    found = set()
    for path in CORE_ERRORS.glob("*.rs"):
        found |= set(re.findall(r'=> "([a-z]+(?:\.[a-z0-9-]+)?)"', path.read_text()))
    return found


# DEFLATE, bit by bit. zlib must reject the streams too.


def block(kind):
    return BitWriter().put(1, 1, "BFINAL").put(kind, 2, "BTYPE")


# Order of the code length code: 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1 15.
PLAIN_CODES = {0: 0b00, 1: 0b01, 2: 0b10}
"""Codes of the lengths 0, 1 and 2 when those and symbol 18 have code lengths of 2."""


def dynamic(litlen, distance):
    """Return a dynamic block's header: code lengths by symbol, all others 0."""
    writer = block(2).put(257 - 257, 5, "HLIT").put(0, 5, "HDIST").put(18 - 4, 4, "HCLEN")
    writer.lengths(0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2)
    for symbol in range(257):
        writer.code(PLAIN_CODES[litlen.get(symbol, 0)], 2, f"length of {symbol}")
    return writer.code(PLAIN_CODES[distance], 2, "length of distance 0")


DEFLATE = {
    "deflate.reserved-block-type": block(3),
    "deflate.stored-length": block(0).align().put(1, 16, "LEN").put(0, 16, "NLEN, not ~LEN"),
    "deflate.too-many-codes": block(2)
    .put(31, 5, "HLIT: 288 codes, 286 allowed")
    .put(0, 5, "HDIST")
    .put(0, 4, "HCLEN"),
    "deflate.code-length-repeat": block(2)
    .put(0, 5, "HLIT")
    .put(0, 5, "HDIST")
    .put(0, 4, "HCLEN: 4 lengths")
    .lengths(1, 0, 0, 1)
    .code(1, 1, "16: repeat the length before the first"),
    "deflate.over-subscribed": dynamic({0: 1, 1: 1, 256: 1}, 1),
    "deflate.incomplete": dynamic({0: 2, 256: 2}, 1),
    "deflate.no-end-of-block": dynamic({0: 1, 1: 1}, 1),
    "deflate.invalid-symbol": block(1).code(0b11000110, 8, "286, which no stream may use"),
    "deflate.distance-too-far": block(1)
    .code(0b0000001, 7, "257: length 3")
    .code(0b00000, 5, "distance 1, before the start"),
}


def layer_of(stream):
    # Enough bytes follow the fault for every decoder to reach it.
    return gzip_member(stream.finish() + b"\x55" * 64)


# gzip

PLAIN = tarmaker.tar(tarmaker.entry("a", b"hello" * 1000))
LAYER = gzip.compress(PLAIN, mtime=0)


def header(flags, *, magic=b"\x1f\x8b", method=8, rest=b""):
    return magic + bytes([method, flags]) + bytes(6) + rest


def with_header(start):
    return start + LAYER[10:]


GZIP = {
    "gzip.magic": b"\x1f\x8c" + LAYER[2:],
    "gzip.method": with_header(header(0, method=7)),
    "gzip.reserved-flags": with_header(header(0x20)),
    "gzip.header-crc": with_header(header(0x02, rest=b"\x12\x34")),
    "gzip.header-text": with_header(header(0x08, rest=b"n" * 512 + b"\0")),
    "gzip.crc": LAYER[:-8] + b"\0\0\0\0" + LAYER[-4:],
    "gzip.isize": LAYER[:-4] + b"\0\0\0\0",
    "gzip.truncated": LAYER[:-1],
    "gzip.trailing-bytes": LAYER + b"\0",
}
GZIP_BUT_ZLIB_ACCEPTS_IT = {"gzip.header-text", "gzip.trailing-bytes"}
"""The first is a limit of Go's reader; the second is rejected by the reference indexer."""


# zstd, RFC 8878


def zstd_frame(flags=0, window=0, *fields, block=(0, b"x")):
    """Return a frame of one block: (type, content)."""
    kind, content = block
    start = struct.pack("<IB", 0xFD2FB528, flags) + bytes([window, *fields])
    return start + (len(content) << 3 | kind << 1 | 1).to_bytes(3, "little") + content


def unzstd(stream):
    decoder = _core.ZstdDecoder()
    decoder.feed(stream)
    while decoder.read(100):
        pass
    decoder.finish()


ZSTD = {
    "zstd.magic": b"\x28\xb5\x2f\xfe" + bytes(9),
    "zstd.reserved-bit": zstd_frame(1 << 3),
    "zstd.window": zstd_frame(0, 18 << 3),
    "zstd.dictionary": zstd_frame(1, 0, 42),
    "zstd.block": zstd_frame(block=(3, b"")),
    "zstd.content-size": zstd_frame(1 << 6, 0, 0, 0),
    "zstd.checksum": zstd_frame(1 << 2) + bytes(4),
    "zstd.truncated": zstd_frame()[:-1],
}


# tar

HEADER = tarmaker.entry("a", b"x")
TAR = {
    "tar.checksum": b"b" + HEADER[1:],
    "tar.field": tarmaker.with_field(HEADER, 124, b"12x45678901\0"),
    "tar.lone-zero-block": bytes(512) + HEADER,
    "tar.unsupported-type": tarmaker.entry("a", type=tarfile.CONTTYPE),
    "tar.pax": tarmaker.entry("x", b"no record\n", type=tarfile.XHDTYPE) + HEADER,
    "tar.sparse": tarmaker.entry(
        "a",
        b"x",
        pax={
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.numblocks": "1",
            "GNU.sparse.map": "5,y",
            "GNU.sparse.size": "10",
        },
    ),
    "tar.payload-too-large": tarmaker.entry("x", type=tarfile.XHDTYPE, size=(1 << 20) + 1),
    "tar.negative-size": tarmaker.with_field(HEADER, 124, b"\xff" * 12),
    "tar.truncated": HEADER[:100],
}


# zTOC: one field of a good blob altered, found by the reader of the tests

ENTRIES = [tarmaker.entry("a" * 20_000, pax={"comment": "x"})]
ENTRIES += [tarmaker.entry(f"{n}", b"x" * 100) for n in range(300)]
GZIP_BLOB = build_ztoc(
    Shape(level=1, mem_level=1).compress(tarmaker.tar(*ENTRIES)), span_size=30_000
).to_bytes()
TAR_BLOB = build_ztoc(tarmaker.tar(*ENTRIES), span_size=30_000).to_bytes()
PARSED = ztocfile.parse(GZIP_BLOB)
ROOT, INFO = PARSED.tables["root"], PARSED.tables["info"]
ENTRY = PARSED.tables["toc"].tables("metadata", ztocfile.ENTRY)
ZINFO_AT = INFO.target("checkpoints") + 4


def patched(at, value, blob=GZIP_BLOB):
    return blob[:at] + value + blob[at + len(value) :]


def checkpoint_at(number):
    return ZINFO_AT + 12 + number * (17 + ztocfile.WINDOW_LEN)


def u32(value):
    return struct.pack("<I", value)


def i64(value):
    return struct.pack("<q", value)


def all_entries_one():
    """Make every element of the TOC refer to its first entry, which has a long name."""
    blob = GZIP_BLOB
    at = PARSED.tables["toc"].target("metadata")
    for number in range(len(ENTRY)):
        place = at + 4 + 4 * number
        blob = patched(place, u32(ENTRY[0].at - place), blob)
    return blob


def tar_algorithm_at():
    return ztocfile.parse(TAR_BLOB).tables["info"].places["algorithm"]


ZTOC = {
    "ztoc.out-of-bounds": patched(0, u32(1 << 30)),
    "ztoc.unterminated": patched(ROOT.target("version") + 7, b"x"),
    "ztoc.not-utf8": patched(ROOT.target("version") + 4, b"\xff"),
    "ztoc.missing": patched(ROOT.slots["version"], b"\0\0"),
    "ztoc.digest-spelling": patched(INFO.elements("span_digests")[0] + 4, b"SHA256"),
    "ztoc.algorithm": patched(tar_algorithm_at(), b"\x07", TAR_BLOB),
    "ztoc.zinfo-length": patched(ZINFO_AT - 4, u32(len(INFO.data("checkpoints")) - 1)),
    "ztoc.value": patched(ZINFO_AT + 4, i64(-1)),
    "ztoc.span-count": patched(INFO.places["max_span_id"], u32(7)),
    "ztoc.not-monotonic": patched(checkpoint_at(1), i64(9)),
    "ztoc.checkpoint": patched(checkpoint_at(0) + 8, i64(1)),
    "ztoc.entry-type": patched(ENTRY[0].target("type") + 4, b"rog"),
    "ztoc.toc-entry": patched(ENTRY[1].places["offset"], i64(-1)),
    "ztoc.amplified": all_entries_one(),
    "ztoc.too-long": hostile_ztocs.SHAPES["a long name"](2 << 20),
}

NOT_PROVOKED = {
    "tar.toc-too-large": "needs 1 GB of names; a unit test of the core sets a lower limit",
    "ztoc.no-such-file": "Python looks paths up itself and never asks for an impossible entry",
}
PROVOKED_IN_RUST = [code for code in core_codes() if code.startswith("seek.")]
"""Codes that tests/rust/seek_*.rs provoke, where parts of a seek table can be made one by one."""
ELSEWHERE = {
    "ztoc.too-large": "test_blob_when_too_large",
    "layer.format": "test_layer_when_format_is_wrong",
    "tar.no-entry": "test_headers_when_missing",
    "unsupported": "test_layer_when_zstd",
    "verification": "test_span_when_damaged",
    "ztoc.no-such-span": "test_span_when_out_of_range",
    "indexer.finished": "test_pass_when_already_finished",
}
"""Codes with a separate test below, and the start of its name."""


def test_codes_when_listed_then_each_is_tested_or_exempted():
    known = [*DEFLATE, *GZIP, *ZSTD, *TAR, *ZTOC, *NOT_PROVOKED, *PROVOKED_IN_RUST, *ELSEWHERE]
    assert sorted(known) == sorted(core_codes())
    for start in ELSEWHERE.values():
        assert any(name.startswith(f"{start}_") for name in globals())


@pytest.mark.parametrize("what", [*DEFLATE, *GZIP])
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_gzip_when_rule_is_broken_then_error_has_rule_and_bit(what, pieces):
    layer = layer_of(DEFLATE[what]) if what in DEFLATE else GZIP[what]
    source = layer if pieces == "whole" else (layer[at : at + 1] for at in range(len(layer)))
    with pytest.raises(GzipError) as refusal:
        build_ztoc(source, format="gzip")
    assert type(refusal.value) is GzipError
    assert refusal.value.what == what
    place = re.fullmatch(r"compressed byte (\d+) bit ([0-7])", refusal.value.offset)
    assert 0 <= int(place[1]) <= len(layer)
    assert str(refusal.value).startswith("gzip: ")
    assert str(refusal.value).endswith(f", at {refusal.value.offset}")


@pytest.mark.parametrize("what", [*DEFLATE, *GZIP])
def test_gzip_when_rule_is_broken_then_zlib_fails_too(what):
    layer = layer_of(DEFLATE[what]) if what in DEFLATE else GZIP[what]
    decoder = zlib.decompressobj(wbits=31)
    if what in GZIP_BUT_ZLIB_ACCEPTS_IT:
        assert decoder.decompress(layer) == PLAIN
        return
    if what == "gzip.truncated":
        assert decoder.decompress(layer) == PLAIN
        assert not decoder.eof
        return
    with pytest.raises(zlib.error):
        decoder.decompress(layer)


@pytest.mark.parametrize("what", ZSTD)
def test_zstd_when_rule_is_broken_then_error_has_rule_and_byte(what):
    with pytest.raises(FormatError) as refusal:
        unzstd(ZSTD[what])
    assert type(refusal.value) is FormatError
    assert refusal.value.what == what
    at = int(refusal.value.offset.removeprefix("compressed byte "))
    assert 0 <= at <= len(ZSTD[what])
    assert str(refusal.value).startswith("zstd: ")


@pytest.mark.parametrize("what", ZSTD)
def test_zstd_when_rule_is_broken_then_libzstd_fails_too(what):
    decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    if what == "zstd.truncated":
        decoder.decompress(ZSTD[what])
        assert not decoder.eof
        return
    with pytest.raises(zstandard.ZstdError):
        decoder.decompress(ZSTD[what])


@pytest.mark.parametrize("what", TAR)
@pytest.mark.parametrize("compressed", [False, True])
def test_tar_when_rule_is_broken_then_error_has_rule_and_header(what, compressed):
    before = tarmaker.entry("before", b"y" * 700)
    plain = before + TAR[what]
    layer = gzip.compress(plain) if compressed else plain
    with pytest.raises(TarError) as refusal:
        build_ztoc(layer)
    assert type(refusal.value) is TarError
    assert refusal.value.what == what
    at = int(refusal.value.offset.removeprefix("uncompressed byte "))
    assert len(before) <= at <= len(plain)
    assert at % 512 == 0
    assert str(refusal.value).startswith("tar: ")


@pytest.mark.parametrize("what", ZTOC)
def test_ztoc_when_field_is_altered_then_error_has_rule_and_byte(what):
    assert Ztoc.from_bytes(GZIP_BLOB).to_bytes() == GZIP_BLOB
    assert Ztoc.from_bytes(TAR_BLOB).to_bytes() == TAR_BLOB
    with pytest.raises(ZtocError) as refusal:
        Ztoc.from_bytes(ZTOC[what])
    assert type(refusal.value) is ZtocError
    assert refusal.value.what == what
    at = int(refusal.value.offset.removeprefix("ztoc byte "))
    # A target outside the blob is reported at the offset that points to it.
    assert 0 <= at <= len(ZTOC[what]) or (what, at) == ("ztoc.out-of-bounds", 1 << 30)
    assert str(refusal.value).startswith("ztoc: ")


def test_blob_when_too_large_then_rejected_before_reading(tmp_path):
    path = tmp_path / "blob"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        with pytest.raises(ZtocError) as refusal:
            Ztoc.from_bytes(blob)
        assert refusal.value.what == "ztoc.too-large"


def test_layer_when_format_is_wrong_then_format_error():
    with pytest.raises(FormatError) as refusal:
        build_ztoc(LAYER, format="uncompressed")
    assert type(refusal.value) is FormatError
    assert (refusal.value.what, refusal.value.offset) == ("layer.format", None)


def test_layer_when_zstd_then_unsupported_error():
    with pytest.raises(UnsupportedError, match="a zstd layer cannot be indexed"):
        build_ztoc(bytes.fromhex("28b52ffd00000000"))


def test_span_when_damaged_then_error_has_both_digests():
    ztoc = build_ztoc(LAYER)
    start, end = ztoc.span_range(0)
    with pytest.raises(VerificationError, match="span 0 digest mismatch") as refusal:
        ztoc.inflate_span(0, bytes(end - start))
    assert refusal.value.expected.startswith("sha256:")
    assert refusal.value.actual != refusal.value.expected


def test_span_when_out_of_range_then_index_error():
    with pytest.raises(IndexError, match=r"span 1 does not exist \(last span is 0\)"):
        build_ztoc(LAYER).span_range(1)
    with pytest.raises(IndexError):
        build_ztoc(LAYER)._core.inflate_span(1, b"")


def test_headers_when_missing_then_tar_error():
    with pytest.raises(TarError) as refusal:
        read_headers(b"", 512)
    assert (refusal.value.what, refusal.value.offset) == ("tar.no-entry", "uncompressed byte 512")


def test_pass_when_already_finished_then_runtime_error():
    layer = LayerPass()
    layer.finish()
    with pytest.raises(RuntimeError, match="already finished"):
        layer.finish()


def test_span_when_ztoc_digest_is_wrong_then_inflating_fails():
    # The zTOC has the digest of the changed bytes, so only inflating them can fail.
    ztoc = build_ztoc(LAYER)
    start, end = ztoc.span_range(0)
    other = b"\x07" + LAYER[start + 1 : end]
    blob = ztoc.to_bytes()
    digest = ztocfile.parse(blob).tables["info"].elements("span_digests")[0] + 4
    new = f"sha256:{hashlib.sha256(other).hexdigest()}".encode()
    tampered = Ztoc.from_bytes(patched(digest, new, blob))
    with pytest.raises(GzipError) as refusal:
        tampered.inflate_span(0, other)
    assert refusal.value.what == "deflate.reserved-block-type"


# The tree

EXAMPLES = [
    TocsinError("m"),
    FormatError("m", what="manifest", offset=None),
    GzipError("m", what="gzip.crc", offset="compressed byte 5 bit 3"),
    TarError("m", what="tar.pax", offset="uncompressed byte 512"),
    ZtocError("m", what="ztoc.value", offset="ztoc byte 9"),
    SeekTableError("m", what="seek.order", offset="root"),
    VerificationError("m", expected="sha256:a", actual="sha256:b"),
    UnsupportedError("m"),
    NotFoundError("m"),
    PathError("m", path="/p", reason="missing"),
    ConflictError("m"),
    EngineError("m"),
    RegistryError("m", status=503, code="UNAVAILABLE", url="https://h/v2/", temporary=True),
    AuthError("m", status=401, code="DENIED", url="https://h/v2/"),
    ContainerdError("m", code="UNAVAILABLE", url="unix:///c.sock", temporary=True),
]


def classes():
    return {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, TocsinError)
    }


def tree_in_docstring():
    """Return (class, bases) for every line of the tree, derived from its indentation."""
    found, above = {}, []
    for line in re.findall(r"^    ([ │├└─]*)(\w+)((?: \(\w+\))?)", errors.__doc__, re.M):
        indent, name, builtin = line
        depth = len(indent) // 4
        del above[depth:]
        bases = [above[-1]] if above else ["Exception"]
        found[name] = bases + ([builtin.strip(" ()")] if builtin else [])
        above.append(name)
    return found


def test_tree_when_read_then_equals_the_docstring():
    actual = {kind.__name__: [base.__name__ for base in kind.__bases__] for kind in classes()}
    assert tree_in_docstring() == actual


def test_tree_when_it_lists_attributes_then_they_exist():
    listed = dict(re.findall(r"(\w+Error)(?: \(\w+\))? .*?; ((?:\.\w+ ?)+)$", errors.__doc__, re.M))
    assert set(listed) == {"FormatError", "PathError", "VerificationError", "RegistryError"}
    for example in EXAMPLES:
        for name, attributes in listed.items():
            if isinstance(example, getattr(errors, name)):
                assert all(hasattr(example, field.strip(".")) for field in attributes.split())


def test_examples_when_listed_then_every_class_has_one():
    assert {type(example) for example in EXAMPLES} == classes()


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_when_pickled_then_class_message_and_attributes_survive(error):
    copies = [pickle.loads(pickle.dumps(error, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)]  # noqa: S301
    for again in (*copies, copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error) == "m"
        assert again._attributes == error._attributes
        for name, value in error._attributes.items():
            assert getattr(again, name) == value == getattr(error, name)


def test_error_when_raised_by_the_core_then_it_can_be_pickled():
    with pytest.raises(GzipError) as refusal:
        build_ztoc(LAYER[:-1])
    again = pickle.loads(pickle.dumps(refusal.value))  # noqa: S301
    assert (again.what, again.offset) == (refusal.value.what, refusal.value.offset)
    assert str(again) == str(refusal.value)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_when_copied_then_hint_and_notes_survive(error):
    given = type(error)("m; n", hint="Do this.", **error.details)
    given.add_note("at file /x")
    assert (str(given), given.message, given.hint) == ("m; n", "m; n", "Do this.")
    given.hint = "Do that."
    for again in (pickle.loads(pickle.dumps(given)), copy.copy(given), copy.deepcopy(given)):  # noqa: S301
        assert (again.message, again.hint) == ("m; n", "Do that.")
        assert again.__notes__ == ["at file /x"]
        again.add_note("of a copy")
    assert given.__notes__ == ["at file /x"]
    assert error.hint is None


CODES = {
    TocsinError: "failed",
    FormatError: "manifest",
    GzipError: "gzip.crc",
    TarError: "tar.pax",
    ZtocError: "ztoc.value",
    SeekTableError: "seek.order",
    VerificationError: "verification",
    UnsupportedError: "unsupported",
    NotFoundError: "not-found",
    PathError: "path.missing",
    ConflictError: "conflict",
    EngineError: "engine",
    RegistryError: "registry",
    AuthError: "registry.auth",
    ContainerdError: "containerd",
}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_when_code_is_read_then_it_is_stable(error):
    assert error.error_code == CODES[type(error)]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_when_message_is_arbitrary_then_one_printable_line(error):
    message = str(type(error)("a\nb\x1b[2J\u202e\udce9\u2028c", **error.details))
    assert message == r"a\nb\x1b[2J\u202e\xe9\u2028c"
    long = str(type(error)("x" * 100_000, **error.details))
    assert len(long) < 5000
    assert long.endswith("x…")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_when_constructed_then_attributes_are_keyword_only(error):
    with pytest.raises(TypeError):
        type(error)("m", "Do this.", **error.details)
    if error._attributes:
        with pytest.raises(TypeError):
            type(error)("m", *error._attributes.values())
