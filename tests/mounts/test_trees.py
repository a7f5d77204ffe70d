"""What a mounted image holds, compared with what umoci unpacks and with what was put in."""

import gzip
import mmap
import os
import stat
import tarfile
from pathlib import Path
from random import Random

import pytest
import zstandard

import tocsin
from support import goldens, seek
from support.images import image_of
from support.mounts import names_in
from support.tarmaker import entry, tar
from support.tools import tool
from support.tree_snapshot import snapshot
from tocsin.model.media_types import OCI_LAYER, OCI_LAYER_GZIP
from tocsin.stores.layout import OciLayout

OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
AFTER_2262 = 10_413_792_000
LONGEST = "n" * 255
KINDS = ["seek", "v2", "v1", "none", "zstd", "zstd-seek", "tar"]


def directory(name, *, mode=0o755, mtime=5, **fields):
    return entry(name, type=tarfile.DIRTYPE, mode=mode, mtime=mtime, **fields)


def link(kind, name, target, **fields):
    return entry(name, type=kind, linkname=target, **fields)


NOISE = Random(15)  # noqa: S311 (test data)
LOWER = tar(
    directory("./", mode=0o751, mtime=1_000_000_000),
    directory("a"),
    directory("a/sub", uid=1, gid=2**31),
    entry("a/empty", mtime=7),
    entry("a/one", b"1", mode=0o4755, mtime=8, pax={"mtime": "8.123456789"}),
    entry("a/block", b"b" * 512),
    entry("a/old", b"o" * 513, mtime=-(2**31)),
    entry("a/before", b"1969", pax={"mtime": "-1.25"}),
    entry("a/large", NOISE.randbytes(1 << 20)),
    entry(f"a/{LONGEST}", b"long"),
    entry("a/\udcff\udc80é", b"not UTF-8", format=tarfile.GNU_FORMAT),
    entry("a/ \n\t\\'\"", b"signs"),
    entry("a/hidden", b"h"),
    entry("a/replaced", b"r" * 5000),
    entry("a/xattr", b"x", pax={"SCHILY.xattr.user.k": "v" * 3000, "SCHILY.xattr.trusted.t": "t"}),
    directory("a/xattrs", pax={f"SCHILY.xattr.user.{n:03}": "v" * n for n in range(1, 40)}),
    link(tarfile.SYMTYPE, "short", "a/one", mtime=3),
    link(tarfile.SYMTYPE, "longest", "./" * 2047, mtime=3),
    link(tarfile.SYMTYPE, "loop", "loop"),
    link(tarfile.SYMTYPE, "ping", "pong"),
    link(tarfile.SYMTYPE, "pong", "ping"),
    link(tarfile.SYMTYPE, "out", "../../../a/one"),
    # Unlike containerd, umoci ignores the metadata of hard links.
    link(tarfile.LNKTYPE, "a/second", "a/large"),
    entry("fifo", type=tarfile.FIFOTYPE, mode=0o640),
    entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    entry("disk", type=tarfile.BLKTYPE, devmajor=259, devminor=1_000_000),
    directory("gone"),
    entry("gone/f", b"f"),
)
UPPER = tar(
    directory("a", mtime=11, uid=3),
    entry("a/.wh.hidden"),
    entry("a/replaced", b"new", mtime=12),
    directory("b", mtime=13),
    entry("b/f", NOISE.randbytes(70_000), mtime=14),
    # A name in this layer for a file of the one below.
    link(tarfile.LNKTYPE, "b/again", "a/second"),
    entry("future", b"2300", mtime=AFTER_2262),
    directory("gone", mtime=15),
    entry("gone/.wh..wh..opq"),
    entry("gone/new", b"n"),
)


def put(layout, layers, media_type, compress):
    with OciLayout(layout, write=True) as store:
        image_of(*((compress(layer), media_type) for layer in layers)).put(store, "t")


def made(place, kind, layers):
    """Put layers into a layout, with indexes of a kind; return the reference of the image."""
    layout = place / kind
    if kind.startswith("zstd"):
        put(layout, layers, OCI_LAYER_ZSTD, zstandard.ZstdCompressor(level=1).compress)
    elif kind == "tar":
        put(layout, layers, OCI_LAYER, bytes)
    else:
        put(layout, layers, OCI_LAYER_GZIP, lambda data: gzip.compress(data, 1, mtime=0))
    source = f"oci:{layout}:t"
    spans = tocsin.IndexingOptions(min_layer_size=0, span_size=64 << 10)
    if kind in ("seek", "zstd-seek"):
        with OciLayout(layout, write=True) as store:
            if kind == "seek":
                seek.add_referrer(store, "t", span_size=64 << 10, threads=1)
        if kind == "zstd-seek":
            seek_only = tocsin.IndexingOptions(min_layer_size=0, seek_only=True)
            tocsin.create(source, options=seek_only)
    elif kind == "v1":
        tocsin.create(source, options=spans)
    elif kind == "v2":
        tocsin.convert(source, f"oci:{layout}:v2", options=spans)
        return f"oci:{layout}:v2"
    return source


def mount_made(machine, kind, layers, *options):
    index = ["--index", "v1"] if kind == "v1" else []
    return machine.mount(made(machine.directory, kind, layers), *index, *options)


@pytest.fixture
def unpacked(machine):
    """What umoci makes of the two layers."""
    umoci = tool("umoci")
    put(machine.directory / "plain", [LOWER, UPPER], OCI_LAYER, bytes)
    bundle = machine.directory / "bundle"
    umoci("unpack", "--image", f"{machine.directory / 'plain'}:t", bundle)
    return bundle / "rootfs"


def links_in(top):
    return {str(path.relative_to(top)): path.lstat().st_nlink for path in top.rglob("*")}


@pytest.mark.parametrize("kind", KINDS)
def test_mount_when_layers_have_everything_then_as_umoci_unpacks_them(machine, unpacked, kind):
    mount_made(machine, kind, [LOWER, UPPER])
    top = machine.mount_point
    expected = snapshot(unpacked, without=["future"])
    # umoci does not set times after 2262.
    assert (top / "future").stat().st_mtime == AFTER_2262
    for _ in range(2):  # from the registry, then from the caches
        found = snapshot(top, without=["future"])
        assert found.keys() == expected.keys()
        for path, row in expected.items():
            assert found[path] == row, path
    files = {path for path, row in expected.items() if stat.S_ISREG(int(row[0], 8))}
    links, theirs = links_in(top), links_in(unpacked)
    assert {path: links[path] for path in files} == {path: theirs[path] for path in files}
    assert (top / "a/sub/../../out/..").exists() is False
    for name in ("loop", "ping", "pong"):
        with pytest.raises(OSError, match="Too many levels"):
            (top / name).read_bytes()


@pytest.mark.parametrize(
    "name", ["gnu.zlib6", "noise.pigz", "pax.zlib6", "runs.members", "ustar.zopfli", "wide.igzip"]
)
@pytest.mark.parametrize("kind", ["seek", "v2"])
def test_golden_when_mounted_then_as_tarfile_reads_it(machine, name, kind):
    layer = gzip.decompress(goldens.layer(f"{name}.tar.gz"))
    mount_made(machine, kind, [layer])
    expected = {}
    golden = Path("tests/golden/layers", f"{name}.tar.gz")
    with tarfile.open(golden, errors="surrogateescape") as archive:
        for member in archive:
            is_too_long = any(len(part) > 255 for part in os.fsencode(member.name).split(b"/"))
            if "/.wh." in member.name or is_too_long:
                continue
            name_inside = os.path.normpath(f"/{member.name.lstrip('/')}")[1:]
            path = machine.mount_point / name_inside
            status = path.lstat()
            assert (status.st_uid, status.st_gid) == (member.uid, member.gid), member.name
            if member.issym():
                assert str(path.readlink()) == member.linkname
                continue
            if member.isfile():
                expected[name_inside] = archive.extractfile(member).read()
            if not member.islnk():
                assert stat.S_IMODE(status.st_mode) == member.mode & 0o7777, member.name
    for path, data in expected.items():
        assert (machine.mount_point / path).read_bytes() == data, path
    assert expected


@pytest.mark.parametrize("kind", ["seek", "v2"])
def test_directory_when_it_has_many_names_then_each_is_found(machine, kind):
    names = [f"{'f' * (number % 200)}{number}" for number in range(20_000)]
    mount_made(machine, kind, [tar(directory("d"), *(entry(f"d/{name}") for name in names))])
    top = os.fspath(machine.mount_point / "d")
    assert names_in(machine.mount_point / "d") == sorted(names)
    with os.scandir(top) as entries:
        assert all(found.stat().st_size == 0 for found in entries)
    for name in names[::100]:
        os.lstat(f"{top}/{name}")
    for name in ("\x01", "-", "...", "f" * 255, f"{names[500]}0", "~"):
        assert not os.path.lexists(f"{top}/{name}")
    with pytest.raises(OSError, match="too long"):
        os.lstat(f"{top}/{'f' * 256}")


def test_paths_when_deep_then_found(machine):
    path = "/".join(["d"] * 1000)
    mount_made(machine, "seek", [tar(entry(f"{path}/f", b"data"))])
    assert (machine.mount_point / path / "f").read_bytes() == b"data"
    found = os.lstat(machine.mount_point / "d/d/..")
    assert found.st_ino == os.lstat(machine.mount_point / "d").st_ino


@pytest.mark.parametrize("form", ["--sparse-version=1.0", "--sparse-version=0.1"])
@pytest.mark.parametrize("kind", ["seek", "none", "zstd"])
def test_sparse_file_when_read_anywhere_then_holes_are_zeros(machine, kind, form):
    file = machine.directory / "sparse"
    places = [0, 1 << 20, 10_002_432]
    with file.open("wb") as out:
        out.truncate(20_000_003)
        for at in places:
            out.seek(at)
            out.write(NOISE.randbytes(4096))
    run = tool("tar")
    run("--format=pax", "--sparse", form, "-C", machine.directory, "-cf", f"{file}.tar", "sparse")
    mount_made(machine, kind, [Path(f"{file}.tar").read_bytes()])
    data = file.read_bytes()
    with (machine.mount_point / "sparse").open("rb", buffering=0) as opened:
        for at in [20_000_000, *places, *(NOISE.randrange(len(data)) for _ in range(50))]:
            opened.seek(at)
            assert opened.read(5000) == data[at : at + 5000]
        opened.seek(1 << 40)
        assert opened.read(10) == b""
    assert (machine.mount_point / "sparse").read_bytes() == data


def random_layers(random, count):
    """Return layers, and what is there after all of them: a plain model of paths and data."""
    model, layers = {}, []
    for _ in range(count):
        blocks, written = [], {}
        for _ in range(random.randrange(1, 25)):
            folder = f"d{random.randrange(4)}/e{random.randrange(3)}"
            name = f"{folder}/f{random.randrange(12)}"
            if name in written or f"{folder}/.wh.{name[-2:]}" in written:
                continue
            there = sorted(set(model) - set(written))
            if there and random.random() < 0.2:
                gone = random.choice(there)
                parent, _, base = gone.rpartition("/")
                blocks.append(entry(f"{parent}/.wh.{base}"))
                written[gone] = None
                continue
            size = random.choice([0, 1, 511, 512, 513, 4096, 70_000, 200_001])
            data = random.randbytes(size) if random.random() < 0.5 else b"ab" * (size // 2)
            blocks.append(entry(name, data))
            written[name] = data
        model.update(written)
        model = {name: data for name, data in model.items() if data is not None}
        layers.append(tar(*blocks))
    return layers, model


@pytest.mark.parametrize("seed", range(8))
def test_reads_when_random_then_as_the_model(machine, seed):
    random = Random(seed)  # noqa: S311 (test data)
    layers, model = random_layers(random, random.randrange(1, 5))
    kind = KINDS[seed % len(KINDS)]
    options = random.choice([[], ["--no-background"], ["--background-rate", "200KiB"]])
    mount_made(machine, kind, layers, *options)
    top = machine.mount_point
    found = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
    assert found == set(model)
    for _ in range(200):
        name = random.choice(sorted(model))
        data = model[name]
        at, size = random.randrange(len(data) + 100), random.choice([1, 100, 4096, 150_000])
        with (top / name).open("rb", buffering=0) as file:
            if data and random.random() < 0.2:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    assert mapped[at : at + size] == data[at : at + size], name
            else:
                assert os.pread(file.fileno(), size, at) == data[at : at + size], name
    assert {name: (top / name).read_bytes() for name in model} == model
