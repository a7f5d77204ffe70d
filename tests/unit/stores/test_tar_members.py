import io
import random
import tarfile

import pytest

from support import tarmaker
from tocsin.errors import FormatError, NotFoundError, TocsinError, UnsupportedError
from tocsin.stores.tar_members import TarMembers
from tocsin.stores.window import Window

LONG = "d/" + "n" * 300


def write_tar(path, *entries, format=tarfile.PAX_FORMAT):  # noqa: A002 (tarfile's word)
    """Write members given as (name, bytes) or (name, type, link)."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, *rest in entries:
            info = tarfile.TarInfo(name)
            if isinstance(rest[0], bytes) and len(rest) == 1:
                info.size = len(rest[0])
                tar.addfile(info, io.BytesIO(rest[0]))
            else:
                info.type, info.linkname = rest
                tar.addfile(info)
    return path


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_when_names_are_long_then_they_are_read(tmp_path, kind):
    path = write_tar(
        tmp_path / "t",
        ("./a", b"1"),
        (LONG, b"22"),
        ("link", tarfile.SYMTYPE, LONG),
        ("é" * 80, b"333"),
        format=kind,
    )
    members = TarMembers(path)
    assert members.names == ["a", LONG, "link", "é" * 80]
    assert members.read(LONG, max_size=2) == b"22"
    assert members.read("link", max_size=2) == b"22"
    assert members.read("/é/../" + "é" * 80, max_size=9) == b"333"
    members.close()
    members.close()


def test_members_when_ustar_splits_a_name_then_it_is_joined(tmp_path):
    name = "p" * 90 + "/" + "n" * 90
    path = write_tar(tmp_path / "t", (name, b"x"), format=tarfile.USTAR_FORMAT)
    assert TarMembers(path).names == [name]


def test_members_when_a_name_occurs_twice_then_the_last_counts(tmp_path):
    members = TarMembers(write_tar(tmp_path / "t", ("a", b"old"), ("./a", b"new")))
    assert members.read("a", max_size=9) == b"new"


def test_members_when_links_point_outside_then_they_stay_inside(tmp_path):
    path = write_tar(
        tmp_path / "t",
        ("x.tar", b"layer"),
        ("id/layer.tar", tarfile.SYMTYPE, "../x.tar"),
        ("abs", tarfile.SYMTYPE, "/x.tar"),
        ("up", tarfile.SYMTYPE, "../../../../../etc/passwd"),
        ("hard", tarfile.LNKTYPE, "id/layer.tar"),
        ("one", tarfile.SYMTYPE, "two"),
        ("two", tarfile.SYMTYPE, "one"),
    )
    members = TarMembers(path)
    for name in ("id/layer.tar", "abs", "hard"):
        assert members.read(name, max_size=9) == b"layer"
    with pytest.raises(NotFoundError, match="etc/passwd"):
        members.window("up")
    with pytest.raises(FormatError, match="too many levels of links"):
        members.window("one")


def test_members_when_two_targets_exist_then_the_relative_one_counts(tmp_path):
    path = write_tar(
        tmp_path / "t",
        ("x", b"root"),
        ("d/x", b"beside"),
        ("d/link", tarfile.SYMTYPE, "x"),
        ("e/link", tarfile.SYMTYPE, "x"),
        ("e/hard", tarfile.LNKTYPE, "d/x"),
    )
    members = TarMembers(path)
    assert members.read("d/link", max_size=9) == b"beside"
    assert members.read("e/link", max_size=9) == b"root"
    assert members.read("e/hard", max_size=9) == b"beside"


def test_members_when_the_first_name_looks_like_bzip2_then_it_is_a_tar(tmp_path):
    assert TarMembers(write_tar(tmp_path / "t", ("BZh9", b"x"))).names == ["BZh9"]


def test_read_when_member_is_larger_than_allowed_then_it_is_refused(tmp_path):
    members = TarMembers(write_tar(tmp_path / "t", ("a", b"12345")))
    with pytest.raises(FormatError, match="at most 4"):
        members.read("a", max_size=4)


def header(**fields) -> bytearray:
    info = tarfile.TarInfo("a")
    for name, value in fields.items():
        setattr(info, name, value)
    return bytearray(info.tobuf(tarfile.GNU_FORMAT))


def with_checksum(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records: bytes) -> bytes:
    block = header(size=len(records), type=tarfile.XHDTYPE)
    return bytes(block) + records + bytes(-len(records) % 512)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (bytes(header(size=5)) + b"1234", "ends inside a file, at uncompressed byte 0"),
        (bytes(header(size=1 << 62)), "ends inside a file"),
        (bytes(header(size=10))[:300], "ends inside a block"),
        (with_checksum(header()[:124] + b"-0000000001\0" + header()[136:]), "size is invalid"),
        (with_checksum(header()[:124] + b"\xff" * 12 + header()[136:]), "size is negative"),
        (bytes(header(size=2 << 20, type=tarfile.XHDTYPE)) + bytes(2 << 20), "is too large"),
        (
            bytes(header(size=2 << 20, type=tarfile.GNUTYPE_LONGNAME)) + bytes(2 << 20),
            "is too large",
        ),
        (pax(b"0 path=x\n") + bytes(header()), "PAX record has an invalid length"),
        (pax(b"99 path=x\n") + bytes(header()), "PAX record has an invalid length"),
        (pax(b"x path=x\n") + bytes(header()), "PAX record"),
        (pax(b"11 size=-1\n") + bytes(header()), "size is negative"),
        (pax(b"11 size=99\n") + bytes(header()), "ends inside a file"),
        (b"\0" * 100 + b"x" * 412, "chksum is invalid"),
        (bytes(512) + bytes(header()), "zero block"),
        (bytes(header(size=5, type=tarfile.GNUTYPE_SPARSE)) + bytes(512), "type 'S'"),
    ],
)
def test_members_when_a_header_is_bad_then_it_is_refused(tmp_path, data, says):
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(FormatError, match=f"not a usable tar archive: .*{says}") as refusal:
        TarMembers(tmp_path / "t")
    assert refusal.value.what == "archive"


def test_members_when_one_is_sparse_then_only_that_one_is_refused(tmp_path):
    records = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "sparse",
        "GNU.sparse.realsize": "5000",
    }
    (tmp_path / "t").write_bytes(
        tarmaker.tar(
            tarmaker.entry("S/s", tarmaker.padded(b"1\n0\n4\n") + b"data", pax=records),
            tarmaker.entry("b", b"other"),
        )
    )
    members = TarMembers(tmp_path / "t")
    assert members.names == ["sparse", "b"]
    assert members.read("b", max_size=9) == b"other"
    with pytest.raises(UnsupportedError, match="sparse file"):
        members.window("sparse")


def test_members_when_types_are_unknown_then_they_are_files(tmp_path):
    (tmp_path / "t").write_bytes(
        tarmaker.tar(
            tarmaker.global_header({"path": "everywhere"}),
            tarmaker.entry("label", type=b"V", format=tarfile.GNU_FORMAT),
            tarmaker.entry("contiguous", b"data", type=tarfile.CONTTYPE),
            tarmaker.entry("d", type=tarfile.DIRTYPE),
        )
    )
    members = TarMembers(tmp_path / "t")
    assert members.names == ["label", "contiguous"]
    assert members.read("contiguous", max_size=9) == b"data"


def test_members_when_data_is_huge_then_only_headers_are_read(tmp_path, monkeypatch):
    with (tmp_path / "t").open("wb") as file:
        file.write(header(size=1 << 33))
        file.seek(1 << 33, 1)
        file.write(bytes(header(name="b", size=1)) + b"x" + bytes(511) + bytes(1 << 20))
    read = 0

    def counted(window, start, end, original=Window.read):
        nonlocal read
        read += end - start
        return original(window, start, end)

    monkeypatch.setattr(Window, "read", counted)
    assert TarMembers(tmp_path / "t").names == ["a", "b"]
    assert read == 5 * 512, "the first block twice: is it compressed?"


def test_members_when_there_are_very_many_then_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tocsin.stores.tar_members.MAX_MEMBERS", 10)
    write_tar(tmp_path / "t", *((f"{n}", b"") for n in range(21)))
    with pytest.raises(FormatError, match="more than 10 members"):
        TarMembers(tmp_path / "t")


def test_members_when_bytes_are_mutated_then_it_is_read_or_refused(tmp_path):
    path = write_tar(tmp_path / "t", (LONG, b"x" * 700), ("l", tarfile.SYMTYPE, LONG), ("b", b"y"))
    good = path.read_bytes()
    dice = random.Random(7)  # noqa: S311 (a seed, not a secret)
    for _ in range(2000):
        bad = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        path.write_bytes(bad[: dice.choice([len(bad), dice.randrange(len(bad))])])
        try:
            members = TarMembers(path)
            for name in members.names:
                members.window(name)
            members.close()
        except TocsinError:
            pass
