"""Snapshots without containerd: stubs are right parents for every image that has their layers."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.digest import Digest
from tocsin.model.reference import parse_registry_name
from tocsin.mounting.image_mounts import ImageMount
from tocsin.mounting.lazy_images import LazyImage, NotLazy
from tocsin.mounting.snapshotter.problems import (
    SnapshotArgumentError,
    SnapshotExistsError,
    SnapshotStateError,
)
from tocsin.mounting.snapshotter.snapshot import Kind
from tocsin.mounting.snapshotter.snapshots import Snapshots

TARGET = "containerd.io/snapshot.ref"
REFERENCE = "containerd.io/snapshot/cri.image-ref"
LAYERS = "containerd.io/snapshot/cri.image-layers"


def image(name, *layers):
    """Return an image whose chain IDs are the names of its layers."""
    digest = Digest.of(name.encode())
    reference = parse_registry_name(f"r.example/{name}@{digest}")
    return LazyImage(reference, digest, layers, "seek", by_tag=True)


class FakeMounts:
    """Mounts that are directories with the name of the image and the number of layers."""

    def __init__(self, root, *images):
        self.root = root
        self.images = {image.reference.repository: image for image in images}
        self.live = set()
        self.broken = set()
        self.forged = set()

    def find(self, reference, *, manifest, layers):
        found = self.images.get(reference.partition("/")[2])
        return found or NotLazy("the image has no index")

    def mount(self, image, count):
        if image.reference.repository in self.broken:
            raise UnsupportedError("no FUSE here")
        directory = self.root / f"{image.reference.repository}-{count}"
        directory.mkdir(exist_ok=True)
        self.live.add((image.manifest, count))
        return directory

    def verify(self, image, count):
        self.mount(image, count)
        if image.reference.repository in self.forged:
            raise FormatError("the image's config lies about layer 1", what="config.diff-ids")

    def unmount(self, manifest, count):
        self.live.discard((manifest, count))

    def mounted(self):
        return [ImageMount(*each, status=None) for each in sorted(self.live, key=str)]


LAZY = image("lazy", "C1", "C12")
OTHER = image("other", "C1", "C13")


@pytest.fixture
def mounts(tmp_path):
    directory = tmp_path / "images"
    directory.mkdir()
    return FakeMounts(directory, LAZY, OTHER)


@pytest.fixture
def snapshots(tmp_path, mounts):
    opened = Snapshots(tmp_path, mounts)
    yield opened
    opened.close()


def lower(mount):
    """Return the lower directories of a mount, the uppermost first, by the names that matter."""
    if mount.kind == "bind":
        return [_short(mount.source)]
    options = dict(each.partition("=")[::2] for each in mount.options)
    return [_short(each) for each in options["lowerdir"].split(":")]


def _short(path):
    parts = path.split("/")
    return parts[-1] if parts[-2] == "images" else parts[-2]


class Containerd:
    """Does what containerd's metadata store and its unpacker do, in one namespace.

    Source: containerd v2.2.6, core/metadata/snapshot.go and core/unpack/unpacker.go.
    """

    def __init__(self, snapshots, namespace="default"):
        self.snapshots = snapshots
        self.namespace = namespace
        self.names = {}  # of chain IDs
        self.count = 0

    def pull(self, name, *chain, labels=True):
        """Pull an image; return for each layer ``had``, ``lazy`` or ``unpacked``."""
        return [
            self.layer(name, each, chain[index - 1] if index else "", labels=labels)
            for index, each in enumerate(chain)
        ]

    def layer(self, name, chain_id, above, *, labels=True):
        if chain_id in self.names:
            return "had"
        given = {TARGET: chain_id}
        if labels:
            given |= {REFERENCE: f"r.example/{name}", LAYERS: "sha256:" + "1" * 64}
        key = self.key(f"extract-1 {chain_id}")
        parent = self.names.get(above, "")
        try:
            self.snapshots.prepare(key, parent, given)
        except SnapshotExistsError:
            text = f'labels."containerd.io/snapshot.ref"=={chain_id},parent=="{parent}"'
            found = [
                each for each in self.snapshots.matching([text]) if each.kind is Kind.COMMITTED
            ]
            assert found, "containerd finds no target"
            self.names[chain_id] = found[0].key
            return "lazy" if found[0].stub else "had"
        self.names[chain_id] = self.key(chain_id)
        self.snapshots.commit(key, self.names[chain_id], given)
        return "unpacked"

    def run(self, chain_id, key):
        """Return the lower directories of a container."""
        return lower(self.snapshots.prepare(self.key(key), self.names[chain_id], {})[0])

    def key(self, name):
        self.count += 1
        return f"{self.namespace}/{self.count}/{name}"

    def collect(self, *used):
        """Remove every snapshot whose chain ID or key is not in use, children first."""
        keep = {self.names.get(each, each) for each in used}
        while True:
            parents = {each.parent for each in self.snapshots.matching([])}
            gone = [
                each.key for each in self.snapshots.matching([]) if each.key not in keep | parents
            ]
            if not gone:
                break
            for key in gone:
                self.snapshots.remove(key)
        self.names = {c: n for c, n in self.names.items() if c in used}
        self.snapshots.cleanup()


@pytest.fixture
def containerd(snapshots):
    return Containerd(snapshots)


def test_pull_when_image_is_lazy_then_container_is_on_its_mount(containerd, mounts):
    assert containerd.pull("lazy", "C1", "C12") == ["lazy", "lazy"]
    assert containerd.run("C12", "a") == ["lazy-2"]
    assert mounts.live == {(LAZY.manifest, 2)}


def test_pull_when_lazy_image_comes_first_then_plain_one_is_on_its_base(containerd, mounts):
    containerd.pull("lazy", "C1", "C12")
    assert containerd.pull("plain", "C1", "C14") == ["had", "unpacked"]
    layer = containerd.snapshots.stat(containerd.names["C14"]).number
    assert containerd.run("C14", "a") == [str(layer), "lazy-1"]
    assert mounts.live == {(LAZY.manifest, 1), (LAZY.manifest, 2)}


def test_pull_when_a_lazy_image_is_forged_then_no_other_is_unpacked_on_it(containerd, mounts):
    containerd.pull("lazy", "C1", "C12")
    mounts.forged.add("lazy")
    with pytest.raises(SnapshotStateError, match="lies about layer 1"):
        containerd.pull("plain", "C1", "C14")
    assert containerd.pull("other", "C1", "C13") == ["had", "lazy"]
    assert containerd.run("C13", "a") == ["other-2"], "what is mounted has its own layers"


def test_pull_when_many_wait_for_a_lazy_image_then_others_are_answered(containerd, mounts):
    containerd.pull("lazy", "C1", "C12")
    started, go_on = threading.Semaphore(0), threading.Event()

    def wait(_image, _count):
        started.release()
        assert go_on.wait(30)

    mounts.verify = wait
    key = containerd.key
    with ThreadPoolExecutor(8) as pool:
        above = containerd.names["C1"]
        waiting = [
            pool.submit(containerd.snapshots.prepare, key(f"extract-{number} C14"), above, {})
            for number in range(8)
        ]
        assert all(started.acquire(timeout=30) for _ in waiting)
        with pytest.raises(SnapshotStateError, match="8 other requests already wait") as caught:
            containerd.snapshots.prepare(key("extract-9 C14"), above, {})
        assert caught.value.hint == "Pull the image again later."
        assert containerd.snapshots.stat(above).key == above
        assert containerd.run("C12", "a") == ["lazy-2"]
        go_on.set()
    assert all(each.result() for each in waiting)
    mounts.verify = lambda _image, _count: None
    assert containerd.snapshots.prepare(key("extract-9 C14"), above, {})


def test_pull_when_plain_image_comes_first_then_lazy_one_has_its_mount(containerd):
    assert containerd.pull("plain", "C1", "C14") == ["unpacked", "unpacked"]
    assert containerd.pull("lazy", "C1", "C12") == ["had", "lazy"]
    assert containerd.run("C12", "a") == ["lazy-2"]
    base, top = (
        str(containerd.snapshots.stat(containerd.names[each]).number) for each in ("C1", "C14")
    )
    assert containerd.run("C14", "b") == [top, base]
    assert containerd.run("C1", "c") == [base]


def test_run_when_base_is_a_stub_then_base_alone_is_mounted(containerd):
    containerd.pull("lazy", "C1", "C12")
    assert containerd.pull("base", "C1", labels=False) == ["had"]
    assert containerd.run("C1", "a") == ["lazy-1"]
    view = containerd.snapshots.view(containerd.key("v"), containerd.names["C1"], {})
    assert (view[0].kind, lower(view[0])) == ("bind", ["lazy-1"])


def test_pull_when_two_lazy_images_share_a_base_then_each_has_its_mount(containerd):
    assert containerd.pull("lazy", "C1", "C12") == ["lazy", "lazy"]
    assert containerd.pull("other", "C1", "C13") == ["had", "lazy"]
    assert containerd.run("C12", "a") == ["lazy-2"]
    assert containerd.run("C13", "b") == ["other-2"]
    containerd.collect("C1", "C13")
    assert containerd.run("C13", "c") == ["other-2"]
    assert containerd.run("C1", "d") == ["lazy-1"]


def test_pull_when_images_have_different_layers_then_plain_one_is_unpacked(containerd):
    containerd.pull("lazy", "C1", "C12")
    assert containerd.pull("plain", "X1", "X12") == ["unpacked", "unpacked"]
    assert containerd.run("X12", "a") == ["4", "3"]


def test_pull_when_mount_fails_then_all_layers_are_unpacked(containerd, mounts):
    mounts.broken.add("lazy")
    assert containerd.pull("lazy", "C1", "C12") == ["unpacked", "unpacked"]
    info = containerd.snapshots.stat(containerd.names["C12"])
    assert info.labels["dev.tocsin/lazy"] == "false"
    assert info.labels["dev.tocsin/reason"] == "it cannot be mounted: no FUSE here"


def test_prepare_when_stub_cannot_be_mounted_then_nothing_is_left(containerd, mounts):
    containerd.pull("lazy", "C1", "C12")
    mounts.broken.add("lazy")
    with pytest.raises(UnsupportedError, match="no FUSE here"):
        containerd.run("C12", "a")
    assert len(list(containerd.snapshots.matching([]))) == 2
    assert list(containerd.snapshots._directories.root.iterdir()) == []


def test_pull_when_labels_are_of_another_image_then_layer_is_unpacked(containerd):
    assert containerd.pull("lazy", "X1") == ["unpacked"]
    labels = containerd.snapshots.stat(containerd.names["X1"]).labels
    assert "not those of the image" in labels["dev.tocsin/reason"]


def test_pull_when_another_namespace_has_the_image_then_the_stub_is_shared(snapshots, mounts):
    first, second = Containerd(snapshots, "one"), Containerd(snapshots, "two")
    assert first.pull("lazy", "C1", "C12") == ["lazy", "lazy"]
    assert second.pull("lazy", "C1", "C12") == ["lazy", "lazy"]
    assert first.names == second.names
    assert second.run("C12", "a") == ["lazy-2"]


def test_pull_when_another_namespace_has_the_base_unpacked_then_both_work(snapshots):
    first, second = Containerd(snapshots, "one"), Containerd(snapshots, "two")
    assert first.pull("plain", "C1", "C14") == ["unpacked", "unpacked"]
    assert second.pull("lazy", "C1", "C12")[1] == "lazy"
    assert second.run("C12", "a") == ["lazy-2"]
    assert first.run("C14", "a") == ["2", "1"]


def test_collect_when_last_container_is_removed_then_its_mount_goes(containerd, mounts):
    containerd.pull("lazy", "C1", "C12")
    containerd.run("C12", "a")
    running = next(each.key for each in containerd.snapshots.matching(["kind==active"]))
    containerd.collect(running)
    assert mounts.live == {(LAZY.manifest, 2)}
    assert lower(containerd.snapshots.mounts(running)[0]) == ["lazy-2"]
    containerd.collect()
    assert mounts.live == set()
    assert list(containerd.snapshots.matching([])) == []


def test_snapshots_when_opened_again_then_they_are_the_same(containerd, tmp_path, mounts):
    containerd.pull("lazy", "C1", "C12")
    containerd.pull("plain", "C1", "C14")
    containerd.run("C14", "a")
    before = list(containerd.snapshots.matching([]))
    containerd.snapshots.close()
    mounts.live.clear()
    again = Snapshots(tmp_path, mounts)
    assert list(again.matching([])) == before
    again.restore()
    assert mounts.live == {(LAZY.manifest, 1), (LAZY.manifest, 2)}
    again.close()


def test_restore_when_mounts_are_not_needed_then_they_are_unmounted(containerd, mounts):
    containerd.pull("lazy", "C1", "C12")
    mounts.live = {(OTHER.manifest, 2), (LAZY.manifest, 1)}
    containerd.snapshots.restore()
    assert mounts.live == {(LAZY.manifest, 2)}


def test_restore_when_a_mount_fails_then_the_next_request_tries_again(containerd, mounts, caplog):
    containerd.pull("lazy", "C1", "C12")
    containerd.pull("other", "C1", "C13")
    mounts.live.clear()
    mounts.broken.add("lazy")
    containerd.snapshots.restore()
    assert mounts.live == {(OTHER.manifest, 2)}
    assert "not mounted: no FUSE here" in caplog.text
    mounts.broken.clear()
    assert containerd.run("C12", "a") == ["lazy-2"]
    assert (LAZY.manifest, 2) in mounts.live


def test_commit_when_layer_is_not_lazy_then_the_reason_stays(containerd):
    containerd.pull("plain", "X1")
    labels = containerd.snapshots.stat(containerd.names["X1"]).labels
    assert labels["dev.tocsin/reason"] == "the image has no index"
    assert labels["dev.tocsin/lazy"] == "false"


def test_update_when_labels_are_replaced_then_those_of_a_stub_stay(containerd):
    containerd.pull("lazy", "C1", "C12")
    updated = containerd.snapshots.update(containerd.names["C12"], {"mine": "1"}, [])
    assert updated.labels == {
        "mine": "1",
        "containerd.io/snapshot.ref": "C12",
        "containerd.io/snapshot/remote": "tocsin",
        "dev.tocsin/lazy": "true",
    }
    changed = containerd.snapshots.update(updated.key, {}, ["labels.mine"])
    assert "mine" not in changed.labels


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_prepare_when_users_are_mapped_then_root_belongs_to_their_root(snapshots):
    users = {"containerd.io/snapshot/uidmapping": "0:1000:10"}
    groups = {"containerd.io/snapshot/gidmapping": "0:2000:10"}
    [mount] = snapshots.prepare("a", "", users | groups)
    status = Path(mount.source).stat()
    assert (status.st_uid, status.st_gid) == (1000, 2000)
    with pytest.raises(SnapshotArgumentError, match="not a mapping of IDs"):
        snapshots.prepare("b", "", users)


def test_prepare_when_parent_has_a_root_directory_then_its_mode_is_kept(snapshots):
    [mount] = snapshots.prepare("a", "", {})
    Path(mount.source).chmod(0o1711)
    snapshots.commit("a", "A", {})
    [mount] = snapshots.prepare("b", "A", {})
    upper = next(each for each in mount.options if each.startswith("upperdir="))
    assert Path(upper.removeprefix("upperdir=")).stat().st_mode & 0o7777 == 0o1711


@pytest.mark.parametrize(("key", "labels"), [("", {}), ("k" * 5000, {}), ("k", {"l": "v" * 5000})])
def test_prepare_when_request_is_too_large_then_it_is_refused(snapshots, key, labels):
    with pytest.raises(SnapshotArgumentError):
        snapshots.prepare(key, "", labels)
    assert list(snapshots.matching([])) == []
