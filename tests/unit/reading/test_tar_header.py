"""The quick look at tar headers; ``tarfile`` writes them, and is asked what it sees itself."""

import io
import tarfile

import pytest

from support.tarmaker import entry, global_header, with_field
from tocsin.reading.tar_header import announced

LONG = "d" * 70 + "/" + "e" * 70 + "/" + "f" * 40
NAMES = ["a", "./usr/bin/env", "d" * 100, LONG, "ü/é", "\udcff\udcfe", "x" * 150, "n" * 250]
FORMATS = {
    tarfile.USTAR_FORMAT: NAMES[:6],  # has no room for the others
    tarfile.GNU_FORMAT: NAMES,
    tarfile.PAX_FORMAT: NAMES,
}


def judged(headers):
    with tarfile.open(fileobj=io.BytesIO(headers), errors="surrogateescape") as archive:
        found = archive.next()
    return found.name, found.size, found.mode, found.uid, found.gid


@pytest.mark.parametrize(
    ("form", "name"),
    [(form, name) for form, names in FORMATS.items() for name in names],
    ids=lambda value: ascii(value)[:20],
)
def test_headers_when_common_then_announced_are_those_tarfile_sees(name, form):
    fields = {"size": 123456789, "mode": 0o4751, "uid": 12, "gid": 34567}
    headers = entry(name, format=form, pax={"mtime": "1.5"}, **fields)
    assert announced(headers) == judged(headers) == (name, *fields.values())


def test_headers_when_records_have_numbers_then_they_count():
    headers = entry("a", pax={"size": "77", "uid": "3000000000", "gid": "5"}, mode=0o600)
    assert announced(headers) == judged(headers) == ("a", 77, 0o600, 3_000_000_000, 5)


PLAIN = entry("a", b"", format=tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        bytes(512),
        PLAIN[:511],
        PLAIN + PLAIN,
        PLAIN + bytes(512),
        entry("a", type=tarfile.SYMTYPE, linkname="b"),
        entry("a", type=tarfile.GNUTYPE_SPARSE, format=tarfile.GNU_FORMAT),
        entry("a", pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
        entry("a", size=1 << 40, format=tarfile.GNU_FORMAT),
        global_header({"comment": "x"}) + PLAIN,
        with_field(PLAIN, 257, bytes(8)),
        with_field(PLAIN, 124, b"99999999999\0"),
        with_field(PLAIN, 124, bytes(12)),
        with_field(entry("a", pax={"c": "d"}), 512, b"99 c=d\n"),
        with_field(entry("a", pax={"c": "d"})[:512], 124, b"77777777777\0") + PLAIN,
    ],
    ids=range(15),
)
def test_headers_when_anything_else_then_nothing_is_said(headers):
    assert announced(headers) is None
