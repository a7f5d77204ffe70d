"""The members of an archive, compared with ``tarfile``."""

import io
import tarfile

import pytest

from support.tarmaker import entry, tar
from tocsin.errors import FormatError, TarError
from tocsin.tar.archive import Member, scan_archive


def scan(data, *, max_members=100):
    return scan_archive(lambda start, end: data[start:end], len(data), max_members=max_members)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archive_when_scanned_then_same_members_as_tarfile(form):
    names = [f"d/{'n' * length}" for length in (1, 99, 150)][: 2 if form == 0 else 3]
    data = tar(
        entry("d", type=tarfile.DIRTYPE, format=form),
        *(entry(name, b"x" * (len(name) * 10), format=form) for name in names),
        entry("h", type=tarfile.LNKTYPE, linkname=names[0], format=form),
        entry("s", type=tarfile.SYMTYPE, linkname="../x", format=form),
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = [(m.name, m.offset_data, m.size, m.linkname) for m in archive]
    assert [(m.path, m.offset, m.size, m.linkname) for m in scan(data)] == expected
    assert [m.type for m in scan(data)] == ["dir", *["reg"] * len(names), "hardlink", "symlink"]


def test_archive_when_paths_are_not_normalized_then_normalized():
    data = tar(entry("./a//b/../c", b"x"), entry("../../etc/passwd"), entry("\udcff"))
    assert [member.path for member in scan(data)] == ["a/c", "etc/passwd", "\udcff"]
    assert scan(data)[0] == Member("reg", "a/c", 512, 1, "", is_sparse=False)


def test_archive_when_empty_then_no_members():
    assert scan(b"") == scan(tar()) == []


def test_archive_when_file_is_truncated_then_tar_error():
    data = tar(entry("a", b"x" * 700), entry("b"))
    with pytest.raises(TarError, match="ends inside a file"):
        scan_archive(lambda start, end: data[:600][start:end], 800, max_members=9)
    assert scan_archive(lambda start, end: b"", 800, max_members=9) == []


def test_archive_when_too_many_members_or_headers_then_format_error():
    files = [entry(f"{number}") for number in range(6)]
    assert len(scan(tar(*files), max_members=6)) == 6
    with pytest.raises(FormatError, match="more than 5 members"):
        scan(tar(*files), max_members=5)
    records = entry("a", pax={"comment": "c" * 20_000})
    with pytest.raises(FormatError, match="more than 2 members"):
        scan(tar(records), max_members=2)
    assert len(scan(tar(records), max_members=3)) == 1
