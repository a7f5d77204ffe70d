"""Headers parsed by the core, compared with ``tarfile`` where both agree."""

import gzip
import io
import tarfile
import zlib

import pytest

from support.tarmaker import END, entry, global_header, padded, with_field
from tocsin.errors import TarError
from tocsin.tar.headers import gzip_header_len, read_headers

LONG = "d" * 70 + "/" + "e" * 70 + "/" + "f" * 40
NAMES = ["a", "./usr/bin/env", "d" * 100, LONG, "ü/é", "\udcff\udcfe", "x" * 150, "n" * 250]
FORMATS = {
    tarfile.USTAR_FORMAT: NAMES[:6],  # the other names are too long
    tarfile.GNU_FORMAT: NAMES,
    tarfile.PAX_FORMAT: NAMES,
}
PLAIN = entry("a", b"", format=tarfile.USTAR_FORMAT)


def read_with_tarfile(headers):
    with tarfile.open(fileobj=io.BytesIO(headers), errors="surrogateescape") as archive:
        found = archive.next()
    return found.name, (found.size, found.mode, found.uid, found.gid), found.offset_data


def read(headers, start=0):
    found = read_headers(headers, start)
    return found.name, found.columns, found.data_offset - start


@pytest.mark.parametrize(
    ("form", "name"),
    [(form, name) for form, names in FORMATS.items() for name in names],
    ids=lambda value: ascii(value)[:20],
)
def test_headers_when_common_then_same_as_tarfile(name, form):
    fields = {"size": 123456789, "mode": 0o4751, "uid": 12, "gid": 34567}
    headers = entry(name, format=form, pax={"mtime": "1.5"}, **fields)
    assert (
        read(headers) == read_with_tarfile(headers) == (name, tuple(fields.values()), len(headers))
    )
    assert read(headers, start=1 << 40) == read_with_tarfile(headers)
    assert read_headers(headers, 0).path == name.removeprefix("./")


def test_headers_when_pax_records_have_numbers_then_they_override():
    headers = entry("a", pax={"size": "77", "uid": "3000000000", "gid": "5"}, mode=0o600)
    assert read(headers) == read_with_tarfile(headers)
    assert read(headers)[1] == (77, 0o600, 3_000_000_000, 5)


@pytest.mark.parametrize(
    ("type_", "word"),
    [
        (tarfile.REGTYPE, "reg"),
        (tarfile.AREGTYPE, "reg"),
        (tarfile.LNKTYPE, "hardlink"),
        (tarfile.SYMTYPE, "symlink"),
        (tarfile.CHRTYPE, "char"),
        (tarfile.BLKTYPE, "block"),
        (tarfile.DIRTYPE, "dir"),
        (tarfile.FIFOTYPE, "fifo"),
    ],
)
def test_headers_when_type_varies_then_only_files_have_data(type_, word):
    found = read_headers(entry("a", type=type_, size=700, linkname="b"), 1024)
    assert (found.type, found.linkname) == (word, "b")
    assert found.stored_size == (700 if word == "reg" else 0)
    assert found.end == 1024 + 512 + (1024 if word == "reg" else 0)
    assert found.regions is None


def test_headers_when_file_is_sparse_then_regions_and_stored_size():
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9000"}
    headers = entry("a", padded(b"2\n0\n10\n8990\n10\n"), pax=records, size=512 + 20)
    found = read_headers(headers, 0)
    assert found.regions == [(0, 10), (8990, 10)]
    assert (found.columns[0], found.stored_size) == (9000, 20)
    assert found.data_offset == len(headers)
    assert found.end == len(headers) + 512


def test_headers_when_more_data_follows_then_ignored():
    headers = global_header({"path": "everywhere"}) + PLAIN
    assert read(headers + b"x" * 700) == ("a", (0, 0o644, 0, 0), len(headers))


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        (b"", "tar.no-entry"),
        (END, "tar.no-entry"),
        (PLAIN[:511], "tar.no-entry"),
        (entry("a", pax={"c": "d"})[:-512], "tar.no-entry"),
        (b"x" * 512, "tar.field"),
        (with_field(PLAIN, 100, b"junk")[:148] + PLAIN[148:], "tar.checksum"),
        (with_field(PLAIN, 124, b"99999999999\0"), "tar.field"),
        (
            entry("a", type=tarfile.GNUTYPE_SPARSE, format=tarfile.GNU_FORMAT),
            "tar.unsupported-type",
        ),
        (entry("a", pax={"c": "d"})[:512] + padded(b"99 c=d\n") + PLAIN, "tar.pax"),
    ],
)
def test_headers_when_invalid_then_tar_error_names_the_rule(headers, what):
    with pytest.raises(TarError) as error:
        read_headers(headers, 1 << 20)
    assert error.value.what == what
    assert error.value.offset == "uncompressed byte 1048576"


def crc(header: bytes) -> bytes:
    """Append the checksum to a gzip header (RFC 1952 §2.3.1, CRC16)."""
    return header + (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")


def fixed(flags: int) -> bytes:
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)


@pytest.mark.parametrize(
    "header",
    [
        fixed(0),
        fixed(8) + b"name\0",
        fixed(16) + b"note\0",
        fixed(4) + b"\3\0abc",
        fixed(4) + b"\0\0",
        crc(fixed(2)),
        crc(fixed(30) + b"\1\0x" + b"name\0" + b"note\0"),
    ],
)
def test_gzip_header_when_optional_fields_are_set_then_included(header):
    deflated = zlib.compressobj(wbits=-15)
    body = deflated.compress(b"data") + deflated.flush()
    member = header + body + zlib.crc32(b"data").to_bytes(4, "little") + b"\4\0\0\0"
    assert gzip.decompress(member) == b"data", "Python accepts it too"
    assert gzip_header_len(member) == gzip_header_len(header) == len(header)
    assert gzip_header_len(header[:-1]) is None


@pytest.mark.parametrize(
    "data", [b"", b"PK\3\4", b"\x1f\x8b\x07" + bytes(7), fixed(0x20), crc(fixed(2))[:-1] + b"x"]
)
def test_gzip_header_when_invalid_then_none(data):
    assert gzip_header_len(data) is None
