"""Layers without an index, kept on disk with their zTOC."""

import errno
import os

import pytest

from support.images import make_image
from tocsin.layers.indexer import build_ztoc
from tocsin.layers.kept_layers import KeptLayers

IMAGE = make_image({"a": b"hello" * 1000})
(LAYER,), (DESCRIPTOR,) = IMAGE.layers, IMAGE.layer_descriptors
ZTOC = build_ztoc(LAYER, span_size=1 << 20)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def kept(tmp_path, notes):
    tmp_path.chmod(0o700)
    return KeptLayers(tmp_path / "cache", notes.append)


def keep(kept, *, data=True):
    layer = kept.begin(DESCRIPTOR, data=data)
    layer.write(LAYER[:10])
    layer.write(LAYER[10:])
    return layer.finish(ZTOC)


def test_layer_when_kept_then_found_with_its_bytes(kept):
    source = keep(kept)
    assert source.read(0, len(LAYER)) == LAYER
    found = kept.find(DESCRIPTOR)
    assert found.ztoc == ZTOC
    assert found.source.read(5, 50) == LAYER[5:50]
    found.source.close()
    source.close()


def test_layer_when_only_its_ztoc_is_kept_then_no_bytes(kept):
    assert keep(kept, data=False) is None
    found = kept.find(DESCRIPTOR)
    assert (found.ztoc, found.source) == (ZTOC, None)


def test_layer_when_abandoned_then_nothing_is_left(kept, tmp_path):
    layer = kept.begin(DESCRIPTOR, data=True)
    layer.write(LAYER)
    layer.abandon()
    assert kept.find(DESCRIPTOR) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_layer_when_ztoc_is_damaged_then_not_found(kept, tmp_path):
    keep(kept).close()
    (path,) = tmp_path.rglob("ztoc")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert kept.find(DESCRIPTOR) is None


def test_layer_when_disk_is_full_then_not_kept_and_noted(kept, notes, monkeypatch):
    def full(_fd, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert keep(kept) is None
    assert len(notes) == 1
    assert "No space left on device" in notes[0]
    monkeypatch.undo()
    assert kept.find(DESCRIPTOR) is None


def test_directory_when_others_may_write_to_it_then_not_used(kept, notes, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "inflated").mkdir()
    (tmp_path / "cache" / "inflated").chmod(0o777)
    assert keep(kept) is None
    assert kept.find(DESCRIPTOR) is None
    assert "other users can write" in notes[0]
