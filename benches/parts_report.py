"""Make the table of the whole indexer and its parts, from the figures of ``cargo bench``.

Run by ``make bench``. The figures are those of ``benches/parts.rs``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import goals
import measure
from layer_files import COMPRESSIBLE

_FIGURES = Path(__file__).resolve().parent.parent / "target" / "tmp" / "parts.json"
_PARTS = ("inflate", "scan", "digests")
GOAL = goals.Goal("floor of the parts over the whole", 0.97)


def main() -> None:
    """Read the figures, print the report and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=_FIGURES, help="figures of parts.rs")
    parser.add_argument(
        "--record", type=Path, metavar="DIR", help="directory to write the record to"
    )
    args = parser.parse_args()
    found = json.loads(args.figures.read_text())
    report = report_text(found)
    print(report)
    print(f"recorded in {measure.record('parts', found, report, folder=args.record)}")


def report_text(found: dict[str, dict[str, float]]) -> str:
    """Return the record as Markdown."""
    lines = [
        "## The whole indexer and its parts, on one core\n",
        "CPU milliseconds in one process, with each part run alone, in rotation: inflate with CRC,",
        "tar scan, and the two digests computed together. Floor: the sum of the parts.\n",
        f"| layer | MB | {' | '.join(_PARTS)} | floor | whole | floor / whole |",
        f"| --- | ---: |{' ---: |' * len(_PARTS)} ---: | ---: | ---: |",
    ]
    ratios = {}
    for layer, figures in found.items():
        parts = [figures[f"{part}_ns"] for part in _PARTS]
        ratios[layer] = sum(parts) / figures["whole_ns"]
        cells = [f"{ns / 1e6:.1f}" for ns in (*parts, sum(parts), figures["whole_ns"])]
        lines.append(
            f"| {layer} | {figures['bytes'] / 1e6:.1f} | {' | '.join(cells)} "
            f"| {ratios[layer]:.2f} |"
        )
    every: dict[str, float | None] = dict(ratios)
    if four := [ratios[layer] for layer in COMPRESSIBLE if layer in ratios]:
        every["geometric mean, compressible"] = statistics.geometric_mean(four)
    return "\n".join([*lines, "", *goals.table({GOAL: every}), ""])


if __name__ == "__main__":
    main()
