"""Mounts with EROFS over the files of the layers."""

import errno
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from support.cli_process import TOCSIN
from support.images import image_of
from support.mounts import DATA_FILES, DATA_SIZE, data_of, names_in, wait_for_end
from support.tarmaker import entry, tar
from support.tools import missing, tool
from support.tree_snapshot import snapshot
from tocsin.model.media_types import OCI_LAYER
from tocsin.stores.layout import OciLayout


@pytest.fixture(autouse=True)
def _kernel(machine):
    release = re.match(r"([0-9]+)\.([0-9]+)", os.uname().release)
    if release is None or (int(release[1]), int(release[2])) < (6, 12):
        missing("EROFS over files needs Linux 6.12")
    if "erofs" not in Path("/proc/filesystems").read_text().split():
        missing("this kernel has no EROFS")


def kind_of(directory):
    """Return the type of what is mounted in a directory."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[4] == str(directory):
            return rest.split()[0]
    return None


def mounted_below(directory):
    """Return the directories below a directory in which something is mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [where for where in (x.split()[4] for x in lines) if where.startswith(f"{directory}/")]


def read_at(path, at):
    """Return a page of a file; ``None`` if that is an input/output error."""
    with path.open("rb", buffering=0) as file:
        try:
            return os.pread(file.fileno(), 4096, at)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return None


@pytest.mark.parametrize("tag", ["seek", "v2", "plain"])
@pytest.mark.parametrize("is_complete", [False, True])
def test_mount_when_erofs_then_the_tree_is_that_of_fuse(machine, layout, tag, is_complete):
    image = f"oci:{layout}:{tag}"
    machine.mount(image, "--front", "fuse", *([] if is_complete else ["--no-background"]))
    assert machine.status()["front"] == "fuse"
    if is_complete:
        machine.wait_for("complete")
    expected = snapshot(machine.mount_point)
    machine.ok("umount", machine.mount_point)
    cache = [] if is_complete else ["--cache-dir", machine.directory / "new", "--no-background"]
    machine.mount(image, "--front", "erofs", *cache)
    assert kind_of(machine.mount_point) == "erofs"
    assert snapshot(machine.mount_point) == expected
    assert len(expected) > DATA_FILES
    found = machine.status()
    assert found["front"] == "erofs"
    # Reads of a complete image do not reach the process.
    assert (found["reads"] == 0) == is_complete
    machine.ok("umount", machine.mount_point)
    assert mounted_below(machine.directory) == []
    assert machine.mounts() == []
    wait_for_end(found["pid"])
    assert names_in(machine.run_directory / "tocsin") == ["lock"]


def test_mount_when_auto_then_erofs_only_if_others_cannot_reach_it(machine, layout):
    machine.mount(f"oci:{layout}:seek")
    assert kind_of(machine.mount_point) == "erofs"
    machine.ok("umount", machine.mount_point)
    machine.directory.chmod(0o755)
    try:
        machine.mount(f"oci:{layout}:seek")
        assert machine.status()["front"] == "fuse"
        machine.ok("umount", machine.mount_point)
        failed = machine.tocsin("mount", "--front=erofs", f"oci:{layout}:seek", machine.mount_point)
        assert failed.returncode != 0
        assert "other users could use the mount" in failed.stderr
        machine.mount(f"oci:{layout}:seek", "--allow-other")
        assert kind_of(machine.mount_point) == "erofs"
        machine.ok("umount", machine.mount_point)
    finally:
        machine.directory.chmod(0o700)


def test_mount_when_recording_then_fuse(machine, layout):
    log = machine.directory / "app.log"
    machine.mount(f"oci:{layout}:seek", "--record", log)
    assert machine.status()["front"] == "fuse"
    machine.ok("umount", machine.mount_point)
    options = ["--front", "erofs", "--record", log]
    failed = machine.tocsin("mount", *options, f"oci:{layout}:seek", machine.mount_point)
    assert failed.returncode == 2
    assert "--record needs --front fuse" in failed.stderr


def test_mount_when_without_rights_then_error(machine, layout):
    drop = [shutil.which("setpriv"), "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    wanted = [TOCSIN, "mount", "--front=erofs", f"oci:{layout}:seek", machine.mount_point]
    failed = subprocess.run(  # noqa: S603 (our own program)
        [*drop, *wanted], capture_output=True, text=True, env=machine.environment, check=False
    )
    assert failed.returncode != 0
    assert "only root may mount EROFS" in failed.stderr


def test_erofs_when_process_is_killed_then_reads_fail_and_never_give_zeros(machine, layout):
    machine.mount(f"oci:{layout}:seek", "--front", "erofs", "--no-background")
    assert (machine.mount_point / "data/0.bin").read_bytes() == data_of(0)
    machine.kill()
    assert machine.status()["state"] == "dead"
    for number in range(1, DATA_FILES):
        path = machine.mount_point / f"data/{number}.bin"
        for at in range(0, DATA_SIZE, 4096):
            # What the kernel had read ahead is still there.
            assert read_at(path, at) in (None, data_of(number)[at : at + 4096])
    with pytest.raises(OSError, match="Input/output error"):
        (machine.mount_point / f"data/{DATA_FILES - 1}.bin").read_bytes()


@pytest.mark.parametrize("way", ["umount", "clean", "mount"])
@pytest.mark.parametrize("is_complete", [False, True])
def test_dead_erofs_when_cleaned_then_the_directory_is_free(machine, layout, way, is_complete):
    image = f"oci:{layout}:seek"
    if is_complete:
        machine.ok("fetch", "--cache-dir", machine.cache, image)
    machine.mount(image, "--front", "erofs", *([] if is_complete else ["--no-background"]))
    machine.kill()
    if way == "mount":
        machine.mount(image, "--front", "erofs")
        assert (machine.mount_point / "data/0.bin").read_bytes() == data_of(0)
        machine.ok("umount", machine.mount_point)
    elif way == "clean":
        assert json.loads(machine.ok("mounts", "--clean", "--json"))["mounts"] == []
    else:
        machine.ok("umount", machine.mount_point)
    assert mounted_below(machine.directory) == []
    assert machine.mounts() == []


def test_complete_erofs_when_process_is_killed_then_files_stay_readable(machine, layout):
    image = f"oci:{layout}:seek"
    machine.mount(image)
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)
    machine.mount(image, "--front", "erofs")
    machine.kill()
    for number in range(DATA_FILES):
        assert (machine.mount_point / f"data/{number}.bin").read_bytes() == data_of(number)


def test_complete_erofs_when_cache_was_changed_then_data_is_fetched_again(machine, layout):
    image = f"oci:{layout}:seek"
    machine.mount(image)
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)
    for data in (machine.cache / "inflated").glob("*/data"):
        with data.open("r+b") as file:
            file.seek(data.stat().st_size // 2)
            file.write(b"damaged")
    machine.mount(image, "--front", "erofs")
    for number in range(DATA_FILES):
        assert (machine.mount_point / f"data/{number}.bin").read_bytes() == data_of(number)
    assert machine.status()["bytes_fetched"] > 0


@pytest.mark.parametrize("is_complete", [False, True])
def test_erofs_when_in_use_then_only_lazy_unmounts(machine, layout, is_complete):
    image = f"oci:{layout}:seek"
    if is_complete:
        machine.mount(image)
        machine.wait_for("complete")
        machine.ok("umount", machine.mount_point)
    machine.mount(image, "--front", "erofs", *([] if is_complete else ["--no-background"]))
    pid = machine.status()["pid"]
    with (machine.mount_point / "data/1.bin").open("rb", buffering=0) as file:
        failed = machine.tocsin("umount", machine.mount_point)
        assert failed.returncode != 0
        assert f"({os.getpid()})" in failed.stderr
        machine.ok("umount", "--lazy", machine.mount_point)
        assert kind_of(machine.mount_point) is None
        assert file.read(DATA_SIZE) == data_of(1)
    wait_for_end(pid)


def test_access_log_when_front_is_erofs_then_its_files_are_fetched(machine, layout):
    log = machine.directory / "app.log"
    image = f"oci:{layout}:seek"
    machine.mount(image, "--record", log, "--no-background")
    (machine.mount_point / "data/4.bin").read_bytes()
    machine.ok("umount", machine.mount_point)
    options = ["--access-log", log, "--no-background", "--cache-dir", machine.directory / "new"]
    machine.mount(image, "--front", "erofs", *options)
    deadline = time.monotonic() + 10
    while machine.status()["bytes_fetched"] < DATA_SIZE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert machine.status()["bytes_left"] > 0
    assert (machine.mount_point / "data/4.bin").read_bytes() == data_of(4)


def put_layers(machine, *layers):
    """Store an image with these layers, and return its reference."""
    directory = machine.directory / "own"
    with OciLayout(directory, write=True) as store:
        image_of(*((layer, OCI_LAYER) for layer in layers)).put(store, "t")
    return f"oci:{directory}:t"


def test_mount_when_entries_are_of_all_kinds_then_the_tree_is_that_of_fuse(machine):
    lower = tar(
        entry("d", type=tarfile.DIRTYPE, mode=0o751, mtime=5),
        entry("d/empty", mtime=7),
        entry("d/one", b"1", mode=0o4755, uid=1, gid=2**31),
        entry("d/large", os.urandom(3 << 20)),
        entry("d/xattr", b"x", pax={"SCHILY.xattr.user.k": "v" * 3000}),
        entry("d/hidden", b"h"),
        entry("link", type=tarfile.SYMTYPE, linkname="d/one"),
        entry("second", type=tarfile.LNKTYPE, linkname="d/large"),
        entry("fifo", type=tarfile.FIFOTYPE),
        entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        *(entry(f"d/{number}", b"%d" % number * number) for number in range(2000)),
    )
    upper = tar(entry("d/.wh.hidden"), entry("d/1", b"new" * 50_000))
    image = put_layers(machine, lower, upper)
    machine.mount(image, "--front", "fuse", "--no-background")
    expected = snapshot(machine.mount_point)
    machine.ok("umount", machine.mount_point)
    for cache in ("cache", "new"):
        options = ["--cache-dir", machine.directory / cache, "--no-background"]
        machine.mount(image, "--front", "erofs", *options)
        assert snapshot(machine.mount_point) == expected
        machine.ok("umount", machine.mount_point)


def test_mount_when_file_is_sparse_then_auto_is_fuse_until_all_is_here(machine):
    file = machine.directory / "sparse"
    with file.open("wb") as out:
        out.truncate(50_000_000)
        out.seek(1 << 20)
        out.write(os.urandom(8192))
    tool("tar")("--format=pax", "-SC", machine.directory, "-cf", f"{file}.tar", "sparse")
    image = put_layers(machine, Path(f"{file}.tar").read_bytes())
    notes = machine.mount(image, "--no-background")["notes"]
    assert [note for note in notes if "mounted with FUSE, since EROFS" in note]
    assert machine.status()["front"] == "fuse"
    assert (machine.mount_point / "sparse").read_bytes() == file.read_bytes()
    machine.ok("umount", machine.mount_point)
    machine.ok("fetch", "--cache-dir", machine.cache, image)
    machine.mount(image)
    assert machine.status()["front"] == "erofs"
    assert (machine.mount_point / "sparse").read_bytes() == file.read_bytes()
