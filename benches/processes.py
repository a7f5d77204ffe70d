"""Measure tocsin and its peers as whole processes, layer by layer.

::

    python benches/corpus.py --size full --out DIR
    python benches/processes.py --corpus DIR

Every tool reads the same cached file, in rotation (A B C, A B C, ...), with one warm-up round and
``--rounds`` measured ones, all pinned to the same ``--cpus`` CPUs. The figure is CPU time (user and
system, including start-up), as the ratio of a peer to tocsin in the same round. The table has the
median of the rounds, and the geometric mean over the compressible layers. CPU time is less affected
by other programs than wall time, which is reported too.

The peers do less than tocsin, which also lists the files in the tar and computes the digests of the
spans and the layer; ``Tool.work`` in peers.py describes each. A peer that is missing or fails on a
layer is listed as skipped.

Finally, start-up is measured: ``tocsin --help`` compared with ``python -c pass``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import arguments
import measure
import peers
from layer_files import COMPRESSIBLE, LayerFile, corpus_layers
from rotation import Contender, Measured, rotate

START_UPS = 20


def main() -> int:
    """Run the command line; return 0, or 1 if tocsin itself could not be measured."""
    args = _arguments()
    if args.install:
        peers.install(args.python)
    tocsin = peers.tocsin(args.tocsin)
    cpus = args.cpus
    layers = corpus_layers(args.corpus, args.compressor)

    present: list[peers.Tool] = []
    versions: dict[str, str] = {}
    skipped: list[str] = []
    for tool in (tocsin, *peers.PEERS):
        version = tool.version_here(args.python)
        if version is None:
            skipped.append(f"{tool.name}: not installed")
        else:
            versions[tool.name] = version
            present.append(tool)

    results: dict[str, dict[str, Measured]] = {}
    for layer in layers:
        contenders = [Contender(tool.name, tool, threads=cpus, cpus=cpus) for tool in present]
        results[layer.name] = rotate(
            layer, contenders, args.python, rounds=args.rounds, skipped=skipped
        )
        print("\n".join(layer_table(layer, results[layer.name])), flush=True)

    start_up = start_up_cost([*tocsin.version[:-1], "--help"], args.python, skipped)
    means = geometric_means(results)
    figures: dict[str, Any] = {
        "machine": measure.machine(),
        "command": f"processes.py --compressor {args.compressor} --cpus {cpus} "
        f"--rounds {args.rounds}",
        "peak floor": measure.floor(),
        "commands": {tool.name: peers.as_typed(tool.command) for tool in present},
        "versions": versions,
        "skipped": skipped,
        "layers": {
            layer.name: {
                "bytes": layer.size,
                "compressed": layer.path.stat().st_size,
                "tools": {
                    name: {"index": row.index_size, "costs": [asdict(cost) for cost in row.costs]}
                    for name, row in results[layer.name].items()
                },
            }
            for layer in layers
        },
        "times tocsin's CPU, geometric mean": means,
        "start-up": start_up,
    }
    report = report_text(figures, layers, results, present)
    print(report[report.index("\n## Summary") :])
    name = "processes" if cpus == 1 else f"processes-{cpus}-cpus"
    if not args.no_record:
        print(f"recorded in {measure.record(name, figures, report, folder=args.record)}")
    return 0 if all("tocsin" in rows for rows in results.values()) else 1


def start_up_cost(words: list[str], python: str, skipped: list[str]) -> dict[str, float]:
    """Return median wall times in milliseconds of `START_UPS` pairs of runs.

    Each pair is the command `words` and an interpreter that does nothing; `difference` is the
    additional cost of the command.
    """
    command = peers.Tool("help", "start-up", tuple(words), ()).words(python)
    pairs = []
    try:
        for _ in range(START_UPS + 1):
            ours, bare = measure.run(command), measure.run([python, "-c", "pass"])
            pairs.append((ours.wall * 1e3, bare.wall * 1e3))
    except measure.CommandFailedError as error:
        skipped.append(f"start-up: {error}")
        return {}
    pairs = pairs[1:]  # the first pair is the warm-up
    return {
        "help": statistics.median(ours for ours, _ in pairs),
        "python": statistics.median(bare for _, bare in pairs),
        "difference": statistics.median(ours - bare for ours, bare in pairs),
    }


def geometric_means(results: dict[str, dict[str, Measured]]) -> dict[str, float]:
    """Return each peer's ratio to tocsin over the compressible layers; both must run on all."""
    rows = [results[name] for name in COMPRESSIBLE if name in results]
    return {
        peer.name: statistics.geometric_mean([row[peer.name].times(row["tocsin"]) for row in rows])
        for peer in peers.PEERS
        if rows and all({peer.name, "tocsin"} <= row.keys() for row in rows)
    }


def layer_table(layer: LayerFile, rows: dict[str, Measured]) -> list[str]:
    """Return the lines of a layer's Markdown table."""
    compressed = layer.path.stat().st_size
    lines = [
        f"\n### {layer.name}: {layer.size / 1e6:.1f} MB, {compressed / 1e6:.1f} MB compressed\n",
        "| tool | CPU s | spread | wall s | MB/s | x tocsin | peak MiB | index MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = rows.get("tocsin")
    for name, row in rows.items():
        cpu = row.median(lambda cost: cost.cpu)
        spread = row.spread(lambda cost: cost.cpu)
        lines.append(
            f"| {name} | {cpu:.3f} | {spread:.0%} | {row.median(lambda cost: cost.wall):.3f} "
            f"| {layer.size / 1e6 / cpu:.0f} | {f'{row.times(ours):.2f}' if ours else '-'} "
            f"| {row.median(lambda cost: cost.peak) / 2**20:.0f} "
            f"| {f'{row.index_size / 1e6:.2f}' if row.index_size else '-'} |"
        )
    return lines


def report_text(
    figures: dict[str, Any],
    layers: list[LayerFile],
    results: dict[str, dict[str, Measured]],
    tools: list[peers.Tool],
) -> str:
    """Return the whole record as Markdown."""
    lines = ["# Whole processes\n", f"`{figures['command']}`\n"]
    lines += [f"- {name}: {value}" for name, value in figures["machine"].items()]
    lines += [
        "\nMB/s: 10^6 uncompressed bytes per CPU second. x tocsin: CPU time over tocsin's in the "
        "same round. Figures are medians of the rounds; spread: largest minus smallest CPU "
        "time, divided by the median. A peak at or near the launcher's own "
        f"{figures['peak floor'] / 2**20:.0f} MiB is only an upper bound.\n",
        "| tool | work | command | version |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {tool.name} | {tool.work} | `{figures['commands'][tool.name]}` "
        f"| {figures['versions'][tool.name]} |"
        for tool in tools
    ]
    lines.append("\n## Layers")
    for layer in layers:
        lines += layer_table(layer, results[layer.name])
    lines.append("\n## Summary\n")
    means = figures["times tocsin's CPU, geometric mean"]
    named = [name for name in COMPRESSIBLE if name in results]
    if means:
        lines.append(
            f"CPU time of each peer over tocsin's, geometric mean of {', '.join(named)}:\n"
        )
        lines += [f"- {name}: {value:.2f}" for name, value in means.items()]
    else:
        lines.append("No geometric mean: it needs tocsin and a compressible layer.")
    if start_up := figures["start-up"]:
        lines.append(
            f"\nStart-up: `tocsin --help` {start_up['help']:.0f} ms, `python -c pass` "
            f"{start_up['python']:.0f} ms, difference {start_up['difference']:.0f} ms."
        )
    lines += [f"\nSkipped: {reason}" for reason in figures["skipped"]]
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure tocsin and its peers as whole processes, layer by layer."
    )
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--compressor", default="go", help="compressor of the layers to read (default: go)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of measured rounds (default: 5)"
    )
    parser.add_argument("--cpus", type=int, default=1, help="number of CPUs to pin to (default: 1)")
    arguments.add_programs(parser)
    parser.add_argument("--install", action="store_true", help="install the peers first")
    arguments.add_record(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
