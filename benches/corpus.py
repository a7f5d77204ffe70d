"""Make the layers for the benchmarks.

::

    python benches/corpus.py --size small --out DIR         from this machine's files, no network
    python benches/corpus.py --size full --out DIR          from package registries; needs root
    python benches/corpus.py --size pathological --out DIR  hostile streams

``benches/README.md`` describes the layers. A part gets its final name only when it is complete, and
a compressed layer only after ``gzip -dc`` has restored its tar. Existing parts are kept, so an
interrupted run can be continued.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pathological
import seeded
import sources
import tools

SMALL_SIZE = 12 << 20  # bytes of files in a small layer
FULL_LOG_SIZE = 120_000_000
GO_PROGRAMS = ("gocompress", "gopgzip")  # folders next to this file

_HERE = Path(__file__).resolve().parent

Fill = Callable[[Path], object]


@dataclass(frozen=True)
class Part:
    """One folder of a layer, and the function that fills it."""

    name: str  # path of the folder; its first component is the layer's name
    fill: Fill


@dataclass(frozen=True)
class Layer:
    """A tar archive made of one or more parts."""

    name: str
    tar_format: str  # GNU tar's --format
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Compressor:
    """A program that compresses stdin to stdout with gzip."""

    name: str
    program: str
    arguments: tuple[str, ...] = ()


def compressors(out: Path) -> tuple[Compressor, ...]:
    """Return the seven compressors. Those in Go are in `out`, where this script builds them."""
    gocompress, gopgzip = (os.fspath(out / "bin" / name) for name in GO_PROGRAMS)
    return (
        Compressor("gzip", "gzip", ("-6", "-n", "-c")),
        Compressor("pigz", "pigz", ("-6", "-n", "-p", "1", "-c")),
        Compressor("igzip", "igzip", ("-2", "-n", "-c")),
        Compressor("bgzip", "bgzip", ("-c",)),
        Compressor("go", gocompress),
        Compressor("pgzip", gopgzip),
        Compressor("stored", gocompress, ("-level", "0")),
    )


def small_layers() -> tuple[Layer, ...]:
    """Return layers of this machine's files, topped up with generated ones."""
    half = SMALL_SIZE // 2
    return (
        Layer("rootfs", "gnu", (Part("rootfs", _local(sources.local_root)),)),
        Layer("ml", "posix", (Part("ml", _local(sources.local_python)),)),
        Layer("node", "posix", (Part("node", _local(sources.local_sources)),)),
        Layer(
            "text",
            "gnu",
            (
                Part("text/files", _local(sources.local_text, size=half)),
                Part("text/logs", lambda folder: seeded.write_logs(folder, size=half)),
            ),
        ),
        Layer(
            "packed",
            "gnu",
            (Part("packed", _local(sources.local_packed, top_up=seeded.write_noise)),),
        ),
    )


def full_layers(parts: Path) -> tuple[Layer, ...]:
    """Return layers made from package registries; `parts` is the folder for their parts."""
    unpacked = [parts / name for name in ("rootfs", "ml", "node")]
    return (
        Layer("rootfs", "gnu", (Part("rootfs", sources.debian_root),)),
        Layer("ml", "posix", (Part("ml", sources.python_packages),)),
        Layer("node", "posix", (Part("node", sources.node_modules),)),
        Layer(
            "text",
            "gnu",
            (
                Part("text/linux", sources.linux_source),
                Part("text/apt", sources.apt_lists),
                Part("text/json", sources.browser_data),
                Part("text/logs", lambda folder: seeded.write_logs(folder, size=FULL_LOG_SIZE)),
            ),
        ),
        Layer(
            "packed",
            "gnu",
            (
                Part("packed/wheels", sources.wheels),
                Part("packed/debs", sources.debs),
                Part("packed/npm", sources.node_archives),
                Part("packed/files", lambda folder: sources.packed_files(folder, unpacked)),
            ),
        ),
    )


def main() -> int:
    """Run the command line; return 0, or 2 if a required program is missing."""
    parser = argparse.ArgumentParser(description="Make the layers for the benchmarks.")
    parser.add_argument("--size", choices=("small", "full", "pathological"), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--install", action="store_true", help="install missing programs with apt-get"
    )
    args = parser.parse_args()
    try:
        make_corpus(args.size, args.out.resolve(), install=args.install)
    except tools.ToolMissingError as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 2
    return 0


def make_corpus(size: str, out: Path, *, install: bool = False) -> None:
    """Make the missing parts of the corpus `size` in the folder `out`, and describe it there.

    Raises:
        tools.ToolMissingError: a program is not installed; nothing was made.
        SystemExit: `out` contains a corpus of another size.
    """
    out.mkdir(parents=True, exist_ok=True)
    record = out / "corpus.json"
    description: dict[str, Any] = {"size": size}
    if record.exists() and (found := json.loads(record.read_text("utf-8"))["size"]) != size:
        raise SystemExit(f"{out}: wrong corpus size (found {found}, expected {size})")
    record.write_text(json.dumps(description), "utf-8")

    if size == "pathological":
        description["layers"] = {
            name: {"bytes": _plain_size(made(out / f"{name}.gz", layer.write)), "why": layer.why}
            for name, layer in pathological.LAYERS.items()
        }
    else:
        programs = ["tar", "gzip", "pigz", "igzip", "bgzip"]
        if size == "full":
            programs += ["debootstrap", "npm", "apt-get", "apt-helper", "dpkg-deb", "xz"]
        if install:
            tools.install([*programs, "go"])
        tools.require(programs)
        for program in GO_PROGRAMS:
            build_go(out / "bin" / program)
        layers = small_layers() if size == "small" else full_layers(out / "parts")
        description["tools"] = {name: tools.version(name) for name in programs}
        description["tools"]["go"] = tools.version("go", "version")
        description["layers"] = {layer.name: make_layer(layer, out) for layer in layers}
    record.write_text(json.dumps(description, indent=2) + "\n", "utf-8")


def make_layer(layer: Layer, out: Path) -> dict[str, Any]:
    """Make the folder, the tar and the compressed files of a layer; return their description."""
    for part in layer.parts:
        made(out / "parts" / part.name, partial(_fill, fill=part.fill))
    tar = made(
        out / f"{layer.name}.tar",
        partial(_write_tar, folder=out / "parts" / layer.name, tar_format=layer.tar_format),
    )
    digest = digest_of(tar)
    compressed = {}
    for compressor in compressors(out):
        if tools.find(compressor.program) is None:
            print(f"{layer.name}: {compressor.name} skipped: not built", file=sys.stderr)
            continue
        path = made(
            out / f"{layer.name}.{compressor.name}.gz",
            partial(_compress, tar=tar, compressor=compressor, digest=digest),
        )
        compressed[compressor.name] = {
            "command": " ".join((Path(compressor.program).name, *compressor.arguments)),
            "bytes": path.stat().st_size,
        }
    return {
        "bytes": tar.stat().st_size,
        "entries": tools.output("tar", "-tf", tar).count("\n"),
        "sha256": digest,
        "compressed": compressed,
    }


def _local(
    take: Callable[[Path, int], int],
    *,
    size: int = SMALL_SIZE,
    top_up: Callable[..., None] = seeded.write_modules,
) -> Fill:
    """Return a fill that takes `size` bytes from this machine, and generates what is missing."""

    def fill(folder: Path) -> None:
        top_up(folder, size=size - take(folder, size))

    return fill


def made(target: Path, make: Callable[[Path], object]) -> Path:
    """Make `target` unless it exists, under a temporary name first; return it."""
    if not target.exists():
        partial = target.with_name(f".{target.name}.partial")
        _clear(partial)
        partial.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        make(partial)
        partial.rename(target)
        print(f"{target.name}: made in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return target


def _clear(partial: Path) -> None:
    if partial.is_dir():
        # If debootstrap was killed, the machine's /proc is still mounted here.
        mounts = [path for path in partial.iterdir() if path.is_mount()]
        if mounts:
            raise SystemExit(f"{mounts[0]}: still mounted by an earlier run; unmount it first")
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)


def _fill(folder: Path, *, fill: Fill) -> None:
    folder.mkdir()
    fill(folder)


def _write_tar(tar: Path, *, folder: Path, tar_format: str) -> None:
    options = [f"--format={tar_format}"]
    if tar_format == "posix":
        # Otherwise headers contain the access times of the files and the ID of this process.
        options.append("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")
    tools.run(
        "tar",
        "--sort=name",
        "--mtime=@1767225600",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        *options,
        "-cf",
        tar,
        "-C",
        folder,
        ".",
    )


def _compress(target: Path, *, tar: Path, compressor: Compressor, digest: str) -> None:
    """Compress `tar` into `target`, and check that gzip restores it."""
    tools.filter_file(tar, target, compressor.program, *compressor.arguments)
    with tools.reading_output("gzip", "-dc", target) as plain:
        found = hashlib.file_digest(plain, "sha256").hexdigest()
    if found != digest:
        raise SystemExit(f"{target.name}: wrong content (found sha256:{found}, expected {digest})")


def _plain_size(path: Path) -> int:
    """Return the uncompressed size of `path`, which also lets gzip verify it."""
    with tools.reading_output("gzip", "-dc", path) as plain:
        return sum(map(len, iter(partial(plain.read, 1 << 20), b"")))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_go(target: Path) -> Path:
    """Build the Go program with that name if possible, and return `target`.

    One of them needs to download a module.
    """
    if tools.find("go") is None:
        print(
            f"{target.name}: skipped: Go is not installed ({tools.package('go')})", file=sys.stderr
        )
        return target
    try:
        made(
            target,
            lambda path: tools.run(
                "go", "build", "-trimpath", "-o", path, ".", cwd=_HERE / target.name
            ),
        )
    except subprocess.CalledProcessError as error:
        print(f"{target.name}: skipped: {error}", file=sys.stderr)
    return target


if __name__ == "__main__":
    sys.exit(main())
