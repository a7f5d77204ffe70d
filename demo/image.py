"""A real image in an OCI layout, from files of the machine at hand; no network, no root."""

from __future__ import annotations

import hashlib
import os
import stat
import sysconfig
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.model.descriptor import Descriptor
from tocsin.model.go_json import encode
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
WANTED_SIZE = 300 * MIB
"""Uncompressed bytes the whole image should have at least."""

PLACES = (
    Path("/usr"),
    Path("/opt"),
    Path(sysconfig.get_path("stdlib")),
    Path(sysconfig.get_path("purelib")),
    Path.home() / ".cargo",
    Path.home() / ".rustup",
    Path(__file__).resolve().parent.parent / "target",
)
"""Where files are looked for, in this order, until there are enough."""


@dataclass
class Choice:
    """Files of one kind, up to a size in all.

    Attributes:
        smallest: bytes a file has at least.
        largest: bytes a file has at most.
        wanted: bytes after which no more files are taken.
        files: chosen so far.
        size: bytes of them.
    """

    smallest: int
    largest: int
    wanted: int
    files: list[Path] = field(default_factory=list)
    size: int = 0

    def offer(self, path: Path, size: int) -> bool:
        """Take a file if it fits and is wanted; say whether it was taken."""
        taken = self.smallest <= size <= self.largest and self.size < self.wanted
        if taken:
            self.files.append(path)
            self.size += size
        return taken


@dataclass(frozen=True)
class Layer:
    """A layer that has been written: its blob, and what it was before compression."""

    descriptor: Descriptor
    size: int
    diff_id: str


def make(directory: Path, *, tag: str) -> Path:
    """Write an image of three layers to an OCI layout, and tell about it.

    Returns:
        A file of this machine that is in the layer of large binaries, one of middling size.
    """
    print("  reading and compressing, which takes longer than all that follows", flush=True)
    small = Choice(1, 64 << 10, 110 * MIB)
    large = Choice(2 * MIB, 96 * MIB, 220 * MIB)
    for place in PLACES:
        for path, size in _files(place):
            if not large.offer(path, size):
                small.offer(path, size)
    settings = Choice(1, 64 << 10, 2 * MIB)
    for path, size in _files(Path("/etc")):
        settings.offer(path, size)
    layers = {
        "many small files": small.files,
        "large binaries": large.files,
        "settings": settings.files,
    }
    with OciLayout(directory, write=True) as layout:
        with ThreadPoolExecutor() as pool:
            written = list(pool.map(lambda files: _write_layer(layout, files), layers.values()))
        for (name, files), layer in zip(layers.items(), written, strict=True):
            size = layer.descriptor.size
            print(
                f"  {name:18}{len(files):7,} files {layer.size / MIB:7.1f} MiB, "
                f"as gzip {size / MIB:6.1f} MiB ({layer.size / size:.1f} : 1)"
            )
        total = sum(layer.size for layer in written)
        if total < WANTED_SIZE:
            print(f"  (this machine has only {total / MIB:.0f} MiB of such files)")
        _write_image(layout, written, tag)
    by_size = sorted(large.files or small.files, key=lambda path: (path.stat().st_size, path))
    return by_size[len(by_size) // 2]


def _write_image(layout: OciLayout, layers: list[Layer], tag: str) -> None:
    config = encode(
        {
            "architecture": "arm64" if os.uname().machine == "aarch64" else "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    )
    layout.put_blob(config)
    manifest = Manifest(
        config=Descriptor.of(config, OCI_CONFIG),
        layers=tuple(layer.descriptor for layer in layers),
        media_type=OCI_MANIFEST,
    )
    layout.put_manifest(manifest.to_json(), OCI_MANIFEST, tag=tag)


def _files(place: Path) -> Iterator[tuple[Path, int]]:
    """Give the readable regular files below a place and their sizes; links are not followed."""
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                yield path, status.st_size


def _write_layer(layout: OciLayout, files: list[Path]) -> Layer:
    """Stream a gzip-compressed tar of `files` into the layout."""
    stream = _GzipStream()
    descriptor = layout.put_blob(_tar(files, stream), media_type=OCI_LAYER_GZIP)
    return Layer(descriptor, stream.size, f"sha256:{stream.sha256.hexdigest()}")


def _tar(files: list[Path], stream: _GzipStream) -> Iterator[bytes]:
    with tarfile.open(mode="w|", fileobj=stream, format=tarfile.PAX_FORMAT) as tar:
        for path in files:
            try:
                data, entry = path.read_bytes(), tar.gettarinfo(path)
            except OSError as error:
                # It was there a moment ago; a log that is being rotated, for instance.
                print(f"  (left out {path}: {error.strerror})")
                continue
            entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", len(data)
            tar.addfile(entry, BytesIO(data))
            yield from stream.pieces()
    yield from stream.pieces()
    yield stream.finish()


class _GzipStream:
    """A file to write to, from which the compressed bytes are taken as they come."""

    def __init__(self) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._compressor = zlib.compressobj(6, wbits=31)
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.sha256.update(data)
        if piece := self._compressor.compress(data):
            self._pieces.append(piece)
        return len(data)

    def pieces(self) -> list[bytes]:
        taken, self._pieces = self._pieces, []
        return taken

    def finish(self) -> bytes:
        return self._compressor.flush()
