"""Named pipes, devices and oversized files instead of blobs, archives, layers and zTOCs."""

import errno
import gzip
import os
import socket
import threading

import pytest

import tocsin
from support.images import image_of, layer_tar
from support.layout_files import LayoutFiles
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.regular_file import open_regular, read_regular
from tocsin.stores.layout import OciLayout


def make_pipe(path):
    os.mkfifo(path)


def make_link_to_device(path):
    path.symlink_to("/dev/zero")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))


KINDS = {"pipe": make_pipe, "device": make_link_to_device}


@pytest.fixture(params=KINDS)
def odd(request, tmp_path):
    """Path of a file that is not regular."""
    path = tmp_path / "odd"
    KINDS[request.param](path)
    return path


def test_open_when_not_a_regular_file_then_error_names_the_type(tmp_path):
    for name, make, said in [
        ("pipe", make_pipe, "a named pipe"),
        ("device", make_link_to_device, "a character device"),
        ("directory", lambda path: path.mkdir(), "a directory"),
    ]:
        path = tmp_path / name
        make(path)
        with pytest.raises(OSError, match=f"not a regular file but {said}") as refusal:
            open_regular(path)
        assert refusal.value.filename == path


def test_read_when_file_is_too_large_then_nothing_is_read(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="expected at most 1000") as refusal:
        read_regular(path, max_size=1000)
    assert refusal.value.errno == errno.EFBIG
    path.write_bytes(b"x" * 1000)
    assert read_regular(path, max_size=1000) == b"x" * 1000


def test_layer_and_ztoc_when_not_regular_then_fails_without_blocking(odd):
    ztoc = tocsin.build_ztoc(b"")
    with pytest.raises(OSError, match="not a regular file"):
        tocsin.open_layer(odd, ztoc.to_bytes())
    with pytest.raises(OSError, match="not a regular file"):
        tocsin.open_layer(__file__, odd)


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_archive_when_not_regular_then_fails_without_blocking(odd, transport):
    with pytest.raises(OSError, match="not a regular file"):
        tocsin.open(f"{transport}:{odd}")


@pytest.mark.parametrize("which", ["blob", "oci-layout", "index.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_layout_when_file_in_it_is_not_regular_then_fails_at_once(tmp_path, which, kind):
    with OciLayout(tmp_path / "layout", write=True) as store:
        image_of((b"", OCI_LAYER_GZIP)).put(store, "t")
    files = LayoutFiles(tmp_path / "layout")
    digest = files.tags["t"]["digest"].removeprefix("sha256:")
    path = files.path / (f"blobs/sha256/{digest}" if which == "blob" else which)
    path.unlink()
    KINDS[kind](path)
    with pytest.raises(OSError, match="not a regular file"):
        tocsin.open(f"oci:{files.path}:t")


def test_build_ztoc_when_layer_is_a_device_then_refused_at_once(tmp_path):
    path = tmp_path / "layer"
    make_link_to_device(path)
    with pytest.raises(OSError, match="not a regular file but a character device"):
        tocsin.build_ztoc(path)


def test_build_ztoc_when_layer_is_a_named_pipe_then_it_is_read(tmp_path):
    data = gzip.compress(layer_tar({"f": b"text"}))
    path = tmp_path / "layer"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    ztoc = tocsin.build_ztoc(path)
    writer.join()
    assert ztoc.cat("f", data) == b"text"
