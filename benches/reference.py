"""Compare ``tocsin convert`` with the reference's ``soci convert --standalone``.

::

    python benches/corpus.py --size full --out DIR
    TMPDIR=/dev/shm python benches/reference.py --corpus DIR

Both convert the same images from OCI layout to OCI layout: one image for each layer of the corpus,
and one image with all layers. Whole processes run alternately, on the same CPUs. The run fails
unless both results have the same digest, which means that zTOCs, indexes and manifests are equal
byte for byte.

``soci`` is built from its Go modules at the versions below, which needs Go, a C compiler and
``zlib1g-dev``, unless ``--soci`` names an existing program.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import arguments
import measure
import rotation
from convert import alternate
from images import write_image
from layer_files import LayerFile, corpus_layers

if TYPE_CHECKING:
    from collections.abc import Iterator


_LIBRARY = "github.com/awslabs/soci-snapshotter"
_LIBRARY_VERSION = "v0.16.1"
# The commands are a separate module without releases; this is the commit of the library's release.
_COMMANDS = f"{_LIBRARY}/cmd"
_COMMANDS_VERSION = "v0.0.0-20260930233240-61147fe7c929"
ALL = "all layers"


def main() -> int:
    """Run the command line; return 0, or 1 if a command failed or the images differ."""
    args = _arguments()
    found: dict[str, dict[str, rotation.Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as name:
        folder = Path(name)
        soci = args.soci or _build(folder / "build")
        for image, layers in _images(args):
            source = folder / "source"
            for layer in layers:
                layer.read_once()
            reference = write_image(source, [layer.path for layer in layers], tag="plain")
            try:
                found[image] = _compare(args, soci, reference, source, folder)
            except (measure.CommandFailedError, ValueError) as error:
                print(f"reference: {image}: {error}", file=sys.stderr)
                return 1
            shutil.rmtree(source)
    report = _report(args, found)
    print(report)
    if not args.no_record:
        figures = {
            "machine": measure.machine(),
            "images": rotation.figures(found),
        }
        print(f"recorded in {measure.record('reference', figures, report, folder=args.record)}")
    return 0


def _compare(
    args: argparse.Namespace, soci: Path, reference: str, source: Path, folder: Path
) -> dict[str, rotation.Measured]:
    """Measure both commands on one image.

    Raises:
        CommandFailedError: one of them failed.
        ValueError: their images differ.
    """
    work = folder / "work"
    out = work / "out"
    # --all-platforms is tocsin's default; the reference keeps its own content store in --root.
    theirs = [str(soci), "--root", str(work / "root"), "convert", "--standalone"]
    theirs += ["--format", "oci-dir", "--all-platforms", str(source), str(out)]
    ours = [args.python, "-m", "tocsin", "convert", reference, f"oci:{out}:plain"]
    digests = {}
    for tool, words in {"soci": theirs, "tocsin": ours}.items():
        shutil.rmtree(work, ignore_errors=True)
        measure.run(words)
        digests[tool] = json.loads((out / "index.json").read_text())["manifests"][0]["digest"]
    if digests["soci"] != digests["tocsin"]:
        raise ValueError(f"images differ: {digests}")
    commands = {"soci": theirs, "tocsin": ours}
    return alternate(commands, work, cpus=args.cpus, rounds=args.rounds)


def _images(args: argparse.Namespace) -> Iterator[tuple[str, list[LayerFile]]]:
    """Yield the name and the layers of each image to convert."""
    layers = [
        layer
        for layer in corpus_layers(args.corpus, args.compressor)
        if layer.name in args.layers or not args.layers
    ]
    yield from ((layer.name, [layer]) for layer in layers)
    yield ALL, layers


def _build(folder: Path) -> Path:
    """Build the reference from its Go modules; return the program."""
    library = _module(_LIBRARY, _LIBRARY_VERSION)
    shutil.copytree(_module(_COMMANDS, _COMMANDS_VERSION), folder)
    for path in folder.rglob("*"):  # Go keeps downloaded modules read-only
        path.chmod(path.stat().st_mode | 0o200)
    program = folder / "soci-program"
    go = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "1"}
    replace = f"-replace={_LIBRARY}={library}"
    subprocess.run(("go", "mod", "edit", replace), cwd=folder, check=True)
    subprocess.run(("go", "build", "-o", program, "./soci"), cwd=folder, env=go, check=True)
    return program


def _module(path: str, version: str) -> Path:
    """Download a Go module; return its folder."""
    command = ("go", "mod", "download", "-json", f"{path}@{version}")
    return Path(json.loads(subprocess.check_output(command, cwd="/"))["Dir"])


def _report(args: argparse.Namespace, found: dict[str, dict[str, rotation.Measured]]) -> str:
    """Return the record as Markdown."""
    wall, cpu, peak = attrgetter("wall"), attrgetter("cpu"), attrgetter("peak")
    version = "--soci" if args.soci else f"{_LIBRARY} {_LIBRARY_VERSION}"
    options = f"--compressor {args.compressor} --cpus {args.cpus} --rounds {args.rounds}"
    lines = [
        "# Converting images: tocsin compared with the reference\n",
        f"`reference.py {options}`\n",
        f"Reference: {version}. Whole processes, layout to layout. Figures are medians; ratios are",
        "medians of the ratios within a round. Both images have the same digest.\n",
        "| image | soci wall s | tocsin wall s | times faster | soci CPU s | tocsin CPU s "
        "| times less CPU | soci peak MiB | tocsin peak MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    faster = []
    for image, rows in found.items():
        soci, tocsin = rows["soci"], rows["tocsin"]
        faster.append(soci.times(tocsin, wall))
        lines.append(
            f"| {image} | {soci.median(wall):.2f} | {tocsin.median(wall):.2f} | {faster[-1]:.1f} "
            f"| {soci.median(cpu):.2f} | {tocsin.median(cpu):.2f} | {soci.times(tocsin, cpu):.1f} "
            f"| {soci.median(peak) / 2**20:.0f} | {tocsin.median(peak) / 2**20:.0f} |"
        )
    mean = statistics.geometric_mean(faster)
    return "\n".join([*lines, "", f"Geometric mean of times faster: {mean:.1f}", ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare tocsin convert with the reference.")
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument("--compressor", default="go", help="compressor of the layers (default: go)")
    parser.add_argument("--layers", nargs="+", default=[], metavar="NAME", help="layers to convert")
    parser.add_argument(
        "--soci", type=Path, metavar="FILE", help="soci program (default: build it)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default: 5)")
    parser.add_argument("--cpus", type=int, default=2, help="CPUs to run on (default: 2)")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs tocsin")
    arguments.add_record(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
