"""Unusual images of tests/cases mounted, with each kind of index, as containerd unpacks them."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

import tocsin
from support import mounts, seek
from test_cases import NAMES, NOT_INDEXED, archive, converted, expected
from tocsin.model.reference import parse_reference
from tocsin.mounting.engine import Engine
from tocsin.mounting.opening import open_for_mount
from tocsin.mounting.options import MountOptions
from tocsin.stores.layout import OciLayout

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}


def found(top: bytes) -> dict[str, dict[str, object]]:
    """Return what is below a directory, in the format of the cases."""
    result = {}
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(directory, name)  # noqa: PTH118 (bytes)
            status = os.lstat(path)
            kind = KINDS.get(stat.S_IFMT(status.st_mode), "special")
            entry: dict[str, object] = {"type": kind, "uid": status.st_uid, "gid": status.st_gid}
            if kind == "link":
                entry["target"] = os.fsdecode(os.readlink(path))  # noqa: PTH115 (bytes)
            else:
                entry["mode"] = oct(stat.S_IMODE(status.st_mode))
            if kind == "file":
                with open(path, "rb") as file:  # noqa: PTH123 (bytes)
                    entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
                entry["size"] = status.st_size
            result[os.fsdecode(os.path.relpath(path, top))] = entry
    return result


def check(reference: str, name: str, index: str, front: str, place: Path) -> None:
    """Mount an image in this process, and compare everything in it with its case."""
    options = MountOptions(
        reference=parse_reference(reference), index=index, front=front, cache_dir=place / "cache"
    )
    directory = place / "mounted"
    directory.mkdir(parents=True)
    opened = open_for_mount(options, note=lambda _: None)
    try:
        engine = Engine(opened, options, lambda _: None)
        engine.mount(os.fspath(directory), layers=place / "layers")
        try:
            assert found(os.fsencode(directory)) == expected(name)
            # The second time, all of it comes from the cache of the kernel.
            assert found(os.fsencode(directory)) == expected(name)
        finally:
            engine.close()
    finally:
        opened.close()


@pytest.fixture(autouse=True)
def need_mounts():
    mounts.need_mounts()


@pytest.mark.parametrize("name", NAMES)
def test_image_when_mounted_without_index_then_as_unpacked(name, tmp_path):
    check(archive(name), name, "none", "auto", tmp_path)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_INDEXED])
def test_image_when_mounted_by_ztocs_then_as_unpacked(name, tmp_path):
    indexed = converted(name, tmp_path / "layout", reference_identical=True)
    check(indexed, name, "v2", "fuse", tmp_path)


@pytest.mark.parametrize("front", ["fuse", "auto"])
@pytest.mark.parametrize("name", NAMES)
def test_image_when_mounted_by_seek_table_then_as_unpacked(name, front, tmp_path):
    layout = tmp_path / "layout"
    tocsin.copy(archive(name), f"oci:{layout}:t")
    with OciLayout(layout, write=True) as store:
        seek.add_referrer(store, "t", span_size=64 << 10, threads=1)
    check(f"oci:{layout}:t", name, "auto", front, tmp_path)
