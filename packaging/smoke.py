"""Index a layer of real files and read it again, with the tocsin that is installed.

Needs only Python and tocsin. The layer has the files of Python's standard library; what is read
from it is compared with the files themselves. Prints one line, and fails if anything differs.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

import tocsin

LIBRARY = Path(os.__file__).parent
MAX_FILES = 400


def main() -> None:
    """Run the check."""
    with tempfile.TemporaryDirectory() as place:
        layer = Path(place, "layer.tar.gz")
        names = _make_layer(layer)
        _check_layer(layer, names)
        _put_image(Path(place, "images"), layer)
        _check_image(Path(place), names[0])
    version = platform.python_version()
    print(f"ok: {len(names)} files, Python {version}, {platform.machine()}, {_system()}")


def _system() -> str:
    if "musl" in (sysconfig.get_config_var("MULTIARCH") or ""):
        return "musl"
    name, number = platform.libc_ver()
    return f"{name} {number}" if name else platform.system()


def _make_layer(layer: Path) -> list[str]:
    files = (path for path in LIBRARY.glob("*.py") if not path.is_symlink())
    names = sorted(path.name for path in files)[:MAX_FILES]
    with tarfile.open(layer, "w:gz") as tar:
        for name in names:
            tar.add(LIBRARY / name, arcname=f"usr/lib/python/{name}")
    return [f"usr/lib/python/{name}" for name in names]


def _check_layer(layer: Path, names: list[str]) -> None:
    ztoc = tocsin.build_ztoc(layer, span_size=64 << 10)
    again = tocsin.Ztoc.from_bytes(ztoc.to_bytes())
    assert again.digest == f"sha256:{hashlib.sha256(ztoc.to_bytes()).hexdigest()}"
    for name in names:
        assert again.cat(name, layer) == (LIBRARY / Path(name).name).read_bytes(), name


def _put_image(layout: Path, layer: Path) -> None:
    """Write an OCI layout without tocsin."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    data = layer.read_bytes()

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    diff_id = f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    oci = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{oci}.config.v1+json"),
        "layers": [put(data, f"{oci}.layer.v1.tar+gzip")],
    }
    described = put(json.dumps(manifest).encode(), f"{oci}.manifest.v1+json")
    annotations = {"org.opencontainers.image.ref.name": "app"}
    index = {"schemaVersion": 2, "manifests": [{**described, "annotations": annotations}]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _check_image(place: Path, name: str) -> None:
    """Index the image with the command, and read a file of it."""
    program = str(Path(sys.executable).with_name("tocsin"))
    if not Path(program).exists():
        program = str(Path(sys.executable).with_name("tocsin.exe"))

    def run(*arguments: str) -> bytes:
        return subprocess.run(
            [program, *arguments], check=True, capture_output=True, cwd=place
        ).stdout

    assert b"tocsin" in run("--version")
    assert json.loads(run("info", "oci:images:app", "--json"))
    run("convert", "oci:images:app", "oci:images:soci", "--min-layer-size", "1", "--quiet")
    assert run("cat", "oci:images:soci", f"/{name}") == (LIBRARY / Path(name).name).read_bytes()
    run("verify", "oci:images:soci")


if __name__ == "__main__":
    main()
