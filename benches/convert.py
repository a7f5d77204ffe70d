"""Measure ``tocsin convert`` of an image with one dominant layer, compared with its zTOC build.

::

    python benches/corpus.py --size full --out DIR
    TMPDIR=/dev/shm python benches/convert.py --corpus DIR

The image has the layer and a few small ones, and is converted from one layout to another on the
same file system. The layer `whole` combines all compressible layers; for the smaller ones, starting
the interpreter takes a significant share. The figures are wall times of whole processes in
rotation: ``ztoc build`` of the layer with two threads, then ``convert`` with its defaults, on the
same CPUs. The difference is the part of the conversion that does not run in parallel with the
build.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import arguments
import goals
import measure
import peers
import rotation
import seeded
from images import write_image
from layer_files import COMPRESSIBLE, LayerFile, corpus_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GOAL = goals.Goal("wall time of convert over that of the build of its layer", 1.1, at_most=True)
# Small layers get no zTOC, as usual. The limit is lower than the default, to allow small corpora.
_CONVERT = (
    "{python}",
    "-m",
    "tocsin",
    "convert",
    "{layer}",
    "{out}",
    "--min-layer-size",
    "2000000",
)
WHOLE = "whole"
_SMALL_LAYERS = (4 << 20, 1 << 20, 50_000)  # uncompressed bytes


def main() -> int:
    """Run the command line; return 0, or 1 if a command failed."""
    args = _arguments()
    build = peers.tocsin(args.tocsin)
    convert = peers.Tool("convert", "", _CONVERT, ())
    found = {}
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as name:
        folder = Path(name)
        for layer in _layers(args, folder):
            layer.read_once()
            source = folder / layer.name
            image = write_image(source, [layer.path, *_small_layers(folder)], tag="plain")
            target = folder / "converted"
            commands = {
                "build": build.words(
                    args.python, layer=str(layer.path), out=str(folder / "ztoc"), cpus=args.cpus
                ),
                "convert": convert.words(args.python, layer=image, out=f"oci:{target}:soci"),
            }
            try:
                found[layer.name] = alternate(commands, target, cpus=args.cpus, rounds=args.rounds)
            except measure.CommandFailedError as error:
                print(f"convert: {layer.name}: {error}", file=sys.stderr)
                return 1
            shutil.rmtree(source)
    report = report_text(args, found)
    print(report)
    if not args.no_record:
        figures = {
            "machine": measure.machine(),
            "layers": rotation.figures(found),
        }
        print(f"recorded in {measure.record('convert', figures, report, folder=args.record)}")
    return 0


def alternate(
    commands: Mapping[str, Sequence[str]], target: Path, *, cpus: int, rounds: int
) -> dict[str, rotation.Measured]:
    """Run the commands in turn after a warm-up round, removing `target` before each."""
    measure.pin(cpus)
    rows = {name: rotation.Measured() for name in commands}
    for number in range(rounds + 1):
        for name, words in commands.items():
            shutil.rmtree(target, ignore_errors=True)
            cost = measure.run(words)
            if number > 0:
                rows[name].costs.append(cost)
    return rows


def report_text(args: argparse.Namespace, found: dict[str, dict[str, rotation.Measured]]) -> str:
    """Return the record as Markdown."""
    wall = attrgetter("wall")
    lines = [
        "# Converting an image with one dominant layer\n",
        f"`convert.py --compressor {args.compressor} --cpus {args.cpus} --rounds {args.rounds}`\n",
        "Median wall seconds of whole processes; ratios are within a round.\n",
        f"- build: `{args.tocsin}`",
        f"- convert: `{peers.as_typed(_CONVERT)}`\n",
        "| layer | build | convert | ratio | convert peak MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    ratios = {}
    for layer, rows in found.items():
        build, convert = rows["build"], rows["convert"]
        ratios[layer] = convert.times(build, wall)
        lines.append(
            f"| {layer} | {build.median(wall):.3f} | {convert.median(wall):.3f} "
            f"| {ratios[layer]:.2f} | {convert.median(attrgetter('peak')) / 2**20:.0f} |"
        )
    every: dict[str, float | None] = dict(ratios)
    if ratios:
        every["geometric mean"] = statistics.geometric_mean(ratios.values())
    return "\n".join([*lines, "", *goals.table({GOAL: every}), ""])


def _layers(args: argparse.Namespace, folder: Path) -> Iterator[LayerFile]:
    """Yield the requested layers; `folder` is for generated ones."""
    for layer in corpus_layers(args.corpus, args.compressor):
        if layer.name in args.layers:
            yield layer
    if WHOLE in args.layers:
        yield _whole_layer(args.corpus, folder / f"{WHOLE}.tar.gz")


def _whole_layer(corpus: Path, path: Path) -> LayerFile:
    """Make one layer with all entries of the compressible layers."""
    size = 0
    with (
        path.open("wb") as out,
        subprocess.Popen(("gzip", "-6"), stdin=subprocess.PIPE, stdout=out) as gzip,
    ):
        assert gzip.stdin is not None
        for name in COMPRESSIBLE:
            with (corpus / f"{name}.tar").open("rb") as plain:
                with tarfile.open(fileobj=plain) as tar:
                    while tar.next() is not None:
                        tar.members = []  # would otherwise grow with the number of files
                    left = tar.offset  # without the end-of-archive blocks
                plain.seek(0)
                size += left
                while left:
                    piece = plain.read(min(left, 1 << 20))
                    gzip.stdin.write(piece)
                    left -= len(piece)
        gzip.stdin.write(bytes(2 * tarfile.BLOCKSIZE))
    if gzip.returncode:
        raise SystemExit(f"gzip failed with exit status {gzip.returncode}")
    return LayerFile(WHOLE, path, size + 2 * tarfile.BLOCKSIZE)


def _small_layers(folder: Path) -> list[Path]:
    """Make the small layers."""
    paths = []
    for place, size in enumerate(_SMALL_LAYERS):
        path = folder / f"small-{place}.tar.gz"
        entry = tarfile.TarInfo(f"small/{place}")
        entry.size = size
        with tarfile.open(path, "w:gz") as tar:
            tar.addfile(entry, BytesIO(seeded.prose(place, size)))
        paths.append(path)
    return paths


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure converting one dominant layer.")
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--compressor", default="go", help="compressor of the layers to read (default: go)"
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        default=["rootfs", "node", WHOLE],
        metavar="NAME",
        help="layers to make an image of, one each",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of measured rounds (default: 5)"
    )
    parser.add_argument("--cpus", type=int, default=2, help="number of CPUs to pin to (default: 2)")
    arguments.add_programs(parser)
    arguments.add_record(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
