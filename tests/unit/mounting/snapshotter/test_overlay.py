"""Mounts of snapshots. Expected: containerd v2.2.6, plugins/snapshots/overlay/overlay_test.go."""

from pathlib import Path

from tocsin.mounting.snapshotter.overlay import Mount, mounts_of
from tocsin.mounting.snapshotter.snapshot import Kind

FILES, WORK = Path("/r/snapshots/3/fs"), Path("/r/snapshots/3/work")
LOWER = [Path("/r/snapshots/2/fs"), Path("/r/snapshots/1/fs")]
LOWERDIR = "lowerdir=/r/snapshots/2/fs:/r/snapshots/1/fs"


def mounts(kind, lower):
    return mounts_of(kind, FILES, WORK, lower, ["index=off"])


def test_mounts_when_active_without_parent_then_bind():
    assert mounts(Kind.ACTIVE, []) == [Mount("bind", str(FILES), ("rw", "rbind"))]


def test_mounts_when_view_without_parent_then_read_only_bind():
    assert mounts(Kind.VIEW, []) == [Mount("bind", str(FILES), ("ro", "rbind"))]


def test_mounts_when_active_with_parents_then_overlay():
    options = (f"workdir={WORK}", f"upperdir={FILES}", LOWERDIR, "index=off")
    assert mounts(Kind.ACTIVE, LOWER) == [Mount("overlay", "overlay", options)]


def test_mounts_when_view_of_one_layer_then_read_only_bind_of_it():
    assert mounts(Kind.VIEW, LOWER[:1]) == [Mount("bind", str(LOWER[0]), ("ro", "rbind"))]


def test_mounts_when_view_of_several_layers_then_overlay_without_upper():
    assert mounts(Kind.VIEW, LOWER) == [Mount("overlay", "overlay", (LOWERDIR, "index=off"))]
