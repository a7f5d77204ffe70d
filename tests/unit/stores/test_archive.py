import os
import tarfile
from dataclasses import replace

import pytest

from support.disks import fill_up
from support.images import make_image, put_index, referrer_to
from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_MANIFEST
from tocsin.stores.archive import OciArchive
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.layout import OciLayout
from tocsin.stores.origins import Nowhere
from tocsin.stores.spool import SMALL


@pytest.fixture
def image():
    return make_image({"a": b"hello"}, {"b": b"world" * 1000})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tar"


def put_and_interrupt(archive):
    with archive:
        make_image({"z": b"1"}).put(archive, "u")
        raise KeyboardInterrupt


def members(path):
    with tarfile.open(path) as tar:
        return tar.getmembers()


def test_archive_when_written_then_another_reader_reads_it(path, image):
    with OciArchive(path, write=True) as archive:
        image.put(archive, "x/y:1")
        assert archive.resolve("x/y:1").digest == image.descriptor.digest
        assert not path.exists()
    with OciArchive(path) as archive:
        found = archive.resolve(None)
        assert archive.tags() == ["x/y:1"]
        assert archive.manifest(found) == image.manifest
        for descriptor, data in zip(image.layer_descriptors, image.layers, strict=True):
            assert b"".join(archive.blob(descriptor)) == data
            assert archive.blob_range(descriptor, 2, 7) == data[2:7]
        assert archive.resolve(image.descriptor.digest).digest == found.digest
        with pytest.raises(NotFoundError):
            archive.resolve(Digest("0" * 64))
    assert list(path.parent.iterdir()) == [path]


def test_archive_when_written_then_members_are_sorted_and_without_times(path, image):
    with OciArchive(path, write=True) as archive:
        image.put(archive, "t")
    found = members(path)
    names = [m.name for m in found]
    assert names == sorted(names)
    assert names[:2] == ["blobs", "blobs/sha256"]
    assert names[-2:] == ["index.json", "oci-layout"]
    modes = {m.name: m.mode for m in found}
    assert modes["blobs"] == 0o755
    assert modes[names[2]] == modes["oci-layout"] == 0o444
    assert modes["index.json"] == 0o644
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in found} == {(0, 0, 0, "", "")}


def test_archive_when_blobs_arrive_in_any_order_then_the_bytes_are_equal(tmp_path):
    image = make_image(*({f"f{n}": os.urandom(5000)} for n in range(6)))
    with OciArchive(tmp_path / "1.tar", write=True) as archive:
        image.put(archive, "t")
    layout = OciLayout(tmp_path / "D", write=True)
    image.put(layout, "t")
    with OciArchive(tmp_path / "2.tar", write=True) as archive:
        for descriptor in reversed(image.layer_descriptors):
            assert archive.take_over(descriptor, layout.origin) == TakenOver()
        archive.put_blob(iter([image.config[:3], image.config[3:]]))
        archive.put_manifest(image.manifest, OCI_MANIFEST, tag="t")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_archive_when_a_blob_is_large_then_complete_and_space_is_freed(path):
    data = os.urandom(SMALL + 12345)
    with OciArchive(path, write=True) as archive:
        large = archive.put_blob(iter([data[:100], data[100:]]))
        assert b"".join(archive.blob(large)) == data
        archive.tag(make_image().put(archive), "t")
    with OciArchive(path) as archive:
        assert b"".join(archive.blob(large)) == data


def test_archive_when_opened_again_for_writing_then_its_content_is_kept(path, image):
    with OciArchive(path, write=True) as archive:
        subject = image.put(archive, "t")
    before = path.read_bytes()
    with OciArchive(path, write=True) as archive:
        assert archive.has_blob(image.layer_descriptors[0])
    assert path.read_bytes() == before
    with OciArchive(path, write=True) as archive:
        archive.put_blob(b"{}")
        archive.put_manifest(referrer_to(subject, "a/b"), OCI_MANIFEST)
        archive.commit()
        (found,) = archive.referrers(subject.digest)
        assert found.artifact_type == "a/b"
        archive.put_blob(b"more")
    with OciArchive(path) as archive:
        assert archive.referrers(subject.digest) == [found]
        assert b"".join(archive.blob(image.layer_descriptors[0])) == image.layers[0]
        assert archive.resolve(None).digest == subject.digest


def test_archive_when_left_with_an_error_then_it_is_unchanged(path, image):
    with OciArchive(path, write=True) as archive:
        image.put(archive, "t")
    before = path.read_bytes()
    archive = OciArchive(path, write=True)
    with pytest.raises(KeyboardInterrupt):
        put_and_interrupt(archive)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(UnsupportedError):
        archive.put_blob(b"")


@pytest.mark.parametrize("room", [0, 600, 3000])
def test_archive_when_disk_is_full_then_it_is_unchanged(path, image, monkeypatch, room):
    with OciArchive(path, write=True) as archive:
        image.put(archive, "t")
    before = path.read_bytes()
    archive = OciArchive(path, write=True)
    make_image({"z": b"1"}).put(archive, "u")
    with monkeypatch.context() as patch:
        fill_up(patch, room)
        with pytest.raises(OSError, match="disk is full") as refusal:
            archive.commit()
    assert str(path.parent) in refusal.value.filename
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("room", [0, SMALL, SMALL + 1000])
def test_archive_when_disk_is_full_in_a_large_blob_then_nothing_is_left(path, monkeypatch, room):
    archive = OciArchive(path, write=True)
    with monkeypatch.context() as patch:
        fill_up(patch, room)
        with pytest.raises(OSError, match="disk is full") as refusal:
            archive.put_blob(iter([bytes(SMALL)] * 2))
    assert refusal.value.filename == str(path.parent)
    archive.commit()
    archive.close()
    assert list(path.parent.iterdir()) == []


def test_archive_when_digest_or_size_differs_then_the_blob_is_not_kept(path):
    with OciArchive(path, write=True) as archive:
        for promise in ({"digest": Digest("0" * 64)}, {"size": 2}, {"size": 4}):
            with pytest.raises(VerificationError):
                archive.put_blob(iter([b"1", b"23"]), **promise)
    assert not path.exists()


def test_archive_when_a_blob_taken_over_is_damaged_then_nothing_is_written(path, image, tmp_path):
    layout = OciLayout(tmp_path / "D", write=True)
    image.put(layout, "t")
    layer = image.layer_descriptors[0]
    damaged = bytes([image.layers[0][0] ^ 1]) + image.layers[0][1:]
    (layout.path / "blobs" / "sha256" / layer.digest.hex).write_bytes(damaged)
    archive = OciArchive(path, write=True)
    assert archive.take_over(layer, layout.origin) == TakenOver()
    with pytest.raises(VerificationError):
        archive.commit()
    assert not path.exists()


def test_archive_when_multi_platform_then_complete(path):
    images = {p: make_image({"p": p.encode()}, platform=p) for p in ("linux/amd64", "linux/arm64")}
    with OciArchive(path, write=True) as archive:
        index = put_index(archive, images, "multi")
    with OciArchive(path) as archive:
        assert archive.resolve("multi").digest == index.digest


def test_archive_when_blob_is_missing_or_of_another_size_then_refused(path, image):
    with OciArchive(path, write=True) as archive:
        image.put(archive, "t")
    with OciArchive(path) as archive:
        with pytest.raises(NotFoundError):
            list(archive.blob(replace(image.layer_descriptors[0], digest=Digest("0" * 64))))
        with pytest.raises(VerificationError):
            list(archive.blob(replace(image.layer_descriptors[0], size=3)))
        for call in (
            lambda: archive.put_blob(b""),
            lambda: archive.take_over(image.layer_descriptors[0], archive.origin),
        ):
            with pytest.raises(UnsupportedError, match="not opened for writing"):
                call()


def test_take_over_when_the_blob_is_missing_or_remote_then_it_is_streamed(path, image, tmp_path):
    image.put(OciLayout(tmp_path / "D", write=True))
    layout = OciLayout(tmp_path / "D", write=True)
    layer = image.layer_descriptors[0]
    with OciArchive(path, write=True) as archive:
        for missing in (replace(layer, digest=Digest("0" * 64)), replace(layer, size=3)):
            assert archive.take_over(missing, layout.origin) == MustStream()
        assert archive.take_over(layer, Nowhere()) == MustStream()
        assert not archive.has_blob(layer)
        assert archive.take_over(layer, layout.origin) == TakenOver()
        assert archive.take_over(layer, Nowhere()) == TakenOver()  # the archive has the blob
        assert b"".join(archive.blob(layer)) == image.layers[0]


def test_take_over_when_the_source_is_an_archive_then_its_bytes_are_copied(path, image, tmp_path):
    with OciArchive(tmp_path / "source.tar", write=True) as source:
        image.put(source, "t")
    with OciArchive(tmp_path / "source.tar") as source, OciArchive(path, write=True) as archive:
        for descriptor in image.layer_descriptors:
            assert archive.take_over(descriptor, source.origin) == TakenOver()
        archive.put_blob(image.config)
        archive.put_manifest(image.manifest, OCI_MANIFEST, tag="t")
    assert path.read_bytes() == (tmp_path / "source.tar").read_bytes()


def test_delete_when_it_is_an_archive_then_it_is_unsupported(path, image):
    with OciArchive(path, write=True) as archive:
        put = image.put(archive, "t")
        with pytest.raises(UnsupportedError, match="cannot be deleted"):
            archive.delete(put)
        assert archive.tags() == ["t"]


@pytest.mark.parametrize(
    ("magic", "tool"),
    [(b"\x1f\x8b\x08", "gunzip"), (b"\x28\xb5\x2f\xfd", "unzstd"), (b"\xfd7zXZ\0", "unxz"),
     (b"BZh9", "bunzip2")],
)  # fmt: skip
@pytest.mark.parametrize("write", [False, True])
def test_archive_when_compressed_then_the_hint_names_a_command(path, magic, tool, write):
    path.write_bytes(magic + bytes(2000))
    with pytest.raises(UnsupportedError, match="compressed with") as caught:
        OciArchive(path, write=write)
    assert caught.value.hint == f"Run {tool} on it first."


def test_archive_when_not_an_archive_then_it_is_refused(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        OciArchive(path)
    path.write_bytes(b"x" * 2000)
    with pytest.raises(FormatError, match="not a usable tar archive"):
        OciArchive(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="oci-layout is missing"):
        OciArchive(path)
    with pytest.raises(UnsupportedError, match="is a directory"):
        OciArchive(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsupportedError, match="not a regular file"):
        OciArchive(tmp_path / "pipe", write=True)


def test_archive_when_it_has_other_members_then_it_is_not_rewritten(path, image):
    with OciArchive(path, write=True) as archive:
        image.put(archive, "t")
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"))
    assert OciArchive(path).tags() == ["t"]
    with pytest.raises(UnsupportedError, match=r"manifest.json is not part of a layout"):
        OciArchive(path, write=True)


def test_archive_when_path_is_a_symlink_then_its_target_is_replaced(path, image, tmp_path):
    path.symlink_to(tmp_path / "real.tar")
    with OciArchive(path, write=True) as archive:
        image.put(archive, "t")
    assert path.is_symlink()
    assert (tmp_path / "real.tar").is_file()
