"""Measure one layer on one core and on many, for every layer and compressor, with the peers.

::

    python benches/corpus.py --size full --out DIR
    python benches/threads.py --corpus DIR

Whole processes run in rotation on a cached file, with one warm-up round and ``--rounds`` measured
ones, each pinned to as many CPUs as it has threads. `build_ztoc` and `rapidgzip.open` are also
measured as calls, without starting the interpreter. The figures are CPU time on one CPU and wall
time on more, as ratios within a round; the tables have the medians of the rounds. Since
``rapidgzip -P 1`` uses more than one thread, it is measured with one CPU and with all.

The last table compares the ratios with tocsin's goals. Wall times require an otherwise idle
machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import goals
import measure
import peers
from layer_files import COMPRESSIBLE, LayerFile, corpus_compressors, corpus_layers
from rotation import Contender, Measured, rotate

if TYPE_CHECKING:
    from collections.abc import Callable

_WALL, _PEAK = attrgetter("wall"), attrgetter("peak")

ONE_CPU = goals.Goal("1 CPU: CPU time of rapidgzip -P 1 over build_ztoc's, geometric mean", 1.15)
ONE_CPU_LEAST = goals.Goal("1 CPU: the same, lowest of the four", 1.05)
TWO_CPUS_LEAST = goals.Goal(
    "2 CPUs: build_ztoc's wall time on one over that on two, lowest of all", 1.2
)
TWO_CPUS = goals.Goal("2 CPUs: the same, geometric mean", 1.5)
TWO_CPUS_PEER = goals.Goal(
    "2 CPUs: wall time of rapidgzip -P 2 over build_ztoc's, geometric mean", 1.5
)
TWO_CPUS_BETTER = goals.Goal("2 CPUs: the better of its -P 1 and -P 2, lowest of the four", 1.1)
TWO_CPUS_PACKED = goals.Goal("2 CPUs: the better of its -P 1 and -P 2, packed", 0.85)
PROCESS = goals.Goal("1 CPU: CPU time of rapidgzip -P 1 over our command's, geometric mean", 1.15)
CALL = goals.Goal("1 CPU: CPU time of rapidgzip.open over build_ztoc's, geometric mean", 1.15)
TWO_CALLS = goals.Goal("2 CPUs: wall time of rapidgzip.open over build_ztoc's, mean", 1.5)
TWO_PROCESSES = goals.Goal("2 CPUs: wall time of rapidgzip -P 2 over our command's, mean", 1.5)

# {compressor: {layer: {contender: its rounds}}}
Results = dict[str, dict[str, dict[str, Measured]]]


def main() -> int:
    """Run the command line; return 0, or 1 if tocsin itself could not be measured."""
    args = _arguments()
    if args.install:
        peers.install(args.python)
    skipped: list[str] = []
    contenders, versions = _contenders(args, skipped)

    results: Results = {}
    layers: dict[str, list[LayerFile]] = {}
    for compressor in args.compressors or corpus_compressors(args.corpus):
        found = corpus_layers(args.corpus, compressor)
        layers[compressor] = [
            layer for layer in found if layer.name in (args.layers or [layer.name])
        ]
        results[compressor] = {
            layer.name: rotate(layer, contenders, args.python, rounds=args.rounds, skipped=skipped)
            for layer in layers[compressor]
        }
        lines = compressor_table(compressor, layers[compressor], results[compressor])
        print("\n".join(lines), flush=True)

    tools = {contender.tool.name: contender.tool for contender in contenders}
    figures: dict[str, Any] = {
        "machine": measure.machine(),
        "command": f"threads.py --threads {' '.join(map(str, args.threads))} "
        f"--rounds {args.rounds}",
        "peak floor": measure.floor(),
        "commands": {name: peers.as_typed(tool.command) for name, tool in tools.items()},
        "work": {name: tool.work for name, tool in tools.items()},
        "versions": versions,
        "skipped": skipped,
        "layers": {
            f"{layer.name}.{compressor}": {
                "bytes": layer.size,
                "compressed": layer.path.stat().st_size,
                "contenders": {
                    name: {"index": row.index_size, "costs": [asdict(cost) for cost in row.costs]}
                    for name, row in results[compressor][layer.name].items()
                },
            }
            for compressor in results
            for layer in layers[compressor]
        },
        "goals": {goal.text: values for goal, values in measured_goals(results).items()},
    }
    report = report_text(figures, layers, results)
    print(report[report.index("\n## Ratios") :])
    if not args.no_record:
        print(f"recorded in {measure.record('threads', figures, report, folder=args.record)}")
    ours = {_ours(threads) for threads in args.threads}
    return 0 if all(ours <= row.keys() for rows in results.values() for row in rows.values()) else 1


def measured_goals(results: Results) -> dict[goals.Goal, dict[str, float | None]]:
    """Return each goal's figure by compressor; None if a contender or a layer is missing."""
    found: dict[goals.Goal, dict[str, float | None]] = {}
    for compressor, rows in results.items():
        four = [name for name in COMPRESSIBLE if name in rows]
        every = {name: ratios(row) for name, row in rows.items()}
        for goal, combine, ratio, names in (
            (ONE_CPU, statistics.geometric_mean, "peer, 1 CPU", four),
            (ONE_CPU_LEAST, min, "peer, 1 CPU", four),
            (TWO_CPUS_LEAST, min, "ours, 2 CPUs", list(rows)),
            (TWO_CPUS, statistics.geometric_mean, "ours, 2 CPUs", four),
            (TWO_CPUS_PEER, statistics.geometric_mean, "peer -P 2", four),
            (TWO_CPUS_BETTER, min, "peer's better", four),
            (TWO_CPUS_PACKED, min, "peer's better", [name for name in rows if name == "packed"]),
            (CALL, statistics.geometric_mean, "peer, 1 CPU, call", four),
            (TWO_CALLS, statistics.geometric_mean, "peer -P 2, call", four),
            (PROCESS, statistics.geometric_mean, "peer, 1 CPU, command", four),
            (TWO_PROCESSES, statistics.geometric_mean, "peer -P 2, command", four),
        ):
            values = [every[name].get(ratio) for name in names]
            known = [value for value in values if value is not None]
            whole = bool(known) and len(known) == len(values)
            found.setdefault(goal, {})[compressor] = combine(known) if whole else None
    return found


def ratios(rows: dict[str, Measured]) -> dict[str, float]:
    """Return a layer's ratios whose contenders were all measured; higher is better for tocsin."""

    def ratio(theirs: str, ours: str, figure: Callable[[measure.Cost], float]) -> float | None:
        if theirs not in rows or ours not in rows:
            return None
        return rows[theirs].times(rows[ours], figure)

    alone = ratio(_peer(1, 2), _call(2), _WALL)
    together = ratio(_peer(2, 2), _call(2), _WALL)
    found = {
        "peer, 1 CPU": ratio(_peer(1, 1), _call(1), attrgetter("cpu")),
        "peer, 1 CPU, call": ratio(_peer_call(1), _call(1), attrgetter("cpu")),
        "peer, 1 CPU, command": ratio(_peer(1, 1), _ours(1), attrgetter("cpu")),
        "ours, 2 CPUs": ratio(_call(1), _call(2), _WALL),
        "ours, 2 CPUs, command": ratio(_ours(1), _ours(2), _WALL),
        "peer -P 2, call": ratio(_peer_call(2), _call(2), _WALL),
        "peer -P 2, command": ratio(_peer(2, 2), _ours(2), _WALL),
        "peer -P 1": alone,
        "peer -P 2": together,
        "peer's better": None if alone is None or together is None else min(alone, together),
    }
    return {name: value for name, value in found.items() if value is not None}


def compressor_table(
    compressor: str, layers: list[LayerFile], results: dict[str, dict[str, Measured]]
) -> list[str]:
    """Return the lines of a compressor's Markdown table."""
    lines = [
        f"\n### {compressor}\n",
        "| layer | MB | tool | wall s | spread | CPU s | MB/s | peak MiB | index MB |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for layer in layers:
        for name, row in results[layer.name].items():
            wall = row.median(_WALL)
            lines.append(
                f"| {layer.name} | {layer.size / 1e6:.1f} | {name} | {wall:.3f} "
                f"| {row.spread(_WALL):.0%} | {row.median(attrgetter('cpu')):.3f} "
                f"| {layer.size / 1e6 / wall:.0f} | {row.median(_PEAK) / 2**20:.0f} "
                f"| {f'{row.index_size / 1e6:.2f}' if row.index_size else '-'} |"
            )
    return lines


def ratio_table(results: Results) -> list[str]:
    """Return the lines of a Markdown table with all ratios, one line per file."""
    names = list(
        dict.fromkeys(
            name for rows in results.values() for row in rows.values() for name in ratios(row)
        )
    )
    lines = [
        f"| layer | {' | '.join(names)} |",
        f"| --- |{' ---: |' * len(names)}",
    ]
    for compressor, rows in results.items():
        for layer, row in rows.items():
            found = ratios(row)
            cells = [f"{found[name]:.2f}" if name in found else "-" for name in names]
            lines.append(f"| {layer}.{compressor} | {' | '.join(cells)} |")
    return lines


def report_text(
    figures: dict[str, Any], layers: dict[str, list[LayerFile]], results: Results
) -> str:
    """Return the whole record as Markdown."""
    lines = ["# One layer, one core and many\n", f"`{figures['command']}`\n"]
    lines += [f"- {name}: {value}" for name, value in figures["machine"].items()]
    lines += [
        "\nMB/s: 10^6 uncompressed bytes per second of wall time. Spread: largest minus smallest "
        "wall time, divided by the median. A peak at or near the launcher's own "
        f"{figures['peak floor'] / 2**20:.0f} MiB is only an upper bound.\n",
        "| tool | work | command | version |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {figures['work'][name]} | `{command}` | {figures['versions'][name]} |"
        for name, command in figures["commands"].items()
    ]
    lines.append("\n## Layers")
    for compressor, rows in results.items():
        lines += compressor_table(compressor, layers[compressor], rows)
    lines += [
        "\n## Ratios\n",
        "Times of the peer (rapidgzip, which makes neither a file list nor digests) over ours, and "
        "ours on one CPU over ours on two: CPU time where it says 1 CPU, else wall time. Ours is "
        "`build_ztoc` and writing the zTOC, in an interpreter that has imported it, or the whole "
        "process of our command. The peer is its whole command, which starts faster than ours, or, "
        "where it says call, its own binding in an interpreter that has imported it. Medians of "
        "the rounds.\n",
        *ratio_table(results),
        "\n## Goals\n",
        f"The four: {', '.join(COMPRESSIBLE)}, or those of them that were measured.\n",
        *goals.table(measured_goals(results)),
        "",
    ]
    lines += [f"Skipped: {reason}\n" for reason in figures["skipped"]]
    return "\n".join(lines)


def _contenders(
    args: argparse.Namespace, skipped: list[str]
) -> tuple[list[Contender], dict[str, str]]:
    """Return the contenders, and the versions of their tools."""
    by_name = {tool.name: tool for tool in peers.PEERS}
    tocsin, rapidgzip = peers.tocsin(args.tocsin), by_name["rapidgzip"]
    most = max(args.threads)
    wanted = []
    for threads in args.threads:
        wanted.append(Contender(_ours(threads), tocsin, threads, threads))
        wanted.append(Contender(_call(threads), peers.build_ztoc(), threads, threads))
        wanted.append(Contender(_peer(threads, threads), rapidgzip, threads, threads))
        wanted.append(Contender(_peer_call(threads), peers.rapidgzip_call(), threads, threads))
    if 1 in args.threads and most > 1:
        wanted.append(Contender(_peer(1, most), rapidgzip, 1, most))
    wanted.append(Contender("igzip -t, 1 CPU", by_name["igzip -t"], 1, 1))
    versions: dict[str, str] = {}
    for tool in {contender.tool.name: contender.tool for contender in wanted}.values():
        version = tool.version_here(args.python)
        if version is None:
            skipped.append(f"{tool.name}: not installed")
        else:
            versions[tool.name] = version
    return [contender for contender in wanted if contender.tool.name in versions], versions


def _ours(threads: int) -> str:
    return f"tocsin --threads {threads}, {_cpus(threads)}"


def _call(threads: int) -> str:
    return f"build_ztoc(threads={threads}), {_cpus(threads)}"


def _peer(threads: int, cpus: int) -> str:
    return f"rapidgzip -P {threads}, {_cpus(cpus)}"


def _peer_call(threads: int) -> str:
    return f"rapidgzip.open({threads}), {_cpus(threads)}"


def _cpus(count: int) -> str:
    return "1 CPU" if count == 1 else f"{count} CPUs"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure one layer on one core and on many.")
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--layers", nargs="+", metavar="NAME", help="layers to measure (default: all)"
    )
    parser.add_argument(
        "--compressors", nargs="+", metavar="NAME", help="compressors to measure (default: all)"
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of measured rounds (default: 5)"
    )
    arguments.add_programs(parser)
    parser.add_argument("--install", action="store_true", help="install the peers first")
    arguments.add_record(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
