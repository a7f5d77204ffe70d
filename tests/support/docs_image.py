"""The small image that the examples of docs/ use, with the same files on every machine."""

from __future__ import annotations

import functools
import io
import json
import random
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from pathlib import Path

_MIB = 1 << 20
_BUILT_AT = 1_782_864_000
"""1 July 2026, 00:00 UTC."""

_STATUS = """Package: base-files
Version: 12.4+deb12u11
Description: Debian base system miscellaneous files

Package: python3
Version: 3.11.2-1+b1
Description: interactive high-level object-oriented language

Package: zlib1g
Version: 1:1.2.13.dfsg-{zlib}
Description: compression library - runtime
"""
_OS_RELEASE = b"""PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
ID=debian
"""


@functools.cache
def _bytes(seed: str, size: int) -> bytes:
    """Return incompressible bytes, so that layers reach the minimum size for indexing."""
    return random.Random(seed).randbytes(size)  # noqa: S311 (not a secret)


def _layers(zlib_revision: int) -> tuple[dict[str, bytes], ...]:
    base = {
        "etc/os-release": _OS_RELEASE,
        "etc/app.conf": b"workers = 4\n",
        "usr/bin/python3.11": _bytes("python", 5 * _MIB),
        "usr/lib/libssl.so.3": _bytes("ssl", 5 * _MIB),
        "usr/lib/libc.so.6": _bytes("c", _MIB),
    }
    packages = {
        "usr/lib/python3/numpy/__init__.py": b"from numpy import core\n" * 40,
        "usr/lib/python3/numpy/core.so": _bytes("core", 9 * _MIB),
        "usr/lib/python3/numpy/linalg.so": _bytes("linalg", 2 * _MIB),
    }
    table = "".join(f"{city},{count}\n" for city, count in (("Lyon", 20), ("Porto", 22)))
    application = {
        "srv/app/main.py": b"import numpy\nprint(numpy.__version__)\n",
        "srv/data/table.csv": f"city,count\n{table}".encode(),
        "var/lib/dpkg/status": _STATUS.format(zlib=zlib_revision).encode(),
    }
    return base, packages, application


def put_images(directory: Path) -> None:
    """Write the images ``app`` and ``app-next`` to the OCI layout `directory`."""
    with OciLayout(directory, write=True) as layout:
        for tag, revision in (("app", 1), ("app-next", 2)):
            tars = [_tar(files) for files in _layers(revision)]
            layers = [layout.put_blob(_gzip(tar), media_type=OCI_LAYER_GZIP) for tar in tars]
            config = {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["python3.11", "/srv/app/main.py"]},
                "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for tar in tars]},
            }
            described = layout.put_blob(json.dumps(config).encode(), media_type=OCI_CONFIG)
            manifest = Manifest(described, tuple(layers), media_type=OCI_MANIFEST)
            layout.put_manifest(manifest.to_json(), OCI_MANIFEST, tag=tag)


def _tar(files: dict[str, bytes]) -> bytes:
    """Return a tar with `files` and their parent directories."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        parents = {str(parent) for name in files for parent in PurePosixPath(name).parents}
        for name in sorted(parents - {"."}):
            tar.addfile(_entry(name, 0o755, type=tarfile.DIRTYPE))
        for name, content in files.items():
            mode = 0o755 if "/bin/" in name or name.endswith(".so") else 0o644
            tar.addfile(_entry(name, mode, size=len(content)), io.BytesIO(content))
    return out.getvalue()


def _entry(name: str, mode: int, **fields: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = mode, _BUILT_AT
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


@functools.cache
def _gzip(data: bytes) -> bytes:
    compressor = zlib.compressobj(1, wbits=31)
    return compressor.compress(data) + compressor.flush()
