"""The mounts of a snapshotter: the lowest layers of images, found again after anything has died."""

import errno
import gzip
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import tocsin
from support import mounts
from support.images import Image
from support.mounts import DATA_FILES, data_of, names_in, wait_for_end
from support.registry import Registry
from support.tarmaker import entry, tar
from support.tools import tool
from test_cases import PLACE
from tocsin.errors import UnsupportedError
from tocsin.layers.inflated_layers import inflated_layers
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.mounting import image_mounts, overlay, system_calls
from tocsin.mounting.image_mounts import ImageMountOptions, ImageMounts
from tocsin.mounting.lazy_images import LazyImage, NotLazy
from tocsin.mounting.pull_credentials import pull_credential
from tocsin.mounting.registered import Registry as Descriptions
from tocsin.stores.layout import OciLayout

DIRECTORY, HARD, SOFT, CHAR = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE
CASES = [
    *("dir-over-symlink-upper", "dup-layers", "hardlink-to-lower", "implicit-child-then-wh"),
    *("opq-after", "opq-nodir", "root-entry-upper", "symlink-abs-parent", "wh-before-recreate"),
    *("wh-missing", "wh-symlink-type", "wh-symlinked-dir"),
]
"""Images of tests/cases with several layers."""
LAYERS = [
    tar(
        entry("./", type=DIRECTORY, mode=0o755, mtime=1),
        entry("etc/", type=DIRECTORY, mode=0o755, mtime=2),
        entry("etc/old", b"old", mtime=3),
        entry("etc/kept", b"kept" * 50_000, mtime=4, uid=7, gid=8),
        entry("many/", type=DIRECTORY, mode=0o711, mtime=5),
        *(entry(f"many/{number}", b"%d" % number * 100, mtime=6) for number in range(300)),
        entry("bin/", type=DIRECTORY, mode=0o755, mtime=7),
        entry("bin/su", b"#!suid", mode=0o4755, mtime=8),
        entry("bin/alias", type=HARD, linkname="bin/su", mode=0o4755, mtime=8),
        entry("dev/", type=DIRECTORY, mode=0o755, mtime=9),
        entry("dev/null", type=CHAR, devmajor=1, devminor=3, mode=0o666, mtime=9),
        entry("tagged", b"t", mtime=9, pax={"SCHILY.xattr.user.k": "v"}),
    ),
    tar(
        entry("etc/.wh.old"),
        entry("etc/new", b"new", mtime=10),
        entry("many/.wh..wh..opq"),
        entry("many/only", b"only", mtime=11),
        entry("bin/third", type=HARD, linkname="bin/su", mode=0o4755, mtime=8),
        entry("link", type=SOFT, linkname="etc/new", mtime=12),
    ),
    tar(
        entry("etc/kept", b"replaced", mtime=13),
        entry("bin/.wh.alias"),
        entry("many/only", b"changed", mtime=14),
        entry("link/", type=DIRECTORY, mode=0o700, mtime=15),
        entry("link/inside", b"i", mtime=16),
    ),
    tar(entry(".wh.etc"), entry("etc/", type=DIRECTORY, mode=0o750, mtime=17), entry("last", b"l")),
]


def image_of(*tars, kept=None):
    """Return an image with gzip layers, and with a config that says what they are."""
    chosen = tars[:kept]
    layers = tuple(gzip.compress(each, 6, mtime=0) for each in chosen)
    descriptors = tuple(Descriptor.of(each, OCI_LAYER_GZIP) for each in layers)
    ids = ",".join(f'"{Digest.of(each)}"' for each in chosen)
    rootfs = f'"rootfs": {{"type": "layers", "diff_ids": [{ids}]}}'
    config = f'{{"os": "linux", "architecture": "amd64", {rootfs}}}'.encode()
    manifest = Manifest(Descriptor.of(config, OCI_CONFIG), descriptors, media_type=OCI_MANIFEST)
    return Image(layers, descriptors, config, manifest.to_json())


def tree(top):
    """Return everything below a directory that an unpacker determines."""
    found, names = {}, {}
    for path in sorted(Path(top).rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        data = status.st_rdev
        if kind == stat.S_IFREG:
            data = path.read_bytes()
        elif kind == stat.S_IFLNK:
            data = str(path.readlink())
        attributes = {
            each: os.getxattr(path, each, follow_symlinks=False)
            for each in os.listxattr(path, follow_symlinks=False)
        }
        # Whiteouts in a directory change its time, in each unpacker in another way.
        changed = None if kind == stat.S_IFDIR else status.st_mtime
        first = names.setdefault(status.st_ino, str(path.relative_to(top)))
        owner = (status.st_uid, status.st_gid)
        mode = oct(status.st_mode)
        found[str(path.relative_to(top))] = (mode, owner, changed, attributes, data, first)
    return found


class Machine:
    """The mounts of one snapshotter, with a registry."""

    def __init__(self, directory, registry):
        self.root = directory / "root"
        self.registry = registry
        self.directory = directory
        self._opened = []

    def mounts(self, **options):
        """Return the mounts as a new snapshotter finds them."""
        self._opened.append(ImageMounts(self.root, ImageMountOptions(**options)))
        return self._opened[-1]

    def put(self, name, image, way):
        """Put an image into the registry with an index, and return its reference."""
        layout = self.directory / f"layout-{name}-{way}"
        mounts.put(OciLayout(layout, write=True), image, "1")
        source = f"oci:{layout}:1"
        target = f"{self.registry.host}/app/{name}:{way}"
        zs = tocsin.IndexingOptions(min_layer_size=0, span_size=64 << 10)
        seek = tocsin.IndexingOptions(min_layer_size=0, seek_only=True, seek_span_size=64 << 10)
        if way in ("v2", "bound"):
            tocsin.convert(source, target, options=zs if way == "v2" else seek)
        else:
            tocsin.copy(source, target)
            if way != "none":
                tocsin.create(target, options=zs if way == "v1" else seek)
        return target

    def processes(self):
        """Return the processes of all mounts."""
        found = Descriptions(self.root / "run").all()
        return [each.pid for each in found if each.needs_process and each.is_alive]

    def kill(self):
        """Kill the processes of all mounts."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)

    def clean(self):
        self.kill()
        for each in self._opened:
            each.close()
        for each in mounted_below(self.directory):
            subprocess.run(["umount", "-l", each], check=False)  # noqa: S603, S607


def read_at(file, at):
    """Return a page of a file; ``None`` if that is the error of a mount that has died."""
    try:
        return os.pread(file, 4096, at)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED):
            raise
        return None


def mounted_below(directory):
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [where for where in (x.split()[4] for x in lines) if where.startswith(f"{directory}/")]


def images_below(directory):
    """Return the directories with mounted images; a complete one may be mounted twice."""
    return sorted({Path(each).parent for each in mounted_below(directory)})


def manifest_of(reference):
    return str(tocsin.resolve(reference).digest)


@pytest.fixture
def machine():
    mounts.need_mounts()
    with tempfile.TemporaryDirectory(prefix="tocsin-tests-") as name, Registry() as registry:
        directory = Path(name)
        directory.chmod(0o755)  # other users can reach it
        machine = Machine(directory, registry)
        yield machine
        machine.clean()


@pytest.fixture
def data(machine, layout):
    """An image with much data, of which a mount has little at first."""
    target = f"{machine.registry.host}/app/data:1"
    tocsin.copy(f"oci:{layout}:seek", target)
    return target


def unpacked(directory, image):
    """Return what umoci unpacks."""
    layout = directory / "of-umoci"
    mounts.put(OciLayout(layout, write=True), image, "1")
    place = directory / "unpacked"
    tool("umoci")("raw", "unpack", "--image", f"{layout}:1", place)
    return tree(place)


# -- the lowest layers ---------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["fuse", "auto"])
@pytest.mark.parametrize("way", ["bound", "seek", "v2", "v1"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_lowest_layers_when_mounted_then_as_umoci_unpacks_them(machine, way, front, count):
    reference = machine.put("it", image_of(*LAYERS), way)
    own = machine.mounts(front=front)
    image = own.find(reference, manifest=manifest_of(reference), layers=[])
    assert isinstance(image, LazyImage), image
    assert image.index == {"bound": "seek"}.get(way, way)
    directory = own.mount(image, count)
    assert tree(directory) == unpacked(machine.directory, image_of(*LAYERS, kept=count))


def lowest(name, count):
    """Return the lowest layers of a case as an image."""
    with tarfile.open(PLACE / f"{name}.oci.tar") as file:

        def blob(digest):
            return file.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}").read()

        (listed,) = json.load(file.extractfile("index.json"))["manifests"]
        manifest = Manifest.from_json(blob(listed["digest"]))
        chosen = manifest.layers[:count]
        layers = tuple(blob(str(each.digest)) for each in chosen)
        config = json.loads(blob(str(manifest.config.digest)))
    tars = [gzip.decompress(each) if each[:2] == b"\x1f\x8b" else each for each in layers]
    config["rootfs"] = {"type": "layers", "diff_ids": [str(Digest.of(each)) for each in tars]}
    text = json.dumps(config).encode()
    shorter = Manifest(Descriptor.of(text, OCI_CONFIG), chosen, media_type=OCI_MANIFEST)
    return Image(layers, chosen, text, shorter.to_json())


@pytest.mark.parametrize("way", ["bound", "v1"])
@pytest.mark.parametrize("name", CASES)
def test_case_when_lowest_layer_is_mounted_then_as_umoci_unpacks_it(machine, name, way):
    reference = machine.put(name, lowest(name, None), way)
    own = machine.mounts()
    image = own.find(reference, manifest=manifest_of(reference), layers=[])
    assert isinstance(image, LazyImage), image
    assert tree(own.mount(image, 1)) == unpacked(machine.directory, lowest(name, 1))


# -- for containers ------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["fuse", "auto"])
def test_mount_when_below_an_overlay_then_as_a_container_needs_it(machine, front):
    lower = tar(
        entry("bin/", type=DIRECTORY, mode=0o755),
        entry("bin/su", b"#!suid", mode=0o4755),
        entry("dev/", type=DIRECTORY, mode=0o755),
        entry("dev/zero", type=CHAR, devmajor=1, devminor=5, mode=0o666),
        entry("full/", type=DIRECTORY, mode=0o755),
        *(entry(f"full/{number}", b"%d" % number) for number in range(200)),
        entry("tagged", b"t", pax={"SCHILY.xattr.user.k": "v"}),
    )
    reference = machine.put("it", image_of(lower, tar(entry("top", b"top"))), "bound")
    own = machine.mounts(front=front)
    image = own.find(reference, manifest=manifest_of(reference), layers=[])
    directory = own.mount(image, 2)
    (found,) = own.mounted()
    assert found.status.front == {"auto": "erofs"}.get(front, front)
    for each in ("upper", "work", "merged"):
        (machine.directory / each).mkdir()
    merged = machine.directory / "merged"
    places = f"lowerdir={directory},upperdir={machine.directory / 'upper'}"
    options = f"{places},workdir={machine.directory / 'work'}"
    system_calls.mount("overlay", str(merged), "overlay", 0, options)
    assert (merged / "bin/su").stat().st_mode & stat.S_ISUID
    with (merged / "dev/zero").open("rb", buffering=0) as zero:
        assert zero.read(4) == bytes(4)
    assert os.getxattr(merged / "tagged", "user.k") == b"v"
    (merged / "full/7").unlink()
    (merged / "top").write_bytes(b"changed")
    names = {str(number) for number in range(200)}
    assert set(names_in(merged / "full")) == names - {"7"}
    assert (merged / "top").read_bytes() == b"changed"
    assert (directory / "top").read_bytes() == b"top"
    assert set(names_in(directory / "full")) == names
    shutil.rmtree(merged / "full")
    (merged / "full").mkdir()
    assert names_in(merged / "full") == []
    options = Path("/proc/self/mountinfo").read_text().split(f" {directory} ")[1].split()[0]
    assert not {"nosuid", "nodev"} & set(options.split(","))


def test_mount_when_another_user_reads_then_as_the_modes_of_the_image_say(machine):
    files = tar(entry("public", b"p", mode=0o644), entry("secret", b"s", mode=0o600))
    reference = machine.put("it", image_of(files), "bound")
    own = machine.mounts(front="fuse")
    directory = own.mount(own.find(reference, manifest=manifest_of(reference), layers=[]), 1)
    for path in (machine.root, directory.parent.parent, directory.parent):
        path.chmod(0o711)

    def read(name):
        command = ["setpriv", "--reuid=1234", "--clear-groups", "cat", directory / name]
        return subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603

    assert read("public") == b"p"
    assert read("secret") == b""


def test_mount_when_an_overlay_cannot_be_on_erofs_then_fuse_is_used(machine, data, monkeypatch):
    refusals = ["too deep"]
    monkeypatch.setattr(
        image_mounts, "refusal_as_lower", lambda *_, **__: refusals.pop() if refusals else None
    )
    own = machine.mounts()
    own.mount(own.find(data, manifest=manifest_of(data), layers=[]), 2)
    assert [each.status.front for each in own.mounted()] == ["fuse"]


def test_mount_when_there_is_no_overlay_then_error_and_nothing_stays(machine, data, monkeypatch):
    monkeypatch.setattr(image_mounts, "refusal_as_lower", lambda *_, **__: "No such device")
    own = machine.mounts()
    image = own.find(data, manifest=manifest_of(data), layers=[])
    with pytest.raises(UnsupportedError, match="overlay file system: No such device"):
        own.mount(image, 2)
    assert own.mounted() == []
    assert mounted_below(machine.directory) == []


def test_refusal_when_directory_is_an_overlay_of_overlays_then_said(machine):
    top = machine.directory
    for each in ("a", "b", "one", "two"):
        (top / each).mkdir()
    system_calls.mount("overlay", str(top / "one"), "overlay", 1, f"lowerdir={top}/a:{top}/b")
    assert overlay.refusal_as_lower(top / "one", beside=top / "a") is None
    system_calls.mount("overlay", str(top / "two"), "overlay", 1, f"lowerdir={top}/one:{top}/b")
    assert overlay.refusal_as_lower(top / "two", beside=top / "a") == "Invalid argument"


# -- after something has died --------------------------------------------------------------------


def test_mounts_when_the_snapshotter_starts_again_then_found_and_the_same(machine, data):
    program = (
        "import sys; from pathlib import Path; "
        "from tocsin.mounting.image_mounts import ImageMountOptions, ImageMounts; "
        "own = ImageMounts(Path(sys.argv[1]), ImageMountOptions()); "
        "image = own.find(sys.argv[2], manifest=sys.argv[3], layers=[]); "
        "print(own.mount(image, 2), flush=True); import time; time.sleep(600)"
    )
    command = [sys.executable, "-c", program, machine.root, data, manifest_of(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as snapshotter:  # noqa: S603
        directory = Path(snapshotter.stdout.readline().strip())
        # All that a terminal or a service manager would end with it.
        os.kill(snapshotter.pid, signal.SIGKILL)
        snapshotter.wait()
    own = machine.mounts()
    (found,) = own.mounted()
    assert found.directory == directory
    image = own.find(data, manifest=manifest_of(data), layers=[])
    assert (found.manifest, found.count) == (image.manifest, 2)
    assert found.state in ("lazy", "complete")
    assert (directory / "data/3.bin").read_bytes() == data_of(3)
    assert own.restore([(image, 2)]) == []
    # All of it may have arrived by now, so that it has been mounted once more.
    assert own.mount(image, 2) in (directory, directory.with_name("complete"))
    assert machine.processes() == [found.status.pid]
    status = Path(f"/proc/{found.status.pid}/stat").read_text().rpartition(")")[2].split()
    assert int(status[1]) != os.getpid()  # not our child


@pytest.mark.parametrize("front", ["fuse", "erofs"])
def test_process_when_killed_then_errors_until_mounted_again(machine, data, front):
    own = machine.mounts(front=front, background=False)
    image = own.find(data, manifest=manifest_of(data), layers=[])
    directory = own.mount(image, 2)
    used = os.open(directory / "data/5.bin", os.O_RDONLY)
    assert os.pread(used, 4096, 0) == data_of(5)[:4096]
    machine.kill()
    assert [each.state for each in own.mounted()] == ["dead"]
    for at in range(0, len(data_of(5)), 4096):
        assert read_at(used, at) in (None, data_of(5)[at : at + 4096])
    assert own.restore([(image, 2)]) == []
    assert [each.state for each in own.mounted()] == ["lazy"]
    assert (directory / "data/5.bin").read_bytes() == data_of(5)
    with suppress(OSError):
        os.close(used)
    assert images_below(machine.root) == [directory.parent]


def test_machine_when_restarted_without_registry_then_mounted_again(machine, data):
    own = machine.mounts()
    image = own.find(data, manifest=manifest_of(data), layers=[])
    directory = own.mount(image, 2)
    assert (directory / "data/2.bin").read_bytes() == data_of(2)
    wait_for(own, "complete")
    # After a reboot there are neither processes nor mounts; descriptions may stay.
    machine.kill()
    for each in mounted_below(machine.root):
        assert system_calls.unmount(each, system_calls.MNT_DETACH) == 0
    machine.registry.__exit__()
    stored = json.loads(json.dumps(image.to_dict()))
    own = machine.mounts()
    assert own.restore([(LazyImage.from_dict(stored), 2)]) == []
    for number in range(DATA_FILES):
        assert (directory / f"data/{number}.bin").read_bytes() == data_of(number)


def test_restore_when_nothing_is_cached_and_registry_gone_then_problem(machine, data):
    own = machine.mounts()
    image = own.find(data, manifest=manifest_of(data), layers=[])
    machine.registry.__exit__()
    registry = tocsin.RegistryOptions(connect_timeout=1, timeout=1)
    other = machine.mounts(registry=registry)
    shutil.rmtree(machine.root / "cache")
    (problem,) = other.restore([(image, 2)])
    assert (problem.manifest, problem.count) == (image.manifest, 2)
    assert "cannot connect" in problem.reason or "refused" in problem.reason
    assert mounted_below(machine.root) == []


def test_restore_when_a_mount_is_not_wanted_then_unmounted(machine, data):
    own = machine.mounts()
    image = own.find(data, manifest=manifest_of(data), layers=[])
    own.mount(image, 1)
    directory = own.mount(image, 2)
    assert own.restore([(image, 2)]) == []
    assert [each.count for each in own.mounted()] == [2]
    assert images_below(machine.root) == [directory.parent]


def test_mount_when_asked_by_many_threads_then_one_process(machine, data):
    own = machine.mounts()
    image = own.find(data, manifest=manifest_of(data), layers=[])
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: own.mount(image, 2), range(8)))
    assert len(found) == 1
    assert len(machine.processes()) == 1


# -- credentials -------------------------------------------------------------------------------


def alice(password):
    credential = pull_credential(username="alice", password=password)
    assert credential is not None
    return credential


def reads(path, expected):
    """Return whether a file can be read; if so, its data is that of the image."""
    try:
        found = path.read_bytes()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False
    assert found == expected
    return True


def becomes_readable(path, expected):
    deadline = time.monotonic() + 60
    while not reads(path, expected):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return True


@pytest.mark.parametrize("scheme", ["basic", "token"])
def test_credential_when_it_expires_then_eio_until_the_next_pull(machine, data, scheme):
    host = machine.registry.host
    manifest = manifest_of(data)
    machine.registry.auth = scheme
    own = machine.mounts(background=False, read_timeout=2)
    found = own.find(data, manifest=manifest, layers=[])
    assert isinstance(found, NotLazy)
    assert "access denied" in found.reason
    own.give_credential(host, "app/data", alice("secret"))
    own = machine.mounts(background=False, read_timeout=2)  # an answer is remembered for a while
    own.give_credential(host, "app/data", alice("secret"))
    image = own.find(data, manifest=manifest, layers=[])
    assert isinstance(image, LazyImage), image
    directory = own.mount(image, 2)
    assert reads(directory / "data/0.bin", data_of(0))
    machine.registry.users["alice"] = "renewed"
    machine.registry.tokens.clear()
    assert not reads(directory / "data/2.bin", data_of(2))
    own.give_credential(host, "app/data", alice("renewed"))
    assert becomes_readable(directory / "data/2.bin", data_of(2))
    own.close()


def test_mount_when_made_without_credentials_then_reads_work_later(machine, data):
    host = machine.registry.host
    own = machine.mounts(background=False, read_timeout=2)
    image = own.find(data, manifest=manifest_of(data), layers=[])
    own.mount(image, 2)
    machine.kill()
    machine.registry.auth = "token"
    own.close()
    own = machine.mounts(background=False, read_timeout=2)
    assert own.restore([(image, 2)]) == []
    directory = own.mount(image, 2)
    assert names_in(directory / "data")
    assert not reads(directory / "data/3.bin", data_of(3))
    own.give_credential(host, "app/data", alice("secret"))
    assert becomes_readable(directory / "data/3.bin", data_of(3))
    own.close()
    assert b"secret" not in b"".join(
        each.read_bytes()
        for each in machine.root.rglob("*")
        if each.is_file() and "/fs/" not in f"{each}"
    )


# -- unmounting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["fuse", "erofs"])
def test_unmount_when_an_overlay_still_uses_it_then_that_goes_on(machine, data, front):
    own = machine.mounts(front=front, background=False)
    image = own.find(data, manifest=manifest_of(data), layers=[])
    directory = own.mount(image, 2)
    (pid,) = machine.processes()
    other, merged = machine.directory / "other", machine.directory / "merged"
    other.mkdir()
    merged.mkdir()
    system_calls.mount("overlay", str(merged), "overlay", 1, f"lowerdir={directory}:{other}")
    own.unmount(image.manifest, 2)
    assert own.mounted() == []
    assert not directory.parent.exists()
    time.sleep(1.5)  # longer than the process of a mount looks whether it is still there
    assert (merged / "data/4.bin").read_bytes() == data_of(4)
    assert own.mount(image, 2) == directory
    assert (directory / "data/1.bin").read_bytes() == data_of(1)
    assert system_calls.unmount(str(merged), 0) == 0
    wait_for_end(pid)
    assert len(machine.processes()) == 1


def test_unmount_when_nothing_uses_it_then_the_cache_shrinks_to_its_limit(machine, data):
    own = machine.mounts(cache_size=1 << 20)
    image = own.find(data, manifest=manifest_of(data), layers=[])
    own.mount(image, 2)
    wait_for(own, "complete")
    (pid,) = machine.processes()
    inflated = machine.root / "cache/inflated"

    def size():
        return sum(each.stat().st_blocks * 512 for each in inflated.glob("*/*"))

    assert size() > 4 << 20
    own.unmount(image.manifest, 2)
    wait_for_end(pid)
    own.unmount(image.manifest, 2)  # nothing is mounted any more, which is not an error
    deadline = time.monotonic() + 20
    while size() > 1 << 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_mount_when_complete_then_the_next_needs_no_process(machine, data):
    own = machine.mounts()
    image = own.find(data, manifest=manifest_of(data), layers=[])
    own.mount(image, 2)
    wait_for(own, "complete")
    own.unmount(image.manifest, 2)
    directory = own.mount(image, 2)
    machine.kill()
    for number in range(DATA_FILES):
        assert (directory / f"data/{number}.bin").read_bytes() == data_of(number)


def wait_for(own, state):
    """Wait until the only mount has a state."""
    deadline = time.monotonic() + 30
    while [each.state for each in own.mounted()] != [state]:
        assert time.monotonic() < deadline, own.mounted()
        time.sleep(0.05)


def test_mount_when_complete_for_a_while_then_its_process_ends(machine, data, monkeypatch):
    own = machine.mounts()
    image = own.find(data, manifest=manifest_of(data), layers=[])
    with (own.mount(image, 2) / "data/3.bin").open("rb") as file:
        (pid,) = machine.processes()
        own.verify(image, 2)
        deadline = time.monotonic() + 60
        while (found := own.mount(image, 2)).name != "complete":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert machine.processes() == [pid], "an overlay may still be made on the first mount"
        monkeypatch.setattr(image_mounts, "REPLACED_AFTER", 0.0)
        assert own.mount(image, 2) == found
        assert mounted_below(machine.directory) == [str(found)]
        assert file.read() == data_of(3)
    wait_for_end(pid)
    assert machine.processes() == []
    (status,) = own.mounted()
    assert (status.state, status.status.verified, status.directory) == ("complete", True, found)
    layers = [each for each in own_layers(machine) if each.is_pinned]
    assert {each.digest for each in layers} == {each.digest for each in layers_of(data)[:2]}
    again = machine.mounts()
    assert again.restore([(image, 2)]) == []
    assert again.mount(image, 2) == found
    assert (found / "data/3.bin").read_bytes() == data_of(3)


def own_layers(machine):
    """Return the inflated layers in the cache of the mounts."""
    descriptor = os.open(machine.root / "cache", os.O_RDONLY)
    try:
        return list(inflated_layers(descriptor))
    finally:
        os.close(descriptor)


def layers_of(reference):
    """Return the descriptors of the layers of an image."""
    with tocsin.open(reference) as image:
        return image.layer_descriptors
