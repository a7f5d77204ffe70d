"""Blobs taken over by a layout: linked, copied, and never linked to a symbolic link."""

import os

import pytest

from support.images import make_image
from tocsin.images.copying import copy_blob
from tocsin.stores.base import MustStream, MustVerify, TakenOver
from tocsin.stores.layout import OciLayout


@pytest.fixture
def image():
    return make_image({"a": os.urandom(9_000)})


@pytest.fixture
def source(tmp_path, image):
    layout = OciLayout(tmp_path / "source", write=True)
    image.put(layout, "t")
    return layout


@pytest.fixture
def sink(tmp_path):
    return OciLayout(tmp_path / "deep/er/sink", write=True)


def blob_path(layout, descriptor):
    return layout.path / "blobs" / "sha256" / descriptor.digest.hex


def link_out(layout, descriptor, directory, *, relative=True):
    """Move a blob elsewhere and leave a symbolic link, as Bazel does; return the file."""
    blob = blob_path(layout, descriptor)
    directory.mkdir(exist_ok=True)
    file = directory / descriptor.digest.hex
    blob.rename(file)
    blob.symlink_to(os.path.relpath(file, blob.parent) if relative else file)
    return file


@pytest.mark.parametrize("relative", [True, False])
def test_take_over_when_the_blob_is_a_symlink_then_its_target_is_linked(
    tmp_path, source, sink, image, relative
):
    layer = image.layer_descriptors[0]
    file = link_out(source, layer, tmp_path / "cache", relative=relative)
    assert sink.take_over(layer, source.origin).verify_and_finish() == TakenOver()
    copied = blob_path(sink, layer)
    assert not copied.is_symlink()
    assert copied.samefile(file)
    file.unlink()
    assert b"".join(sink.blob(layer)) == image.layers[0]


def test_take_over_when_the_blob_is_a_chain_of_symlinks_then_no_symlink(
    tmp_path, source, sink, image
):
    layer = image.layer_descriptors[0]
    file = link_out(source, layer, tmp_path / "one")
    two = tmp_path / "two"
    file.rename(two)
    file.symlink_to("../two")
    copy_blob(source, sink, layer)
    assert not blob_path(sink, layer).is_symlink()
    assert b"".join(sink.blob(layer)) == image.layers[0]


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o620])
def test_take_over_when_others_can_write_the_blob_then_it_is_copied(source, sink, image, mode):
    layer = image.layer_descriptors[0]
    blob_path(source, layer).chmod(mode)
    copy_blob(source, sink, layer)
    assert not blob_path(sink, layer).samefile(blob_path(source, layer))
    assert b"".join(sink.blob(layer)) == image.layers[0]


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o600, 0o755])
def test_take_over_when_only_the_owner_can_write_the_blob_then_linked(source, sink, image, mode):
    layer = image.layer_descriptors[0]
    blob_path(source, layer).chmod(mode)
    copy_blob(source, sink, layer)
    assert blob_path(sink, layer).samefile(blob_path(source, layer))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_take_over_when_the_blob_is_another_users_then_it_is_copied(source, sink, image):
    layer = image.layer_descriptors[0]
    os.chown(blob_path(source, layer), 4321, 0)
    copy_blob(source, sink, layer)
    assert not blob_path(sink, layer).samefile(blob_path(source, layer))


def test_take_over_when_blocks_can_be_shared_then_no_bytes_are_written(
    source, sink, image, monkeypatch
):
    def share(fd, target):
        os.pwrite(target, os.pread(fd, 1 << 20, 0), 0)
        return True

    monkeypatch.setattr("tocsin.operating_system.share_blocks", share)
    layer = image.layer_descriptors[0]
    blob_path(source, layer).chmod(0o666)
    assert sink.take_over(layer, source.origin) == TakenOver()
    assert b"".join(sink.blob(layer)) == image.layers[0]
    assert not blob_path(sink, layer).samefile(blob_path(source, layer))


def test_take_over_when_shared_blocks_differ_then_nothing_is_stored(
    source, sink, image, monkeypatch
):
    def share(fd, target):
        os.pwrite(target, bytes(os.fstat(fd).st_size), 0)
        return True

    monkeypatch.setattr("tocsin.operating_system.share_blocks", share)
    layer = image.layer_descriptors[0]
    blob_path(source, layer).chmod(0o666)
    assert sink.take_over(layer, source.origin) == MustStream()
    assert not sink.has_blob(layer)
    assert sorted(p.name for p in sink.path.iterdir()) == ["blobs"]


def test_finish_when_the_link_has_changed_then_it_must_be_streamed(tmp_path, source, sink, image):
    layer = image.layer_descriptors[0]
    link_out(source, layer, tmp_path / "cache")
    takeover = sink.take_over(layer, source.origin)
    assert isinstance(takeover, MustVerify)
    other = tmp_path / "other"
    other.write_bytes(bytes(layer.size))
    blob_path(source, layer).unlink()
    blob_path(source, layer).symlink_to(other)
    assert takeover.finish() == MustStream()
    assert not sink.has_blob(layer)


def test_take_over_when_the_blob_is_a_pipe_then_it_does_not_block(source, sink, image):
    layer = image.layer_descriptors[0]
    blob_path(source, layer).unlink()
    os.mkfifo(blob_path(source, layer))
    assert sink.take_over(layer, source.origin) == MustStream()


def test_layout_when_its_lock_file_is_a_symlink_then_it_is_not_written(tmp_path, source, image):
    precious = tmp_path / "precious"
    precious.write_bytes(b"{}")
    file = source.path / "oci-layout"
    file.unlink()
    file.symlink_to(precious)
    source.tag(image.descriptor, "again")
    assert precious.read_bytes() == b"{}"
    assert sorted(source.tags()) == ["again", "t"]
