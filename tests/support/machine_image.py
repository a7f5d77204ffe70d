"""A runnable image of this machine's busybox, enlarged with other files of this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from support.registry_client import noise
from support.registry_real import program
from support.tools import missing
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.model.platform import Platform, write_platform
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

_FROM = Path("/usr")
_LARGEST_FILE = 64 << 20
_PIECE = 1 << 20
GREETING = "hello from busybox"


class _GzipTar:
    """A gzip-compressed tar; its compressed size so far shows when a layer is full."""

    def __init__(self) -> None:
        self._gzip = zlib.compressobj(1, wbits=31)
        self._parts: list[bytes] = []
        self._diff = hashlib.sha256()
        self.size = 0
        stream = cast("IO[bytes]", self)
        self.tar = tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        self._diff.update(data)
        self._take(self._gzip.compress(data))
        return len(data)

    def _take(self, part: bytes) -> None:
        self._parts.append(part)
        self.size += len(part)

    def finish(self) -> tuple[bytes, str]:
        """Return the layer and its diff ID."""
        self.tar.close()
        self._take(self._gzip.flush())
        return b"".join(self._parts), f"sha256:{self._diff.hexdigest()}"


def put_machine_image(layout: Path, *, size: int, layer_count: int = 4, tag: str = "app") -> int:
    """Put an image for two platforms into a layout; return the total size of its layers.

    The image for this machine's platform runs ``/bin/sh``. The other image shares one of its
    layers.

    Args:
        layout: the directory.
        size: minimum size of all layers together, compressed, in bytes.
        layer_count: number of layers that only add size.
        tag: tag of the image.
    """
    layers = [_busybox()]
    files = _files()
    layers += [_ballast(number, size // layer_count, files) for number in range(layer_count)]
    own = Platform.parse(f"linux/{'arm64' if os.uname().machine == 'aarch64' else 'amd64'}")
    other = Platform.parse("linux/riscv64")
    with OciLayout(layout, write=True) as store:
        entries = []
        for platform, mine in ((own, layers), (other, layers[1:2])):
            config = json.dumps(
                {
                    **write_platform(platform),
                    "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
                    "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in mine]},
                }
            ).encode()
            store.put_blob(config)
            descriptors = []
            for data, _ in mine:
                put = store.put_blob(data, media_type=OCI_LAYER_GZIP)
                descriptors.append(put)
            manifest = Manifest(
                Descriptor.of(config, OCI_CONFIG), tuple(descriptors), media_type=OCI_MANIFEST
            )
            data = manifest.to_json()
            store.put_manifest(data, OCI_MANIFEST)
            entries.append(Descriptor(OCI_MANIFEST, Digest.of(data), len(data), platform=platform))
        store.put_manifest(ImageIndex(tuple(entries), OCI_INDEX).to_json(), OCI_INDEX, tag=tag)
    return sum(len(data) for data, _ in layers)


def _busybox() -> tuple[bytes, str]:
    binary = Path(program("busybox")).read_bytes()
    if b"/ld-linux" in binary[: 1 << 16]:
        missing("busybox is not static (busybox-static)")
    made = _GzipTar()
    for name in ("bin", "tmp", "proc", "sys", "dev"):
        directory = tarfile.TarInfo(f"{name}/")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        made.tar.addfile(directory)
    info = tarfile.TarInfo("bin/busybox")
    info.size, info.mode = len(binary), 0o755
    made.tar.addfile(info, io.BytesIO(binary))
    link = tarfile.TarInfo("bin/sh")
    link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o777
    made.tar.addfile(link)
    return made.finish()


def _ballast(number: int, size: int, files: Iterator[Path]) -> tuple[bytes, str]:
    made = _GzipTar()
    extra = 0
    while made.size < size:
        path = next(files, None)
        if path is None:  # not enough files on this machine: use noise instead
            info = tarfile.TarInfo(f"noise/{number}/{extra}")
            info.size = 8 << 20
            made.tar.addfile(info, io.BytesIO(noise(info.size, seed=number << 16 | extra)))
            extra += 1
            continue
        data = path.read_bytes()
        info = tarfile.TarInfo(f"ballast/{number}/{path.relative_to(_FROM)}")
        info.size, info.mode = len(data), stat.S_IMODE(path.stat().st_mode)
        made.tar.addfile(info, io.BytesIO(data))
    return made.finish()


def _files() -> Iterator[Path]:
    """Yield readable files of this machine, in order."""
    for directory, below, names in os.walk(_FROM):
        below.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            if path.stat().st_size <= _LARGEST_FILE:
                yield path
