"""Extracted trees are the same as those that other tools unpack from the same layers."""

import os
import subprocess
import tarfile
from contextlib import suppress
from dataclasses import replace

import pytest

import tocsin
from support import tarmaker
from support.containerd import containerd
from support.images import image_of
from support.readable import OPTIONS, put_image, put_indexed, text
from support.tarmaker import entry
from support.tools import tool
from support.tree_snapshot import snapshot
from tocsin.model.media_types import OCI_LAYER, OCI_LAYER_GZIP
from tocsin.stores.archive import OciArchive
from tocsin.stores.layout import OciLayout

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root"),
]


@pytest.fixture(scope="module")
def tar():
    return tool("tar")


def make_files(top):
    """Create a tree with files of every type, and with holes."""
    (top / "etc").mkdir(parents=True)
    (top / "etc/conf").write_text("conf")
    (top / "etc/shadow").write_text("secret")
    (top / "etc/shadow").chmod(0o640)
    os.chown(top / "etc/shadow", 12, 42)
    (top / "bin").mkdir()
    (top / "bin/su").write_bytes(text(100_000))
    (top / "bin/su").chmod(0o4755)
    os.link(top / "bin/su", top / "bin/su2")
    (top / "tmp").mkdir()
    (top / "tmp").chmod(0o1777)
    (top / "link").symlink_to("/etc/conf")
    os.lchown(top / "link", 7, 8)
    os.link(top / "link", top / "link2", follow_symlinks=False)
    (top / "broken").symlink_to("../../nowhere")
    os.mkfifo(top / "pipe", 0o611)
    (top / ("long" * 40)).write_bytes(b"")
    (top / "ü").write_text("name")
    (top / "shut").mkdir()
    (top / "shut/in").write_text("in")
    (top / "shut").chmod(0o500)
    for number in range(300):
        (top / f"many{number % 7}").mkdir(exist_ok=True)
        (top / f"many{number % 7}/{number}").write_bytes(text(number * 40, number))
    for number in range(20):
        with (top / f"sparse{number}").open("wb") as file:
            file.write(b"start")
            # Some holes are not larger than the headers that follow them.
            file.seek(4096 * (number % 4 + 1) + number % 3 * 2_000_000)
            if number % 5:
                file.write(b"end")
            file.truncate(file.tell() + number % 2 * 70_000)
    with suppress(OSError):  # then no tool preserves them
        os.setxattr(top / "etc/conf", "user.note", b"v" * 3000)
    for path in [*top.rglob("*"), top]:
        time = 1_600_000_000_123456789 + len(path.name) * 10**9
        os.utime(path, ns=(time, time), follow_symlinks=False)


@pytest.mark.parametrize("form", ["ustar", "gnu", "pax", "sparse"])
def test_extract_when_gnu_tar_made_the_layer_then_as_it_unpacks_it(place, tar, form):
    make_files(place / "files")
    words = ["--format=pax", "-S"] if form == "sparse" else [f"--format={form}"]
    kept = ["--xattrs"] if form in ("pax", "sparse") else []
    if form == "ustar":
        (place / "files" / ("long" * 40)).unlink()
    tar(*words, *kept, "--sort=name", "-cf", place / "t.tar", "-C", place / "files", ".")
    (place / "theirs").mkdir()
    tar("-x", "-p", "--numeric-owner", *kept, "-f", place / "t.tar", "-C", place / "theirs")
    # Other readers fail on sparse files, so convert skips such layers.
    put = put_image if form == "sparse" else put_indexed
    with tocsin.open(put(place / "layout", (place / "t.tar").read_bytes())) as image:
        result = image.extract("/", place / "ours")
        assert result.skipped == ()
        assert not result.notes
        for number in range(20):
            name = f"sparse{number}"
            assert image.cat(name) == (place / "files" / name).read_bytes()
    assert snapshot(place / "ours") == snapshot(place / "theirs")
    if form == "sparse":
        for number in range(20):
            sizes = [(place / w / f"sparse{number}").stat().st_blocks for w in ("ours", "theirs")]
            assert sizes[0] <= sizes[1]


def test_extract_when_umoci_made_the_image_then_as_it_unpacks_it(place):
    umoci = tool("umoci")
    layout = place / "layout"
    make_files(place / "one")
    (place / "two/etc").mkdir(parents=True)
    (place / "two/etc/conf").write_text("upper")
    (place / "two/new").write_bytes(text(500_000, 3))
    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:t")
    umoci("insert", "--image", f"{layout}:t", place / "one", "/")
    umoci("insert", "--image", f"{layout}:t", place / "two", "/")
    umoci("insert", "--image", f"{layout}:t", "--whiteout", "/many3")
    umoci("insert", "--image", f"{layout}:t", "--opaque", place / "two", "/many4")
    umoci("raw", "unpack", "--image", f"{layout}:t", place / "theirs")
    tocsin.convert(f"oci:{layout}:t", f"oci:{layout}:soci", options=OPTIONS)
    with tocsin.open(f"oci:{layout}:soci") as image:
        result = image.extract("/", place / "ours")
        root_is_listed = image._merged.tree.root.entry is not None
    assert result.skipped == ()
    # The metadata of the root is undefined if no layer lists it.
    without = () if root_is_listed else (".",)
    assert snapshot(place / "ours", without=without) == snapshot(place / "theirs", without=without)
    assert not (place / "ours/many3").exists()
    assert (place / "ours/etc/conf").read_text() == "upper"


@pytest.fixture(scope="module")
def of_this_machine(tmp_path_factory, tar):
    """A layer with files of this machine, and a snapshot of the tree that tar unpacks from it."""
    directory = tmp_path_factory.mktemp("machine")
    layer, theirs = directory / "t.tgz", directory / "theirs"
    tar("-czf", layer, "--exclude=*.gz", "-C", "/usr/share/doc", ".")
    theirs.mkdir()
    tar("-xzpf", layer, "-C", theirs)
    return layer.read_bytes(), snapshot(theirs)


@pytest.mark.parametrize("span_size", [64 << 10, 4 << 20])
def test_extract_when_files_of_this_machine_then_as_tar_unpacks_them(
    place, of_this_machine, span_size
):
    layer, theirs = of_this_machine
    with OciLayout(place / "layout", write=True) as store:
        image_of((layer, OCI_LAYER_GZIP)).put(store, "plain")
    reference = f"oci:{place / 'layout'}"
    options = replace(OPTIONS, span_size=span_size)
    tocsin.convert(f"{reference}:plain", f"{reference}:soci", options=options)
    with tocsin.open(f"{reference}:soci") as image:
        image.extract("/", place / "ours")
    assert snapshot(place / "ours") == theirs


CAPABILITY = {"SCHILY.xattr.security.capability": "\1\0\0\2\0\x20" + "\0" * 14}
HARD = tarfile.LNKTYPE


def odd_metadata():
    """Return a layer with metadata that tools may unpack differently."""
    nobody = str(0xFFFFFFFF)
    return tarmaker.tar(
        entry("./", type=tarfile.DIRTYPE, mode=0o755),
        entry("f", b"1", mode=0o600, uid=1, gid=2, mtime=1000, pax={"SCHILY.xattr.user.a": "1"}),
        entry("h", type=HARD, linkname="f", mode=0o4755, uid=5, gid=6, mtime=2000),
        entry("cap", b"1", mode=0o755, pax=CAPABILITY),
        entry("cap2", type=HARD, linkname="cap", mode=0o755),
        entry("cap3", b"1", mode=0o755),
        entry("cap4", type=HARD, linkname="cap3", mode=0o755, pax=CAPABILITY),
        entry("l", type=tarfile.SYMTYPE, linkname="f", uid=1, gid=1, mtime=1000),
        entry("l2", type=HARD, linkname="l", mode=0o600, uid=7, gid=8, mtime=3000),
        entry("d/", type=tarfile.DIRTYPE, mode=0o700, uid=3, gid=3, mtime=-7),
        entry("before", b"1", pax={"mtime": "-5.5"}),
        entry("late", b"1", pax={"mtime": "9223372036.5"}),
        entry("later", b"1", pax={"mtime": "9223372037"}),
        entry("no-user", b"1", mode=0o4755, pax={"uid": nobody, "gid": "7"}),
        entry("no-group", b"1", mode=0o2755, pax={"uid": "7", "gid": nobody}),
        entry("trusted", b"1", pax={"SCHILY.xattr.trusted.x": "1"}),
    )


def test_extract_when_metadata_is_odd_then_as_containerd_unpacks_it(place):
    with OciArchive(place / "a.tar", write=True) as store:
        image_of((odd_metadata(), OCI_LAYER)).put(store, "t")
    with tocsin.open(f"oci-archive:{place}/a.tar:t") as image:
        assert image.extract("/", place / "ours").failed == ()
    theirs = place / "theirs"
    theirs.mkdir()
    (place / "c").mkdir()
    native = ("--snapshotter", "native")
    with containerd(place / "c") as ctr:
        imported = ctr("image", "import", *native, "--base-name", "x/y", place / "a.tar")
        assert imported.returncode == 0, imported.stderr
        mounted = ctr("image", "mount", *native, "--platform", "linux/amd64", "x/y:t", theirs)
        assert mounted.returncode == 0, mounted.stderr
        try:
            # containerd creates the parents of a layer's entries itself.
            found = snapshot(theirs, without=["."])
        finally:
            subprocess.run(["umount", theirs], check=True)  # noqa: S603, S607
    assert snapshot(place / "ours", without=["."]) == found
