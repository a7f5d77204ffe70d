"""Measure a wheel compared with the native build of this checkout.

::

    make wheels
    python benches/wheels.py --wheel dist/tocsin-*manylinux2014_x86_64*.whl --corpus DIR

Both are installed into new environments, and run in rotation on one CPU: `build_ztoc` of each
layer, and `Ztoc.inflate_span` of each of its spans. The figures are CPU times of the calls, as
ratios within a round; the tables have the medians of the rounds. The native build is what
``maturin build --release`` makes with the compiler and linker of this machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import venv
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import arguments
import goals
import measure
import peers
import rotation
import tools
from layer_files import corpus_layers
from rotation import Contender, Measured, rotate

ROOT = Path(__file__).resolve().parents[1]
WORK = {"build_ztoc": peers.build_ztoc(), "inflate": peers.inflate_spans()}
GOALS = {
    name: goals.Goal(f"CPU time of {name}: native build over the wheel, geometric mean", 0.97)
    for name in WORK
}

# {layer: {contender: its rounds}}
Results = dict[str, dict[str, Measured]]


def main() -> int:
    """Run the command line; return 1 if something could not be measured."""
    args = _arguments()
    skipped: list[str] = []
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
        native = args.native or _native_wheel(Path(folder, "native"))
        builds = {"native": native, "wheel": args.wheel}
        contenders = [
            Contender(f"{work}, {build}", _tool(work, python), threads=1, cpus=1)
            for build, python in {
                build: _installed(wheel, Path(folder, f"{build}-environment"))
                for build, wheel in builds.items()
            }.items()
            for work in WORK
        ]
        for layer in corpus_layers(args.corpus, args.compressor):
            if layer.name in (args.layers or [layer.name]):
                results[layer.name] = rotate(
                    layer, contenders, sys.executable, rounds=args.rounds, skipped=skipped
                )
                print("\n".join(_rows({layer.name: results[layer.name]})), flush=True)
    figures: dict[str, Any] = {
        "machine": measure.machine(),
        "command": f"wheels.py --compressor {args.compressor} --rounds {args.rounds}",
        "wheel": args.wheel.name,
        "skipped": skipped,
        "layers": rotation.figures(results),
        "goals": {GOALS[work].text: value for work, value in _means(results).items()},
    }
    report = report_text(figures, results)
    print(report[report.index("\n## Ratios") :])
    if not args.no_record:
        print(f"recorded in {measure.record('wheels', figures, report, folder=args.record)}")
    return int(bool(skipped))


def report_text(figures: dict[str, Any], results: Results) -> str:
    """Return the whole record as Markdown."""
    means = _means(results)
    lines = ["# A wheel and the native build\n", f"`{figures['command']}`, {figures['wheel']}\n"]
    lines += [f"- {name}: {value}" for name, value in figures["machine"].items()]
    lines += [
        "\n## Ratios\n",
        "CPU time of the native build over that of the wheel; below 1, the wheel is slower.\n",
        "| layer | work | native CPU s | wheel CPU s | ratio |",
        "| --- | --- | ---: | ---: | ---: |",
        *_rows(results),
        "\n## Goals\n",
        *goals.table({GOALS[work]: {figures["wheel"]: mean} for work, mean in means.items()}),
        "",
    ]
    lines += [f"Skipped: {reason}\n" for reason in figures["skipped"]]
    return "\n".join(lines)


def _rows(results: Results) -> list[str]:
    cpu = attrgetter("cpu")
    return [
        f"| {layer} | {work} | {native.median(cpu):.3f} | {wheel.median(cpu):.3f} "
        f"| {native.times(wheel):.3f} |"
        for layer, rows in results.items()
        for work in WORK
        if (native := rows.get(f"{work}, native")) and (wheel := rows.get(f"{work}, wheel"))
    ]


def _means(results: Results) -> dict[str, float | None]:
    """Return the geometric mean of the ratios by kind of work; None if some are missing."""
    found: dict[str, float | None] = {}
    for work in WORK:
        names = [f"{work}, {build}" for build in ("native", "wheel")]
        whole = results and all(name in rows for rows in results.values() for name in names)
        ratios = (
            [rows[names[0]].times(rows[names[1]]) for rows in results.values()] if whole else []
        )
        found[work] = statistics.geometric_mean(ratios) if ratios else None
    return found


def _native_wheel(folder: Path) -> Path:
    maturin = os.fspath(Path(sys.executable).with_name("maturin"))
    options = ("--release", "--locked", "--compatibility", "linux", "--out", folder)
    tools.run(maturin, "build", *options, "-m", ROOT / "rust/py/Cargo.toml")
    (wheel,) = folder.glob("*.whl")
    return wheel


def _installed(wheel: Path, folder: Path) -> str:
    """Install a wheel into a new environment; return its interpreter."""
    venv.create(folder, with_pip=True)
    python = os.fspath(folder / "bin" / "python")
    tools.run(python, "-m", "pip", "install", "--quiet", wheel)
    return python


def _tool(work: str, python: str) -> peers.Tool:
    tool = WORK[work]
    return replace(tool, command=(python, *tool.command[1:]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a wheel and the native build.")
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument("--wheel", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--native", type=Path, metavar="FILE", help="wheel of the native build (default: build it)"
    )
    parser.add_argument("--layers", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--compressor", default="go", metavar="NAME", help="default: go")
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of measured rounds (default: 5)"
    )
    arguments.add_record(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
