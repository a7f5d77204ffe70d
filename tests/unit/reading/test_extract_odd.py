"""`Image.extract`: unusual entries are noted or left out, and the others are extracted."""

import errno
import os
import stat
import tarfile

import pytest

import tocsin
from support import tarmaker
from support.readable import put_image, text
from support.tarmaker import entry

DIR, LINK, HARD, CHAR = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may set owners and make devices")
NO_ID = 4294967295
PLAIN = entry("plain", b"1", mtime=7)


def extracted(place, *entries, path="/", **options):
    """Extract an image of these entries; return the destination and the result."""
    with tocsin.open(put_image(place / "layout", tarmaker.tar(*entries))) as image:
        return place / "out", image.extract(path, place / "out", **options)


def failures(result):
    return {failed.path: failed.reason for failed in result.failed}


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


# -- entries that cannot be made ---------------------------------------------------------------


def test_extract_when_a_name_is_too_long_then_the_others_are_extracted(place):
    long = "n" * 300
    out, result = extracted(
        place,
        entry(f"d/{long}", b"1"),
        entry(f"{long}/in/f", b"1"),
        entry(f"{long}l", type=LINK, linkname="plain"),
        PLAIN,
    )
    reason = "file name too long (found 300 bytes, expected at most 255)"
    assert failures(result) == {
        f"/d/{long}": reason,
        f"/{long}": reason,
        f"/{long}/in": "its directory was not extracted",
        f"/{long}/in/f": "its directory was not extracted",
        f"/{long}l": "file name too long (found 301 bytes, expected at most 255)",
    }
    assert names_in(out) == ["d", "plain"]
    assert (result.files, result.directories, result.links) == (1, 2, 0)
    assert result.notes == ()


def test_extract_when_a_target_is_empty_then_the_others_are_extracted(place):
    out, result = extracted(
        place,
        entry("link", type=LINK, linkname=""),
        entry("same", type=HARD, linkname="link"),
        PLAIN,
    )
    assert failures(result) == {
        "/link": "the link target is empty",
        "/same": "hard link to /link, which was not extracted",
    }
    assert (out / "plain").read_bytes() == b"1"


def test_extract_when_entries_are_invalid_then_the_others_are_extracted(place):
    path = "p/" * 2048 + "q"
    out, result = extracted(
        place,
        entry("d/link", type=LINK, linkname="t" * 5000),
        entry("same", type=HARD, linkname="d/link"),
        entry(path, b"1"),
        PLAIN,
    )
    assert failures(result) == {
        "/d/link": "the link target has more than 4,095 bytes, the limit of Linux",
        f"/{path[:400]}\N{HORIZONTAL ELLIPSIS}": "the path has more than 4,095 bytes, the limit of "
        "Linux",
        "/same": "hard link to d/link, which is not in the image",
    }
    assert names_in(out) == ["plain"]
    below, result = extracted(place / "again", entry("d/l", type=LINK, linkname="t" * 5000), PLAIN)
    assert names_in(below) == ["plain"]


def test_extract_when_the_first_name_is_invalid_then_another_is_used(place):
    out, result = extracted(
        place,
        entry("n" * 300, b"data"),
        entry("a", type=HARD, linkname="n" * 300),
        entry("b", type=HARD, linkname="a"),
    )
    assert list(failures(result)) == ["/" + "n" * 300]
    assert (out / "a").read_bytes() == b"data"
    assert (out / "b").samefile(out / "a")


def test_extract_when_a_hard_link_is_dangling_then_others_are_extracted(place):
    out, result = extracted(place, entry("h", type=HARD, linkname="gone"), PLAIN)
    assert failures(result) == {"/h": "hard link to gone, which is not in the image"}
    assert names_in(out) == ["plain"]


def test_extract_when_a_sparse_file_is_huge_then_the_others_are_extracted(place):
    size = str(1 << 62)
    sparse = {"GNU.sparse.size": size, "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,3"}
    out, result = extracted(place, entry("huge", b"abc", pax=sparse), PLAIN)
    assert failures(result) == {"/huge": "file too large"}
    assert names_in(out) == ["plain"]


@as_root
def test_extract_when_a_device_number_is_invalid_then_others_are_extracted(place):
    device = entry("dev", type=CHAR, format=tarfile.GNU_FORMAT, devmajor=1, devminor=3)
    device = tarmaker.with_field(device, 329, b"\x80\x00\x00\x7f\xff\xff\xff\xff")
    out, result = extracted(place, device, PLAIN, devices=True)
    if not result.specials:
        assert list(failures(result)) == ["/dev"]
    assert (out / "plain").read_bytes() == b"1"


def test_extract_when_the_only_file_cannot_be_made_then_os_error(place):
    (place / "out/f").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as caught:
        extracted(place, entry("f", b"1"), path="f")
    assert caught.value.filename == str(place / "out/f")


def refusing(monkeypatch, function, code, *, times=99):
    """Make the next `times` calls of a function of `os` fail with an error."""
    real = getattr(os, function)
    left = [times]

    def refuse(*arguments, **options):
        if left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    monkeypatch.setattr(os, function, refuse)


SEVERAL = (
    entry("a", b"1", mtime=5),
    entry("b", type=HARD, linkname="a", mtime=5),
    entry("c", type=LINK, linkname="a"),
    entry("d", type=tarfile.FIFOTYPE),
    entry("e/f", text(3_000_000), mtime=6),
)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.EMLINK])
@pytest.mark.parametrize(
    ("function", "missing"), [("symlink", "c"), ("link", "b"), ("mknod", "d"), ("pwrite", "f")]
)
def test_extract_when_one_file_is_refused_then_the_others_are_extracted(
    place, monkeypatch, function, missing, code
):
    done = []
    with tocsin.open(put_image(place / "layout", tarmaker.tar(*SEVERAL))) as image:
        assert image.layers
        refusing(monkeypatch, function, code, times=1)
        out = place / "out"
        result = image.extract("/", out, progress=done.append)
    assert [path.rpartition("/")[2] for path in failures(result)] == [missing]
    assert list(failures(result).values()) == [os.strerror(code).lower()]
    made = {path.name for path in out.rglob("*")}
    assert made == {"a", "b", "c", "d", "e", "f"} - {missing}
    assert (done[-1].done, done[-1].total) == (3_000_001, 3_000_001)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("function", ["symlink", "link", "mknod", "pwrite", "write", "mkdir"])
def test_extract_when_the_disk_fails_then_it_stops(place, monkeypatch, function, code):
    with tocsin.open(put_image(place / "layout", tarmaker.tar(*SEVERAL))) as image:
        assert image.layers
        refusing(monkeypatch, function, code)
        with pytest.raises(OSError, match=r".+") as caught:
            image.extract("/", place / "out")
    assert caught.value.errno == code


# -- metadata that is not preserved ------------------------------------------------------------


@as_root
@pytest.mark.parametrize("owners", [True, False])
def test_extract_when_an_owner_is_not_a_valid_id_then_unchanged(place, owners):
    out, result = extracted(
        place,
        entry("uid", b"1", mode=0o4755, pax={"uid": str(NO_ID), "gid": "7"}),
        entry("gid", b"1", pax={"uid": "7", "gid": str(NO_ID)}),
        entry("d/", type=DIR, mode=0o755, pax={"uid": str(NO_ID), "gid": str(NO_ID)}),
        owners=owners,
    )
    assert result.failed == ()
    found = {name: (out / name).stat() for name in ("uid", "gid", "d")}
    if owners:
        # As containerd 1.6.20 unpacks this layer.
        owned = {name: (status.st_uid, status.st_gid) for name, status in found.items()}
        assert owned == {"uid": (0, 7), "gid": (7, 0), "d": (0, 0)}
        assert stat.S_IMODE(found["uid"].st_mode) == 0o4755
        assert result.notes == (f"owner not preserved ({NO_ID} means no owner): /uid, /gid, /d",)
    else:
        assert stat.S_IMODE(found["uid"].st_mode) == 0o755


MAX_SECONDS = 9223372036
"""2262-04-11; containerd 1.6.20 unpacks 9223372036.5 unchanged, and 9223372037 as 0."""


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("-1", 0),
        ("-5.5", 0),
        ("-62135596800", 0),
        (f"{MAX_SECONDS}.5", MAX_SECONDS * 10**9 + 5 * 10**8),
        (f"{MAX_SECONDS + 1}", 0),
        ("253402300799", 0),
        ("253402300800", 0),
    ],
)
def test_extract_when_a_time_is_out_of_range_then_it_is_1970(place, time, expected):
    entries = [
        entry("f", b"1", pax={"mtime": time}),
        entry("d/", type=DIR, mode=0o755, pax={"mtime": time}),
        entry("l", type=LINK, linkname="f", pax={"mtime": time}),
    ]
    with tocsin.open(put_image(place / "layout", tarmaker.tar(*entries))) as image:
        result = image.extract("/", place / "out")
        for name in ("f", "d", "l"):
            assert (place / "out" / name).lstat().st_mtime_ns == expected, name
        assert result.failed == ()
        note = "time not preserved (before 1970 or after 2262): /l, /f, /d"
        # A zTOC cannot represent the year 10000, so that time is not noted.
        assert result.notes in (((note,), ()) if not expected else ((),))
        again = image.extract("/", place / "out")
    assert (again.unchanged, again.files) == (2, 0)


def test_extract_when_attributes_are_trusted_then_noted_and_not_set(place):
    trusted = {"SCHILY.xattr.trusted.overlay.opaque": "y"}
    out, result = extracted(
        place,
        entry("f", b"1", pax=trusted),
        entry("d/", type=DIR, mode=0o755, pax=trusted),
        entry("l", type=LINK, linkname="f", pax=trusted),
    )
    for name in ("f", "d", "l"):
        assert "trusted.overlay.opaque" not in os.listxattr(out / name, follow_symlinks=False)
    assert result.failed == ()
    assert result.notes == (
        "extended attribute trusted.overlay.opaque not preserved (trusted attributes are never "
        "set): /l, /f, /d",
    )


@pytest.mark.parametrize("key", ["nonsense", "user.", "user." + "k" * 300, "system.nonsense"])
def test_extract_when_an_attribute_is_refused_then_noted(place, key):
    out, result = extracted(place, entry("f", b"1", pax={f"SCHILY.xattr.{key}": "1"}), PLAIN)
    assert (out / "f").read_bytes() == b"1"
    assert result.failed == ()
    (note,) = result.notes
    assert note.startswith(f"extended attribute {key} not preserved (")
    assert note.endswith("): /f")


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.EOVERFLOW])
@pytest.mark.parametrize(
    ("functions", "what"),
    [(("fchmod", "chmod"), "mode"), (("utime",), "time"), (("fchown", "chown"), "owner")],
)
def test_extract_when_metadata_is_refused_then_noted(place, monkeypatch, functions, what, code):
    with monkeypatch.context() as patch:
        for function in functions:
            refusing(patch, function, code)
        out, result = extracted(place, *SEVERAL, entry("s", b"1", mode=0o4755), owners=True)
    assert result.failed == ()
    assert {path.name for path in out.rglob("*")} == {"a", "b", "c", "d", "e", "f", "s"}
    notes = [note for note in result.notes if note.startswith(f"{what} not preserved (")]
    assert len(notes) == 1
    assert os.strerror(code).lower() in notes[0]


@as_root
def test_extract_when_an_owner_is_refused_then_no_set_id_for_another(place, monkeypatch):
    refusing(monkeypatch, "fchown", errno.EPERM)
    out, _ = extracted(place, entry("f", b"1", mode=0o6755, uid=5, gid=5))
    assert stat.S_IMODE((out / "f").stat().st_mode) == 0o755


@pytest.mark.parametrize("function", ["fchmod", "utime", "setxattr"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EDQUOT, errno.EROFS])
def test_extract_when_the_disk_fails_at_metadata_then_it_stops(place, monkeypatch, function, code):
    made = tarmaker.tar(entry("f", b"1", pax={"SCHILY.xattr.user.a": "1"}))
    with tocsin.open(put_image(place / "layout", made)) as image:
        assert image.layers
        refusing(monkeypatch, function, code)
        with pytest.raises(OSError, match=r".+") as caught:
            image.extract("/", place / "out")
    assert caught.value.errno == code


# -- hard links with different metadata --------------------------------------------------------


@as_root
def test_extract_when_a_hard_link_has_metadata_then_the_file_has_it(place):
    """The case ``hardlink-meta``, as ``archive.Apply`` of containerd 1.7.27 unpacks it."""
    out, result = extracted(
        place,
        entry("f", b"1", mode=0o600, uid=1, gid=2, mtime=1000),
        entry("h", type=HARD, linkname="f", mode=0o755, uid=5, gid=6, mtime=2000),
        entry("d/f", b"2", mode=0o600),
        entry("d/g", type=HARD, linkname="d/f", mode=0o700, mtime=3),
    )
    assert (out / "f").samefile(out / "h")
    status = (out / "f").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 5, 6)
    assert status.st_mtime == 2000
    assert stat.S_IMODE((out / "d/f").stat().st_mode) == 0o700
    assert (result.files, result.links) == (2, 2)
    with tocsin.open(f"oci:{place}/layout:plain") as image:
        assert image.extract("/", out).unchanged == 4
        image.extract("/f", place / "alone")
    assert (place / "alone").stat().st_mtime == 2000


def test_extract_when_a_symlink_has_hard_links_then_metadata_of_the_last(place):
    out, _ = extracted(
        place,
        entry("l", type=LINK, linkname="f", mtime=1000),
        entry("l2", type=HARD, linkname="l", mode=0o600, mtime=3000),
    )
    assert (out / "l").lstat().st_mtime == 3000
    assert (out / "l").lstat().st_ino == (out / "l2").lstat().st_ino
