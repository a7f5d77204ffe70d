"""``tocsin ztoc cat`` and ``extract`` follow links only inside the layer."""

from __future__ import annotations

import gzip
import tarfile

import pytest

from support.cli_in_process import tocsin
from support.tarmaker import entry, tar
from tocsin import build_ztoc

SYMLINK, HARDLINK, DIRECTORY = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
READ_THE_IMAGE = (
    "Read the file from the image that the layer belongs to, with tocsin cat IMAGE PATH."
)


def link(name, target):
    return entry(name, type=SYMLINK, linkname=target)


# As in a Debian layer, for which the README shows a command.
ENTRIES = [
    entry("etc/", type=DIRECTORY),
    link("etc/os-release", "../usr/lib/os-release"),
    link("bin", "usr/bin"),
    entry("usr/lib/os-release", b"NAME=test\n"),
    entry("usr/bin/tool", b"#!/bin/sh\n"),
    entry("usr/bin/same", type=HARDLINK, linkname="usr/bin/tool"),
    entry("usr/bin/lower", type=HARDLINK, linkname="usr/bin/of-a-lower-layer"),
    link("absolute", "/usr/lib/os-release"),
    link("outside", "../../../../../../usr/lib/os-release"),
    link("to-hard-link", "bin/same"),
    link("two", "etc/os-release"),
    link("loop", "loop2"),
    link("loop2", "loop"),
    link("dangling", "usr/share/of-a-lower-layer"),
    link("lib64", "usr/lib64"),
    link("etc/passwd", "/etc/passwd-of-this-machine"),
]


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("links")
    layer = gzip.compress(tar(*ENTRIES), mtime=0)
    (directory / "layer").write_bytes(layer)
    (directory / "ztoc").write_bytes(build_ztoc(layer).to_bytes())
    return directory


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("etc/os-release", b"NAME=test\n"),
        ("/etc/os-release", b"NAME=test\n"),
        ("absolute", b"NAME=test\n"),
        ("outside", b"NAME=test\n"),
        ("two", b"NAME=test\n"),
        ("bin/tool", b"#!/bin/sh\n"),
        ("usr/bin/same", b"#!/bin/sh\n"),
        ("to-hard-link", b"#!/bin/sh\n"),
    ],
)
def test_cat_when_a_path_contains_links_then_followed_in_the_layer(layer, path, data, tmp_path):
    done = tocsin("ztoc", "cat", layer / "ztoc", layer / "layer", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    target = tmp_path / "out"
    done = tocsin("ztoc", "extract", layer / "ztoc", layer / "layer", path, "-o", target)
    assert done.returncode == 0
    assert target.read_bytes() == data


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "dangling",
            "dangling: the symbolic link dangling points to usr/share/of-a-lower-layer, which is "
            "not in this layer",
        ),
        (
            "lib64/ld.so",
            "lib64/ld.so: the symbolic link lib64 points to usr/lib64, which is not in this layer",
        ),
        (
            "etc/passwd",
            "etc/passwd: the symbolic link etc/passwd points to /etc/passwd-of-this-machine, which "
            "is not in this layer",
        ),
    ],
)
def test_cat_when_a_link_target_is_in_another_layer_then_the_link_is_named(layer, path, message):
    done = tocsin("ztoc", "cat", layer / "ztoc", layer / "layer", path)
    assert done.returncode == 3
    assert done.stderr.decode() == f"error: {message}\nhint: {READ_THE_IMAGE}\n"


def test_cat_when_a_hard_link_target_is_in_another_layer_then_hint(layer):
    done = tocsin("ztoc", "cat", layer / "ztoc", layer / "layer", "usr/bin/lower")
    assert done.returncode == 3
    assert done.stderr.decode().endswith(f"hint: {READ_THE_IMAGE}\n")


@pytest.mark.parametrize("path", ["loop", "loop/x"])
def test_cat_when_links_form_a_loop_then_not_found(layer, path):
    done = tocsin("ztoc", "cat", layer / "ztoc", layer / "layer", path)
    assert done.returncode == 3


def test_cat_when_a_path_continues_below_a_file_then_not_found(layer):
    done = tocsin("ztoc", "cat", layer / "ztoc", layer / "layer", "two/x")
    assert done.returncode == 3
