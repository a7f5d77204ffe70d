"""`Image.extract`: the files on disk, as the functions of ``os`` report them."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
import tarfile

import pytest
import zstandard

import tocsin
from support import tarmaker
from support.disks import NOBODY, fill_up, tiny_disk, unprivileged
from support.images import image_of
from support.layout_files import LayoutFiles
from support.readable import put_image, put_indexed, text
from support.tarmaker import entry
from tocsin.errors import PathError, VerificationError
from tocsin.layers.zstd import unpack_zstd
from tocsin.reading import opening
from tocsin.reading.destination import Destination, NotMadeError
from tocsin.reading.metadata import Metadata
from tocsin.stores.layout import OciLayout

DIR, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
BIG = text(3_000_000)
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root may set owners and make devices")
PLAIN = Metadata(0o644, os.geteuid(), os.getegid(), 5, {})


def layer(*entries):
    return tarmaker.tar(*entries)


def opened(place, *tars, **options):
    return tocsin.open(put_image(place / "layout", *tars), **options)


def extracted(place, *tars, path="/", **options):
    """Extract an image; return the destination and the result."""
    with opened(place, *tars) as image:
        return place / "out", image.extract(path, place / "out", **options)


def names_in(directory):
    return sorted(os.fsencode(path.name) for path in directory.iterdir())


def snapshot(top):
    """Return mode, time, and data, target or device of everything below a directory, by path."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        data = (
            str(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else status.st_rdev
        )
        found[str(path.relative_to(top))] = (status.st_mode, status.st_mtime_ns, data)
    return found


MIXED = layer(
    entry("etc/", type=DIR, mode=0o750, mtime=1000),
    entry("etc/conf", b"conf", mode=0o640, mtime=2000),
    entry("etc/empty", mode=0o600, mtime=2001),
    entry("usr/share/big", BIG, mode=0o755, mtime=3000, pax={"mtime": "3000.123456789"}),
    entry(
        "usr/twin",
        type=HARD,
        linkname="usr/share/big",
        mode=0o755,
        mtime=3000,
        pax={"mtime": "3000.123456789"},
    ),
    entry("usr/link", type=LINK, linkname="../etc/conf", mode=0o777, mtime=4000),
    entry("run/pipe", type=tarfile.FIFOTYPE, mode=0o620, mtime=5000),
)
TWICE = 2


# -- extracted files ---------------------------------------------------------------------------


def test_extract_when_a_whole_image_then_everything_is_as_in_the_tar(place):
    out, result = extracted(place, MIXED, layer(entry("etc/conf", b"upper", mode=0o4711, mtime=7)))
    file, folder, link, pipe = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO
    kept = 0o4711 if ROOT else 0o711
    assert snapshot(out) == {
        "etc": (folder | 0o750, 1000 * 10**9, 0),
        "etc/conf": (file | kept, 7 * 10**9, b"upper"),
        "etc/empty": (file | 0o600, 2001 * 10**9, b""),
        "run": (folder | 0o755, 0, 0),
        "run/pipe": (pipe | 0o620, 5000 * 10**9, 0),
        "usr": (folder | 0o755, 0, 0),
        "usr/link": (link | 0o777, 4000 * 10**9, "../etc/conf"),
        "usr/share": (folder | 0o755, 0, 0),
        "usr/share/big": (file | 0o755, 3000_123456789, BIG),
        "usr/twin": (file | 0o755, 3000_123456789, BIG),
    }
    assert (out / "usr/twin").stat().st_ino == (out / "usr/share/big").stat().st_ino
    assert (result.files, result.directories, result.links, result.specials) == (3, 5, 2, 1)
    assert (result.size, result.unchanged, result.skipped) == (5 + len(BIG), 0, ())


def test_extract_when_a_directory_then_it_becomes_the_destination(place):
    out, result = extracted(place, MIXED, path="etc")
    assert sorted(snapshot(out)) == ["conf", "empty"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o750
    assert out.stat().st_mtime_ns == 1000 * 10**9
    assert result.directories == 1


def test_extract_when_path_is_a_link_then_followed_only_with_a_slash(place):
    made = layer(entry("d/x", b"1"), entry("l", type=LINK, linkname="d"))
    with opened(place, made) as image:
        image.extract("l", place / "one")
        image.extract("l/", place / "two")
    assert str((place / "one").readlink()) == "d"
    assert (place / "two/x").read_bytes() == b"1"


def test_extract_when_link_target_is_outside_then_the_link_is_a_file(place):
    out, result = extracted(place, MIXED, path="usr/twin")
    assert out.read_bytes() == BIG
    assert (out.stat().st_nlink, result.files, result.links) == (1, 1, 0)


@pytest.mark.parametrize("exists", [False, True])
def test_extract_when_one_file_then_it_goes_where_cp_puts_it(place, exists):
    if exists:
        (place / "out").mkdir()
    out, result = extracted(place, MIXED, path="/etc/conf")
    file = out / "conf" if exists else out
    assert file.read_bytes() == b"conf"
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_mtime) == (0o640, 2000)
    assert sorted(p.name for p in (place / "out").glob("*")) == (["conf"] if exists else [])
    assert sorted(p.name for p in place.iterdir()) == ["layout", "out"]
    assert result.files == 1


def test_extract_when_path_is_missing_then_path_error(place):
    with opened(place, MIXED) as image, pytest.raises(PathError, match="no such file"):
        image.extract("/nope", place / "out")
    assert not (place / "out").exists()


@as_root
def test_extract_when_root_then_files_and_links_have_the_images_owners(place):
    owned = {"uid": 1234, "gid": 4321}
    made = layer(
        entry("d/", type=DIR, mode=0o755, **owned),
        entry("d/f", b"1", mode=0o6755, **owned),
        entry("d/l", type=LINK, linkname="f", **owned),
        entry("d/p", type=tarfile.FIFOTYPE, **owned),
    )
    out, _ = extracted(place, made)
    for name in ("d", "d/f", "d/l", "d/p"):
        status = (out / name).lstat()
        assert (status.st_uid, status.st_gid) == (1234, 4321), name
    assert stat.S_IMODE((out / "d/f").stat().st_mode) == 0o6755
    with opened(place, made) as image:
        result = image.extract("/", place / "mine", owners=False)
    status = (place / "mine/d/f").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o755)
    assert result.notes == (
        "set-id bits not preserved (the file has another owner in the image): /d/f",
    )


@as_root
def test_extract_when_not_root_then_set_id_bits_only_for_the_same_owner(place):
    own = {"uid": NOBODY, "gid": os.getegid()}
    with opened(
        place, layer(entry("own", b"1", mode=0o6755, **own), entry("root", b"1", mode=0o4755))
    ) as image:
        assert image.layers
        (place / "for").mkdir()
        os.chown(place / "for", NOBODY, -1)
        with unprivileged():
            image.extract("/", place / "for/out")
    assert stat.S_IMODE((place / "for/out/own").stat().st_mode) == 0o6755
    assert stat.S_IMODE((place / "for/out/root").stat().st_mode) == 0o755


@as_root
def test_extract_when_not_root_then_read_only_directories_are_filled(place):
    made = layer(
        entry("shut/", type=DIR, mode=0o555, mtime=9),
        entry("shut/in/", type=DIR, mode=0, mtime=8),
        entry("shut/in/f", b"1", mtime=7),
    )
    with opened(place, made) as image:
        assert image.layers
        (place / "for").mkdir()
        os.chown(place / "for", NOBODY, -1)
        with unprivileged():
            image.extract("/", place / "for/out")
        first = snapshot(place / "for/out")
        (place / "for/out/shut/in/f").unlink()
        with unprivileged():
            image.extract("/", place / "for/out")
    assert snapshot(place / "for/out") == first
    assert stat.S_IMODE((place / "for/out/shut/in").stat().st_mode) == 0


def test_extract_when_files_have_attributes_then_preserved_or_noted(place, monkeypatch):
    made = layer(
        entry("d/", type=DIR, pax={"SCHILY.xattr.user.d": "dir"}),
        entry("f", b"1", mode=0o400, pax={"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": ""}),
    )
    out, result = extracted(place, made)
    if result.notes:
        pytest.skip("no attributes on this file system")
    assert {k: os.getxattr(out / "f", k) for k in os.listxattr(out / "f")} == {
        "user.a": b"1",
        "user.b": b"",
    }
    assert os.getxattr(out / "d", "user.d") == b"dir"

    def refused(*_args, **_options):
        raise OSError(errno.ENOTSUP, "no")

    monkeypatch.setattr(os, "setxattr", refused)
    with opened(place, made) as image:
        result = image.extract("/", place / "again")
    assert (place / "again/f").read_bytes() == b"1"
    assert result.notes == (
        "extended attribute user.a not preserved (operation not supported): /f",
        "extended attribute user.b not preserved (operation not supported): /f",
        "extended attribute user.d not preserved (operation not supported): /d",
    )


@as_root
def test_extract_when_device_nodes_then_made_only_if_requested(place):
    made = layer(
        entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666, mtime=5),
        entry("dev/twin", type=HARD, linkname="dev/null", mode=0o666, mtime=5),
    )
    out, result = extracted(place, made)
    assert snapshot(out) == {"dev": (stat.S_IFDIR | 0o755, 0, 0)}
    assert result.skipped == (
        tocsin.SkippedFile(
            "/dev/null", "device node, extracted only with --devices (devices=True)"
        ),
    )
    with opened(place, made) as image:
        try:
            image.extract("/", place / "all", devices=True)
        except PermissionError:
            pytest.skip("device nodes cannot be made on this machine")
        (place / "for").mkdir()
        os.chown(place / "for", NOBODY, -1)
        with unprivileged():
            (failed,) = image.extract("/dev/null", place / "for/out", devices=True).failed
    status = (place / "all/dev/null").lstat()
    assert (status.st_mode, status.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (status.st_mtime, status.st_nlink) == (5, 2)
    assert failed.reason == "device node, which only root can make"


# -- nothing is written outside the destination ------------------------------------------------


def test_extract_when_image_has_links_then_nothing_is_written_outside(place):
    outside = place / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("mine")
    before = snapshot(outside)
    up = "../" * 30
    out, result = extracted(
        place,
        layer(
            entry("a", type=LINK, linkname=str(outside)),
            entry("a/passwd", b"evil"),
            entry("b", type=LINK, linkname=f"{up}{outside}"),
            entry("b/new", b"evil"),
            entry("../../c", b"up"),
            entry("/d", b"absolute"),
            entry("e", type=HARD, linkname=f"{up}{outside}/passwd"),
            entry("f", type=HARD, linkname="../../none"),
            entry("g", type=LINK, linkname=str(outside / "passwd")),
            entry("h", type=HARD, linkname="g"),
        ),
        layer(entry("g", b"file now")),
        layer(entry("a/later", b"evil")),
    )
    assert snapshot(outside) == before
    assert sorted(p.name for p in place.iterdir()) == ["layout", "out", "outside"]
    assert (out / "c").read_bytes() == b"up"
    assert (out / "d").read_bytes() == b"absolute"
    assert str((out / "a").readlink()) == str(outside)
    assert str((out / "h").readlink()) == str(outside / "passwd")
    inside = out / str(outside).lstrip("/")
    assert (inside / "passwd").read_bytes() == b"evil"
    assert (inside / "later").read_bytes() == b"evil"
    assert (out / "e").read_bytes() == b"evil"
    assert [failed.path for failed in result.failed] == ["/f"]


def test_extract_when_destination_has_links_then_replaced_not_followed(place):
    outside = place / "outside"
    outside.mkdir()
    (outside / "conf").write_text("mine")
    before = snapshot(outside)
    out = place / "out"
    (out / "usr").mkdir(parents=True)
    (out / "etc").symlink_to(outside)
    (out / "usr/share").symlink_to(outside)
    (out / "usr/twin").symlink_to(outside / "conf")
    (out / "usr/link").symlink_to(outside)
    (out / "run").write_text("a file")
    extracted(place, MIXED)
    assert snapshot(outside) == before
    assert not (out / "etc").is_symlink()
    assert (out / "etc/conf").read_bytes() == b"conf"
    assert (out / "usr/twin").read_bytes() == BIG
    assert str((out / "usr/link").readlink()) == "../etc/conf"
    assert stat.S_ISFIFO((out / "run/pipe").lstat().st_mode)


def test_extract_when_a_directory_has_a_files_name_then_that_file_fails(place):
    (place / "out/etc/conf/mine").mkdir(parents=True)
    out, result = extracted(place, MIXED)
    assert result.failed == (tocsin.SkippedFile("/etc/conf", "a directory has this name"),)
    assert (out / "etc/conf/mine").is_dir()
    assert (out / "usr/twin").read_bytes() == BIG


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\0b", "n" * 256, "ü" * 128])
def test_destination_when_a_name_is_invalid_then_error(tmp_path, name):
    with Destination(tmp_path / "out", owners=False) as destination:
        for make in (
            lambda: destination.make_directory("", name),
            lambda: destination.put_bytes(memoryview(b"1"), "", name, PLAIN),
            lambda: destination.make_symlink("t", "", name, PLAIN),
            lambda: destination.lstat("", name),
        ):
            with pytest.raises(OSError, match=r"not a valid file name|expected at most 255"):
                make()
        destination.put_bytes(memoryview(b"1"), "", "ü" * 127, PLAIN)
    assert names_in(tmp_path) == [b"out"]
    assert names_in(tmp_path / "out") == [("ü" * 127).encode()]


@pytest.mark.parametrize("target", ["", "a\0b", "t" * 5000])
def test_destination_when_a_link_target_is_invalid_then_error(tmp_path, target):
    with Destination(tmp_path / "out", owners=False) as destination:
        with pytest.raises(NotMadeError, match=r"target|too long"):
            destination.make_symlink(target, "", "l", PLAIN)
        destination.make_symlink("t", "", "l", PLAIN)
    assert names_in(tmp_path / "out") == [b"l"]


@pytest.mark.parametrize("path", ["..", "../x", "d/../..", "l", "l/x", "f"])
def test_destination_when_a_parent_is_not_a_directory_then_error(tmp_path, path):
    (tmp_path / "x").mkdir()
    with Destination(tmp_path / "out", owners=False) as destination:
        destination.make_directory("", "d")
        destination.make_symlink("..", "", "l", PLAIN)
        destination.put_bytes(memoryview(b"1"), "", "f", PLAIN)
        with pytest.raises(OSError, match=r".+"):
            destination.put_bytes(memoryview(b"1"), path, "evil", PLAIN)
    assert names_in(tmp_path) == [b"out", b"x"]
    assert not names_in(tmp_path / "x")


def test_extract_when_paths_are_longer_than_path_max_then_extracted(place):
    # The path in the image has the maximum length, so below the destination it is too long for any
    # system call.
    names = [f"{number:02}" + "d" * 200 for number in range(20)]
    made = layer(entry("/".join([*names, "f"]), b"deep"), entry("e/g", b"flat"))
    place = place / ("p" * 100)
    place.mkdir()
    out, result = extracted(place, made)
    fd = os.open(out, os.O_RDONLY)
    for name in names:
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("f", os.O_RDONLY, dir_fd=fd)
    assert os.read(file, 9) == b"deep"
    os.close(file)
    os.close(fd)
    assert result.directories == len(names) + 2
    # shutil cannot remove it in older versions of Python.
    subprocess.run(["rm", "-rf", out], check=True)  # noqa: S603, S607


def test_extract_when_names_are_not_utf8_then_their_bytes_are_preserved(place):
    out, _ = extracted(place, layer(entry("\udcff\udcfe/\udce4", b"1")))
    assert names_in(out) == [b"\xff\xfe"]
    assert names_in(out / "\udcff\udcfe") == [b"\xe4"]


# -- repeated runs -----------------------------------------------------------------------------


def test_extract_when_run_again_then_only_missing_files_are_fetched(place):
    with tocsin.open(put_indexed(place / "layout", MIXED)) as image:
        out = place / "out"
        image.extract("/", out)
        first = snapshot(out)
    with tocsin.open(f"oci:{place}/layout:soci") as image:
        assert image._merged.tree
        before = image.traffic
        result = image.extract("/", out)
        assert image.traffic == before
        assert (result.files, result.links, result.unchanged, result.size) == (0, 0, 6, 0)
        (out / "etc/conf").unlink()
        (out / "etc/empty").write_text("other")
        (out / "usr/link").unlink()
        (out / "usr/link").symlink_to("elsewhere")
        os.utime(out / "run/pipe", (1, 1))
        result = image.extract("/", out)
        assert (result.files, result.links, result.specials, result.unchanged) == (2, 1, 1, 2)
        assert snapshot(out) == first
        (out / "usr/share/big").unlink()
        image.extract("/", out)
    assert (out / "usr/share/big").stat().st_ino == (out / "usr/twin").stat().st_ino
    assert snapshot(out) == first


def test_extract_when_overwriting_then_everything_is_written_again(place):
    extracted(place, MIXED)
    conf = place / "out/etc/conf"
    conf.write_bytes(b"CONF")
    os.utime(conf, ns=(2000 * 10**9, 2000 * 10**9))
    _, result = extracted(place, MIXED)
    assert (conf.read_bytes(), result.files) == (b"CONF", 0)
    _, result = extracted(place, MIXED, overwrite=True)
    assert (conf.read_bytes(), result.files, result.unchanged) == (b"conf", 3, 0)


@pytest.mark.parametrize("after", [1, 1_500_000, len(BIG)])
def test_extract_when_stopped_then_the_next_run_completes_it(place, after):
    class StopError(Exception):
        pass

    def progress(event):
        if event.done >= after:
            raise StopError

    many = layer(*(entry(f"a/{number}", text(30_000, number)) for number in range(40)))
    with opened(place, MIXED, many) as image:
        with pytest.raises(StopError):
            image.extract("/", place / "out", progress=progress)
        assert not list((place / "out").glob(".tocsin*"))
        image.extract("/", place / "whole")
        for name, found in snapshot(place / "out").items():
            if not stat.S_ISDIR(found[0]):
                assert found == snapshot(place / "whole")[name]
        image.extract("/", place / "out")
    assert snapshot(place / "out") == snapshot(place / "whole")


def test_extract_when_a_run_was_killed_then_its_staging_is_removed(place):
    out = place / "out"
    left = out / ".tocsin-extract-0011223344556677"
    left.mkdir(parents=True)
    (left / "new").write_text("half")
    with Destination(out, owners=False):
        assert not left.exists()
        (busy,) = out.iterdir()
        with Destination(out, owners=False):
            assert busy.exists()
    assert not list(out.iterdir())


def test_extract_when_progress_is_given_then_called_from_0_to_total(place):
    events = []
    extracted(place, MIXED, progress=lambda event: events.append((event.done, event.total)))
    assert events[0] == (0, 4 + len(BIG))
    assert events[-1] == (4 + len(BIG),) * TWICE
    assert events == sorted(events)
    assert len(events) > TWICE


@pytest.mark.parametrize("cache_size", [1, 1 << 20])
def test_extract_when_the_cache_is_small_then_files_are_correct(place, cache_size):
    files = {f"d{number % 300}/f{number}": text(number * 7 % 5000, number) for number in range(900)}
    tar = layer(*(entry(name, data) for name, data in files.items()), entry("big", BIG))
    with tocsin.open(put_indexed(place / "layout", tar), cache_size=cache_size) as image:
        image.extract("/", place / "out")
    found = {str(p.relative_to(place / "out")): p for p in (place / "out").rglob("*")}
    assert {name: p.read_bytes() for name, p in found.items() if p.is_file()} == {
        **files,
        "big": BIG,
    }


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 3, 1_000_000])
def test_extract_when_the_disk_is_full_then_error_and_no_partial_file(place, monkeypatch, room):
    with opened(place, MIXED) as image:
        assert image.layers
        fill_up(monkeypatch, room)
        with pytest.raises(OSError, match="the disk is full") as caught:
            image.extract("/", place / "out")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename.startswith(f"{place}/out/")
    names = {name for name, found in snapshot(place / "out").items() if stat.S_ISREG(found[0])}
    assert names <= {"etc/conf", "etc/empty"}


@as_root
def test_extract_when_writing_is_denied_then_error_names_the_destination(place):
    with opened(place, MIXED) as image:
        assert image.layers
        (place / "out").mkdir(mode=0o755)
        with unprivileged(), pytest.raises(PermissionError, match="no write permission") as caught:
            image.extract("/", place / "out")
    assert caught.value.filename == str(place / "out")


def test_extract_when_the_disk_is_tiny_then_error_and_only_complete_files(place):
    with tiny_disk(place / "out", size=256 << 10) as out:
        with pytest.raises(OSError, match="the disk is full") as caught:
            extracted(place, MIXED)
        assert caught.value.filename in {str(out / "usr/share/big"), str(out / "usr/twin")}
        assert (out / "etc/conf").read_bytes() == b"conf"
        assert not list(out.rglob("big")) + list(out.rglob("twin"))
        assert not list(out.glob(".tocsin*"))


def test_extract_when_a_span_is_corrupt_then_the_error_names_the_file(place):
    tar = layer(entry("a", text(1000)), entry("dir/big", text(2_000_000, 1)))
    reference = put_indexed(place / "layout", tar)
    manifest = LayoutFiles(place / "layout").image("plain")
    digest = manifest["layers"][0]["digest"]
    blob = place / "layout/blobs" / digest.replace(":", "/")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    with tocsin.open(reference) as image, pytest.raises(VerificationError) as caught:
        image.extract("/", place / "out")
    assert caught.value.__notes__ == ["at file /dir/big"]
    assert hashlib.sha256((place / "out/a").read_bytes()).digest() == (
        hashlib.sha256(text(1000)).digest()
    )
    assert not (place / "out/dir/big").exists()
    assert not list((place / "out").glob(".tocsin*"))


# -- unusual layers ----------------------------------------------------------------------------


def test_extract_when_links_have_a_size_then_the_next_files_are_found(place):
    """A hard link has no data, but cpio and star give it the size of the file."""
    made = layer(
        entry("a", b"data"),
        entry("b", type=HARD, linkname="a", size=4000),
        entry("c", b"after"),
        entry("d", type=LINK, linkname="a", size=5000),
        entry("e", b"last", pax={"mtime": "1.25"}),
    )
    out, _ = extracted(place, made)
    assert [(out / name).read_bytes() for name in "abcde"] == [
        b"data",
        b"data",
        b"after",
        b"data",
        b"last",
    ]


def test_extract_when_a_layer_is_zstd_then_it_is_streamed_once(place, monkeypatch):
    files = {f"f{number}": text(400_000, number) for number in range(60)}
    tar = layer(*(entry(name, data) for name, data in files.items()), entry("big", BIG))
    zstd = zstandard.ZstdCompressor(1).compress(tar)
    with OciLayout(place / "layout", write=True) as store:
        image_of((zstd, "application/vnd.oci.image.layer.v1.tar+zstd")).put(store, "t")
    starts = []

    def unpack(pieces):
        starts.append(pieces)
        return unpack_zstd(pieces)

    monkeypatch.setattr(opening, "unpack_zstd", unpack)
    with tocsin.open(f"oci:{place}/layout:t") as image:
        assert image.layers  # to make the zTOC it is read, too
        starts.clear()
        image.extract("/", place / "out")
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == {
        **files,
        "big": BIG,
    }
    assert len(starts) == 1


def test_extract_when_its_process_dies_then_the_next_run_completes_it(place):
    reference = put_image(place / "layout", MIXED)
    code = (
        "import os, sys, tocsin\n"
        "def die(event):\n"
        "    if event.done > 2_000_000: os._exit(9)\n"
        "tocsin.open(sys.argv[1]).extract('/', sys.argv[2], progress=die)\n"
    )
    command = [sys.executable, "-c", code, reference, str(place / "out")]
    assert subprocess.run(command, check=False).returncode == 9  # noqa: S603
    (left,) = (place / "out").glob(".tocsin*")
    assert not list((place / "out").rglob("big")) + list((place / "out").rglob("twin"))
    with tocsin.open(reference) as image:
        image.extract("/", place / "out")
        image.extract("/", place / "whole")
    assert not left.exists()
    assert snapshot(place / "out") == snapshot(place / "whole")
