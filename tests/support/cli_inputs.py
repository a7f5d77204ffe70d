"""Layers and layouts for tests of the command line."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from support.images import Image, make_image
from tocsin.layers.indexer import build_ztoc
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from pathlib import Path

BINARY = random.Random(7).randbytes(3 << 20)  # noqa: S311 (bytes that do not compress)
"""File content with all byte values, several spans long at a span size of 1 MiB."""
STRANGE_NAME = "odd/new\nline\x1b[31m\\"
LATIN1_NAME = "odd/caf\udce9"


@dataclass(frozen=True)
class Files:
    """A layer and its zTOC as files."""

    layer: Path
    ztoc: Path


def rich_tar() -> bytes:
    """Return a tar with every kind of entry."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as tar:

        def add(name: str, content: bytes = b"", **fields: object) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1_700_000_000
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))

        add("usr/", type=tarfile.DIRTYPE, mode=0o755)
        app: dict[str, Any] = {"mode": 0o4755, "uname": "root", "gname": "staff"}
        add("usr/bin/app", BINARY, **app)
        add("usr/bin/same", type=tarfile.LNKTYPE, linkname="usr/bin/app", **app)
        add("usr/bin/short", type=tarfile.SYMTYPE, linkname="app", mode=0o777)
        add("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        add("run/pipe", type=tarfile.FIFOTYPE)
        add("etc/os-release", b"NAME=test\n", uid=10, gid=20)
        add("empty")
        add(STRANGE_NAME, b"s")
    # tarfile writes PAX names as UTF-8 only; a GNU header can contain any bytes.
    info = tarfile.TarInfo(LATIN1_NAME)
    info.size = 1
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    end = out.getvalue().rstrip(b"\0")
    body = end + bytes(-len(end) % 512)
    return body + header + b"l" + bytes(511) + bytes(1024)


def put_files(directory: Path) -> Files:
    """Write the layer of `rich_tar` and its zTOC with spans of 1 MiB into `directory`."""
    layer, ztoc = directory / "layer.tar.gz", directory / "layer.ztoc"
    layer.write_bytes(gzip.compress(rich_tar(), 6, mtime=0))
    ztoc.write_bytes(build_ztoc(layer, span_size=1 << 20).to_bytes())
    return Files(layer, ztoc)


def put_image(directory: Path, tag: str = "app") -> Image:
    """Put an image with a large and a small layer into the layout at `directory`."""
    image = make_image({"usr/bin/app": BINARY}, {"etc/small": b"1\n"})
    with OciLayout(directory, write=True) as store:
        image.put(store, tag=tag)
    return image


@cache
def endless_layer(gibibytes: int) -> bytes:
    """Return a layer with one file of zeros, which compresses by a factor of a thousand."""
    member_size = 64 << 20
    info = tarfile.TarInfo("zeros")
    info.size = gibibytes << 30
    header = gzip.compress(info.tobuf(tarfile.GNU_FORMAT), mtime=0)
    zeros = gzip.compress(bytes(member_size), 6, mtime=0)
    end = gzip.compress(bytes(1024), mtime=0)
    return header + zeros * (info.size // member_size) + end


def put_endless_image(directory: Path, gibibytes: int) -> None:
    """Put an image tagged ``app``, whose only layer takes long, into the layout at `directory`."""
    layer = endless_layer(gibibytes)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b""))]},
        }
    ).encode()
    descriptor = Descriptor.of(layer, OCI_LAYER_GZIP)
    manifest = Manifest(Descriptor.of(config, OCI_CONFIG), (descriptor,), media_type=OCI_MANIFEST)
    with OciLayout(directory, write=True) as store:
        Image((layer,), (descriptor,), config, manifest.to_json()).put(store, tag="app")
