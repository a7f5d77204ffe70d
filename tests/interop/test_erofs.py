"""The kernel mounts our EROFS images, and shows what other tools unpack."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from support.erofs import make_erofs, mounted, mounted_erofs
from support.images import image_of
from support.tarmaker import entry, tar
from support.tools import tool
from support.tree_snapshot import snapshot
from tocsin.model.media_types import OCI_LAYER
from tocsin.stores.layout import OciLayout

pytestmark = pytest.mark.interop

LONGEST = "n" * 255


def directory(name, *, mode=0o755, mtime=5, **fields):
    return entry(name, type=tarfile.DIRTYPE, mode=mode, mtime=mtime, **fields)


def link(kind, name, target, **fields):
    return entry(name, type=kind, linkname=target, **fields)


def unpack(place, layers):
    """Return the tree that umoci makes of layers."""
    umoci = tool("umoci")
    layout = place / "layout"
    with OciLayout(layout, write=True) as store:
        image_of(*((layer, OCI_LAYER) for layer in layers)).put(store, "t")
    umoci("unpack", "--image", f"{layout}:t", place / "bundle")
    return place / "bundle" / "rootfs"


LOWER = tar(
    directory("./", mode=0o751, mtime=1_000_000_000),
    directory("a"),
    directory("a/sub", uid=1, gid=2**31),
    entry("a/empty", mtime=7),
    entry("a/one", b"1", mode=0o4755, mtime=8.123456789, pax={"mtime": "8.123456789"}),
    entry("a/block", b"b" * 512),
    entry("a/more", b"m" * 513, mtime=-(2**31)),
    entry("a/-before-dots", b"x"),
    entry("a/large", os.urandom(3 << 20)),
    entry(f"a/{LONGEST}", b"long"),
    entry("a/\udcff\udc80é", b"not UTF-8", format=tarfile.GNU_FORMAT),
    entry("a/hidden", b"h"),
    entry("a/replaced", b"r" * 5000),
    entry("a/xattr", b"x", pax={"SCHILY.xattr.user.k": "v" * 3000, "SCHILY.xattr.trusted.t": "t"}),
    directory("a/xattrs", pax={f"SCHILY.xattr.user.{n:03}": "v" * n for n in range(1, 40)}),
    link(tarfile.SYMTYPE, "short", "a/one"),
    link(tarfile.SYMTYPE, "middle", "m/" * 255 + "m"),
    link(tarfile.SYMTYPE, "longest", "./" * 2047),
    link(tarfile.SYMTYPE, "marked", "x", pax={"SCHILY.xattr.trusted.t": "t" * 600}),
    # Unlike containerd, umoci ignores the metadata of hard links.
    link(tarfile.LNKTYPE, "a/second", "a/large"),
    link(tarfile.LNKTYPE, "third", "short"),
    entry("fifo", type=tarfile.FIFOTYPE, mode=0o640),
    entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    entry("disk", type=tarfile.BLKTYPE, devmajor=259, devminor=1_000_000),
)
UPPER = tar(
    directory("a", mtime=11, uid=3),
    entry("a/.wh.hidden"),
    entry("a/replaced", b"new", mtime=12),
    directory("b", mtime=13),
    entry("b/f", os.urandom(70_000), mtime=14),
    link(tarfile.LNKTYPE, "b/again", "a/second"),
)


def test_mount_when_layers_have_everything_then_as_umoci_unpacks_them(place):
    layers = [LOWER, UPPER]
    expected = snapshot(unpack(place, layers))
    with mounted_erofs(place, layers) as top:
        found = snapshot(top)
        assert found.keys() == expected.keys()
        for path, row in expected.items():
            assert found[path] == row, path
        assert {path: (top / path).lstat().st_nlink for path in found} == {
            path: (place / "bundle" / "rootfs" / path).lstat().st_nlink for path in expected
        }
        assert (top / "a" / "large").stat().st_size == 3 << 20


def test_mount_when_layer_is_of_a_machine_then_as_tar_has_it(place):
    run = tool("tar")
    source = Path("/usr/share/perl")
    run("--format=pax", "--xattrs", "-C", source, "-cf", place / "machine.tar", ".")
    with mounted_erofs(place, [(place / "machine.tar").read_bytes()]) as top:
        found = snapshot(top)
        assert len(found) > 100
        assert found == snapshot(source)


def test_mount_when_directory_is_huge_then_every_name_is_found(place):
    names = [f"{'f' * (number % 200)}{number}" for number in range(100_000)]
    layer = tar(directory("d"), *(entry(f"d/{name}") for name in names))
    with mounted_erofs(place, [layer]) as top:
        assert {path.name for path in (top / "d").iterdir()} == set(names)
        for name in names:
            os.lstat(f"{top}/d/{name}")
        for name in ("\x01", "-", "...", "f" * 255, f"{names[50_000]}0", "~"):
            assert not os.path.lexists(f"{top}/d/{name}")


def test_mount_when_paths_are_deep_then_found(place):
    path = "/".join(["d"] * 1000)
    with mounted_erofs(place, [tar(entry(f"{path}/f", b"data"))]) as top:
        assert (top / path / "f").read_bytes() == b"data"


def test_mount_when_files_are_sparse_then_holes_are_zeros(place):
    file = place / "sparse"
    with file.open("wb") as out:
        out.truncate(50_000_000)
        for at in (0, 1 << 20, 40_000_000 // 4096 * 4096):
            out.seek(at)
            out.write(os.urandom(4096))
    run = tool("tar")
    run("--format=pax", "--sparse", "-C", place, "-cf", place / "sparse.tar", "sparse")
    layer = (place / "sparse.tar").read_bytes()
    with tarfile.open(place / "sparse.tar") as archive:
        member = archive.getmember("sparse")
    extents, at = [], member.offset_data
    for start, size in member.sparse:
        extents.append((start, size, at))
        at += size
    with mounted_erofs(place, [layer], [("sparse", extents)]) as top:
        assert (top / "sparse").read_bytes() == file.read_bytes()


def test_mount_when_sparse_file_has_5_tib_then_only_its_data_is_mapped(place):
    start, data = 5 << 40, os.urandom(4096)
    records = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "huge",
        "GNU.sparse.size": str(start + 4096),
        "GNU.sparse.numblocks": "1",
        "GNU.sparse.map": f"{start},4096",
    }
    layer = tar(entry("huge", data, pax=records), entry("next", b"n" * 1000))
    extents = [(start, 4096, layer.index(data))]
    with (
        mounted_erofs(place, [layer], [("huge", extents)]) as top,
        (top / "huge").open("rb") as file,
    ):
        assert os.fstat(file.fileno()).st_size == start + 4096
        for at in (0, (1 << 40) - 100, 1 << 40, start - 4096):
            assert os.pread(file.fileno(), 4096, at) == bytes(4096)
        assert os.pread(file.fileno(), 8192, start - 100) == bytes(100) + data


def test_overlay_when_on_erofs_then_programs_can_write(place):
    for name in ("upper", "work", "merged"):
        (place / name).mkdir()
    options = f"lowerdir={place}/mounted,upperdir={place}/upper,workdir={place}/work"
    with (
        mounted_erofs(place, [LOWER, UPPER]) as lower,
        mounted("overlay", place, place / "merged", options, flags=0),
    ):
        merged = place / "merged"
        assert (merged / "b" / "f").read_bytes() == (lower / "b" / "f").read_bytes()
        (merged / "a" / "one").write_bytes(b"changed")
        (merged / "a" / "large").unlink()
        assert not (merged / "a" / "large").exists()
        assert (lower / "a" / "one").read_bytes() == b"1"


def test_image_when_a_file_is_sparse_but_not_said_to_be_then_error(place):
    with (place / "sparse").open("wb") as out:
        out.truncate(1 << 30)
    run = tool("tar")
    run("--format=pax", "--sparse", "-C", place, "-cf", place / "sparse.tar", "sparse")
    with pytest.raises(ValueError, match=r"^sparse: the data ends after the layer$"):
        make_erofs([(place / "sparse.tar").read_bytes()])
