"""Predict how fast a layer is indexed on 1 to 64 cores, from the costs of the stages on one.

::

    TOCSIN_CORPUS=DIR cargo bench --package tocsin-core --bench stages
    python benches/scaling.py

The model is `parallel_model`. Its costs are the results of ``benches/stages.rs``, or come from
``--stages FILE``: {layer: {figure: value}}, where figures for all layers may be at the top level.
Missing or null figures are assumed, which the report mentions. Layers are assumed to have
``--size`` compressed bytes, so that start and end are negligible.

The chart shows the predictions as lines, and measurements of the whole indexer as points. The
report names the bottlenecks at 16 and 64 cores, and the gain from removing them.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import measure
from parallel_model import IN_ORDER, Costs, Design, Outcome, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).resolve().parent.parent
_STAGES = _ROOT / "target" / "tmp" / "stages.json"
_PICTURE = _ROOT / "docs" / "scaling.png"

CORES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
ASKED = (16, 64)  # cores for which bottlenecks are reported
# Bits checked before a block is found: half a block of 20 kB, the size in Go's output.
ASSUMED = {
    "probe_ns_per_compressed_bit": 2.0,
    "bits_per_probe": 80_000.0,
    "join_ns_per_range": 30_000.0,
    "feed_ns_per_compressed_byte": 0.06,
    "marked_share": 1.0,
}
_NAMES = {
    "ratio": "ratio",
    "exact": "exact_ns_per_byte",
    "marked": "marked_ns_per_byte",
    "marked_share": "marked_share",
    "resolve": "resolve_ns_per_byte",
    "crc": "crc_ns_per_byte",
    "scan": "scan_ns_per_byte",
    "hash_both": "sha_pair_ns_per_compressed_byte",
    "hash_one": "sha_single_ns_per_compressed_byte",
    "probe": "probe_ns_per_compressed_bit",
    "probed": "bits_per_probe",
    "join": "join_ns_per_range",
    "feed": "feed_ns_per_compressed_byte",
}
_LIMITS = {
    "feed": "copying the input",
    "scan": "the scan of the tar",
    "join": "the joiner, which decodes the gaps between ranges",
    "hash": "the digests, which are computed in order",
    "cores": "the number of cores",
    "waiting": "ranges that are not decoded when the joiner arrives",
}


@dataclass(frozen=True)
class Change:
    """A change that could remove a bottleneck."""

    name: str
    free: tuple[str, ...]  # costs that become zero
    design: Design

    def of(self, costs: Costs) -> Costs:
        """Return the costs after the change."""
        nothing: dict[str, Any] = dict.fromkeys(self.free, 0.0)
        return replace(costs, **nothing)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Predict throughput on many cores.")
    parser.add_argument("--stages", type=Path, default=_STAGES, help="costs of the stages")
    parser.add_argument("--size", type=int, default=1 << 30, help="compressed bytes of a layer")
    parser.add_argument("--picture", type=Path, default=_PICTURE, metavar="PNG")
    arguments.add_record(parser)
    args = parser.parse_args()
    stages = json.loads(args.stages.read_text("utf-8"))
    layers = dict(figures_by_layer(stages))
    costs = {layer: layer_costs(figures, args.size) for layer, figures in layers.items()}
    found = {
        layer: [predict(layer_cost, cores) for cores in CORES]
        for layer, layer_cost in costs.items()
    }
    report = report_text(layers, costs, found)
    print(report)
    if args.no_record:
        return
    draw(args.picture, layers, costs, found)
    figures = {
        layer: {outcome.cores: rate(costs[layer], outcome) for outcome in outcomes}
        for layer, outcomes in found.items()
    }
    folder = measure.record("scaling", figures, report, folder=args.record)
    if args.stages.resolve() != (folder / "stages.json").resolve():
        shutil.copyfile(args.stages, folder / "stages.json")
    print(f"recorded in {folder}, drawn in {args.picture}")


def figures_by_layer(stages: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each layer's figures, including those for all layers."""
    common = {name: value for name, value in stages.items() if not isinstance(value, dict)}
    for layer, figures in stages.items():
        if isinstance(figures, dict):
            yield layer, common | figures


def layer_costs(figures: dict[str, Any], size: int) -> Costs:
    """Return the costs of a layer of `size` compressed bytes.

    Raises:
        KeyError: a figure is missing and has no assumed value.
    """
    values = {}
    for attribute, name in _NAMES.items():
        value = figures.get(name)
        values[attribute] = ASSUMED[name] if value is None else float(value)
    return Costs(compressed_size=size, **values)


def assumed(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that were not measured, with their assumed values."""
    return {name: value for name, value in ASSUMED.items() if figures.get(name) is None}


def rate(costs: Costs, outcome: Outcome) -> float:
    """Return the rate in 10^6 uncompressed bytes per second."""
    return costs.compressed_size * costs.ratio / outcome.seconds / 1e6


def predict(costs: Costs, cores: int, design: Design | None = None) -> Outcome:
    """Simulate the decoder, which computes the two digests together or on separate cores.

    It computes them together while they keep up and separately otherwise, so the faster way counts.
    """
    design = design or Design()
    designs = (design, replace(design, spans_apart=True))
    return min((simulate(costs, cores, way) for way in designs), key=lambda way: way.seconds)


def changes() -> list[Change]:
    """Return the changes to evaluate."""
    design = Design()
    dense = replace(design, first_gap=0, max_gap=0)
    return [
        Change("no gap between ranges", (), dense),
        Change("a gap of at most one unit", (), replace(design, first_gap=1, max_gap=1)),
        Change("twice as much fed ahead", (), replace(design, ahead=2)),
        Change("twice as many pieces joined ahead", (), replace(design, max_pieces=64)),
        Change("ranges half as long", (), replace(design, range_units=design.range_units // 2)),
        Change("markers resolved at no cost", ("resolve",), design),
        Change("no digests, and no gap between ranges", ("hash_both", "hash_one"), dense),
    ]


def report_text(
    layers: dict[str, dict[str, Any]], costs: dict[str, Costs], found: dict[str, list[Outcome]]
) -> str:
    """Return the record as Markdown."""
    lines = [
        "# Many cores on one layer, predicted\n",
        "10^6 uncompressed bytes per second by number of cores, from the costs in stages.json. In",
        "brackets: rate of the whole indexer as measured with the same number of threads.\n",
        f"| layer | {' | '.join(map(str, CORES))} |",
        f"| --- |{' ---: |' * len(CORES)}",
    ]
    for layer, outcomes in found.items():
        measured = measured_rates(layers[layer])
        cells = [
            f"{rate(costs[layer], outcome):.0f}"
            + (f" ({measured[outcome.cores]:.0f})" if outcome.cores in measured else "")
            for outcome in outcomes
        ]
        lines.append(f"| {layer} | {' | '.join(cells)} |")
    missing = {
        name: value for figures in layers.values() for name, value in assumed(figures).items()
    }
    if missing:
        values = ", ".join(f"{name} {value:g}" for name, value in missing.items())
        lines.append(f"\nAssumed, not measured: {values}.")
    lines += ["", *cost_table(layers)]
    for cores in ASKED:
        lines += ["", *limit_lines(cores, layers, costs, found)]
    return "\n".join(lines) + "\n"


def cost_table(layers: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table of the costs of each stage, in nanoseconds and cycles."""
    lines = [
        "## Costs of the stages\n",
        "Nanoseconds, with cycles of one core in brackets.\n",
        f"| cost | {' | '.join(layers)} |",
        f"| --- |{' ---: |' * len(layers)}",
    ]
    for name in _NAMES.values():
        if "_ns_per_" not in name:
            continue
        cells = []
        for figures in layers.values():
            value, clock = figures.get(name), figures.get("cycles_per_ns")
            cycles = f" ({value * clock:.2f})" if value is not None and clock else ""
            cells.append("-" if value is None else f"{value:.3f}{cycles}")
        lines.append(
            f"| {name.replace('_ns_per_', ', a ').replace('_', ' ')} | {' | '.join(cells)} |"
        )
    for name in ("ratio", "marked_share"):
        values = [figures.get(name) for figures in layers.values()]
        cells = ["-" if value is None else f"{value:.2f}" for value in values]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return lines


def measured_rates(figures: dict[str, Any]) -> dict[int, float]:
    """Return the measured rates of the whole indexer by number of threads, in 10^6 bytes/s."""
    measured = figures.get("measured_ns") or {}
    return {int(threads): figures["bytes"] / ns * 1e3 for threads, ns in measured.items()}


def limit_lines(
    cores: int,
    layers: dict[str, dict[str, Any]],
    costs: dict[str, Costs],
    found: dict[str, list[Outcome]],
) -> list[str]:
    """Return the bottlenecks on `cores` cores, the loads, and the gains from changes."""
    busy = (*IN_ORDER, "cores")
    lines = [
        f"## {cores} cores\n",
        f"| layer | limited by | {' | '.join(f'{name} busy' for name in busy)} | held MiB |",
        f"| --- | --- |{' ---: |' * len(busy)} ---: |",
    ]
    gains: dict[str, list[str]] = {}
    for layer, outcomes in found.items():
        outcome = next(outcome for outcome in outcomes if outcome.cores == cores)
        loads = [f"{outcome.load(name):.0%}" for name in busy]
        lines.append(
            f"| {layer} | {_LIMITS[outcome.limit()]} | {' | '.join(loads)} "
            f"| {outcome.peak_size / 2**20:.0f} |"
        )
        for change in changes():
            changed = predict(change.of(costs[layer]), cores, change.design)
            gain = outcome.seconds / changed.seconds
            cell = f"x {gain:.2f}, then {changed.limit()}"
            gains.setdefault(change.name, []).append(cell)
    lines += [
        "",
        "Gain from each change alone, and the remaining bottleneck:\n",
        f"| change | {' | '.join(found)} |",
        f"| --- |{' --- |' * len(found)}",
    ]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in gains.items()]
    return lines


def draw(
    picture: Path,
    layers: dict[str, dict[str, Any]],
    costs: dict[str, Costs],
    found: dict[str, list[Outcome]],
) -> None:
    """Draw the predictions as lines and the measurements as points."""
    # Imported here, since tests of the model do not need it.
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: PLC0415

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    top = 0.0
    for layer, outcomes in found.items():
        rates = [rate(costs[layer], outcome) / 1e3 for outcome in outcomes]
        (line,) = axes.plot(CORES, rates, label=f"{layer}, {costs[layer].ratio:.1f}:1")
        measured = measured_rates(layers[layer])
        axes.plot(
            list(measured),
            [value / 1e3 for value in measured.values()],
            linestyle="none",
            marker="o",
            color=line.get_color(),
        )
        top = max(top, *rates)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis, last in ((axes.xaxis, 6), (axes.yaxis, math.ceil(math.log2(top)))):
        axis.set_major_locator(FixedLocator([2.0**power for power in range(-1, last + 1)]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(plain)
    axes.set_xlim(0.9, 72)
    axes.set_xlabel("cores")
    axes.set_ylabel("GB of uncompressed layer a second")
    axes.set_title("One layer on many cores: predicted (lines), measured (points)")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
