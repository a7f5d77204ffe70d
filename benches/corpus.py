"""Make the layers that the benchmarks read.

::

    python benches/corpus.py --size small --out DIR         from this machine's files, no network
    python benches/corpus.py --size full --out DIR          from package registries; needs root
    python benches/corpus.py --size pathological --out DIR  streams made to hurt

What each layer is made of, and why, stands in ``benches/README.md``. A part appears under its
name only when it is whole, and a compressed layer only after ``gzip -dc`` has given back its tar;
parts already there are kept, so a run that was stopped goes on where it was.
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
GO_PROGRAMS = ("gocompress", "gopgzip")  # folders beside this file

_HERE = Path(__file__).resolve().parent

Fill = Callable[[Path], object]


@dataclass(frozen=True)
class Part:
    """One folder of a layer, and what fills it."""

    name: str  # of the folder; its first component is the layer's name
    fill: Fill


@dataclass(frozen=True)
class Layer:
    """A tar archive to be made of one or more parts."""

    name: str
    tar_format: str  # GNU tar's --format
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Compressor:
    """A program that writes gzip from stdin to stdout."""

    name: str
    program: str
    arguments: tuple[str, ...] = ()


def compressors(out: Path) -> tuple[Compressor, ...]:
    """Return the seven compressors; those in Go stand in `out`, where this script builds them."""
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
    """Return layers made of this machine's files, topped up with made ones where those run out."""
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
    """Return layers made from package registries; `parts` is where their folders will stand."""
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
    """Run the command line; return 0, or 2 when a needed program is missing."""
    parser = argparse.ArgumentParser(description="Make the layers that the benchmarks read.")
    parser.add_argument("--size", choices=("small", "full", "pathological"), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--install", action="store_true", help="apt-get install the programs that are missing"
    )
    args = parser.parse_args()
    try:
        make_corpus(args.size, args.out.resolve(), install=args.install)
    except tools.ToolMissingError as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 2
    return 0


def make_corpus(size: str, out: Path, *, install: bool = False) -> None:
    """Make what is missing of the corpus `size` in the folder `out`, and describe it there.

    Raises:
        tools.ToolMissingError: a program is not on this machine; nothing was made.
        SystemExit: `out` holds a corpus of another size.
    """
    out.mkdir(parents=True, exist_ok=True)
    record = out / "corpus.json"
    description: dict[str, Any] = {"size": size}
    if record.exists() and (found := json.loads(record.read_text("utf-8"))["size"]) != size:
        raise SystemExit(f"{out} holds a {found} corpus, wanted {size}: name another folder")
    record.write_text(json.dumps(description), "utf-8")

    if size == "pathological":
        description["layers"] = {
            name: {"bytes": _plain_size(_made(out / f"{name}.gz", layer.write)), "why": layer.why}
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
            _build_go(out / "bin" / program)
        layers = small_layers() if size == "small" else full_layers(out / "parts")
        description["tools"] = {name: tools.version(name) for name in programs}
        description["tools"]["go"] = tools.version("go", "version")
        description["layers"] = {layer.name: make_layer(layer, out) for layer in layers}
    record.write_text(json.dumps(description, indent=2) + "\n", "utf-8")


def make_layer(layer: Layer, out: Path) -> dict[str, Any]:
    """Make one layer's folder, tar and compressed forms in `out`; return their description."""
    for part in layer.parts:
        _made(out / "parts" / part.name, partial(_fill, fill=part.fill))
    tar = _made(
        out / f"{layer.name}.tar",
        partial(_write_tar, folder=out / "parts" / layer.name, tar_format=layer.tar_format),
    )
    digest = _digest(tar)
    compressed = {}
    for compressor in compressors(out):
        if tools.find(compressor.program) is None:
            print(f"{layer.name}: {compressor.name} skipped: it was not built", file=sys.stderr)
            continue
        path = _made(
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
    """Return a fill that takes `size` bytes from this machine, and makes those it lacks."""

    def fill(folder: Path) -> None:
        top_up(folder, size=size - take(folder, size))

    return fill


def _made(target: Path, make: Callable[[Path], object]) -> Path:
    """Make `target` under another name first, unless it is there; return it."""
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
        # debootstrap, when killed, leaves the machine's own /proc mounted here.
        mounts = [path for path in partial.iterdir() if path.is_mount()]
        if mounts:
            raise SystemExit(f"still mounted from an earlier run: {mounts[0]}; unmount it first")
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)


def _fill(folder: Path, *, fill: Fill) -> None:
    folder.mkdir()
    fill(folder)


def _write_tar(tar: Path, *, folder: Path, tar_format: str) -> None:
    options = [f"--format={tar_format}"]
    if tar_format == "posix":
        # Without these, headers hold the times at which the files were read and this process's id.
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
    """Compress `tar` into `target`, and check that gzip gives it back."""
    tools.filter_file(tar, target, compressor.program, *compressor.arguments)
    with tools.reading_output("gzip", "-dc", target) as plain:
        found = hashlib.file_digest(plain, "sha256").hexdigest()
    if found != digest:
        raise SystemExit(f"{target.name}: holds sha256:{found}, {tar.name} is sha256:{digest}")


def _plain_size(path: Path) -> int:
    """Return how many bytes `path` holds uncompressed, which also lets gzip check it."""
    with tools.reading_output("gzip", "-dc", path) as plain:
        return sum(map(len, iter(partial(plain.read, 1 << 20), b"")))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build_go(target: Path) -> None:
    """Build the Go program of that name, if it can be: one of them needs a module from afar."""
    if tools.find("go") is None:
        print(f"{target.name}: skipped: no go here ({tools.package('go')})", file=sys.stderr)
        return
    try:
        _made(
            target,
            lambda path: tools.run(
                "go", "build", "-trimpath", "-o", path, ".", cwd=_HERE / target.name
            ),
        )
    except subprocess.CalledProcessError as error:
        print(f"{target.name}: skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
