"""Makes an image in an OCI layout from files of this machine, without network or root."""

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
"""Minimum uncompressed size of the image, in bytes."""

SEARCH_DIRS = (
    Path("/usr"),
    Path("/opt"),
    Path(sysconfig.get_path("stdlib")),
    Path(sysconfig.get_path("purelib")),
    Path.home() / ".cargo",
    Path.home() / ".rustup",
    Path(__file__).resolve().parent.parent / "target",
)
"""Directories to take files from, in this order, until there are enough."""


@dataclass
class Choice:
    """Selects files of one kind, up to a total size.

    Attributes:
        smallest: minimum size of a file in bytes.
        largest: maximum size of a file in bytes.
        wanted: total size in bytes after which no more files are taken.
        files: the files taken so far.
        size: their total size in bytes.
    """

    smallest: int
    largest: int
    wanted: int
    files: list[Path] = field(default_factory=list)
    size: int = 0

    def offer(self, path: Path, size: int) -> bool:
        """Take a file if its size fits and more files are wanted; return whether it was taken."""
        taken = self.smallest <= size <= self.largest and self.size < self.wanted
        if taken:
            self.files.append(path)
            self.size += size
        return taken


@dataclass(frozen=True)
class Layer:
    """A layer that has been written: its blob, and its uncompressed size and digest."""

    descriptor: Descriptor
    size: int
    diff_id: str


def make(directory: Path, *, tag: str) -> Path:
    """Write an image of three layers to an OCI layout, and print its layers.

    Returns:
        The path of a file in the layer of large binaries, of medium size.
    """
    print("  Reading and compressing files; this takes longer than all other steps.", flush=True)
    small = Choice(1, 64 << 10, 110 * MIB)
    large = Choice(2 * MIB, 96 * MIB, 220 * MIB)
    for root in SEARCH_DIRS:
        for path, size in _files(root):
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
            print(f"  (this machine has only {total / MIB:.0f} MiB of suitable files)")
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


def _files(directory: Path) -> Iterator[tuple[Path, int]]:
    """Yield the readable regular files below a directory with their sizes, not following links."""
    for folder, folders, names in os.walk(directory):
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
                # It existed a moment ago; for example, a log that was rotated.
                print(f"  (skipped {path}: {error.strerror})")
                continue
            entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", len(data)
            tar.addfile(entry, BytesIO(data))
            yield from stream.pieces()
    yield from stream.pieces()
    yield stream.finish()


class _GzipStream:
    """A writable file object that compresses, and returns the compressed pieces."""

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
