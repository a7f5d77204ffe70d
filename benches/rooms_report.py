"""Make the tables of the Rust benchmarks from criterion's figures: median CPU times and ratios.

Run by ``make bench`` after ``cargo bench``. Criterion's figures are in ``target/criterion``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import measure

_CRITERION = Path(__file__).resolve().parent.parent / "target" / "criterion"
_BYTES = ("Bytes", "BytesDecimal")
_PEERS = ("libdeflate", "zlib-ng", "zlib-rs", "zlib")
_COMPRESSIBLE = ("rootfs", "ml", "node", "text")


def main() -> None:
    """Read the figures, print the report and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--criterion", type=Path, default=_CRITERION, metavar="DIR")
    parser.add_argument(
        "--record", type=Path, metavar="DIR", help="directory to write the record to"
    )
    args = parser.parse_args()
    figures = read(args.criterion)
    report = "\n".join(
        [*inflate_table(figures), "", *headers_table(figures), "", *rooms_table(figures), ""]
    )
    print(report)
    folder = measure.record("rooms", figures, report, folder=args.record)
    print(f"recorded in {folder}")


def read(criterion: Path) -> dict[str, Any]:
    """Return {group: {function: {"ns": median, "bytes" or "count": per run}}} of the last run."""
    figures: dict[str, Any] = {}
    for path in sorted(criterion.glob("*/*/new/benchmark.json")):
        about = json.loads(path.read_text())
        estimates = json.loads(path.with_name("estimates.json").read_text())
        throughput = about["throughput"] or {}
        function = about["function_id"] or about["value_str"]
        figures.setdefault(about["group_id"], {})[function] = {
            "ns": estimates["median"]["point_estimate"],
            "bytes": next((throughput[unit] for unit in _BYTES if unit in throughput), None),
            "count": throughput.get("Elements"),
        }
    return figures


def inflate_table(figures: dict[str, Any]) -> list[str]:
    """Return the table of inflate rates with CRC, and their ratios to the peers'."""
    lines = [
        "## Inflate with CRC",
        "",
        "MB/s of uncompressed bytes, and tocsin's rate as a multiple of the peer's.",
        "",
        f"| layer | tocsin | {' | '.join(_PEERS)} | {' | '.join(f'x {peer}' for peer in _PEERS)} |",
        f"| --- |{' ---: |' * (1 + 2 * len(_PEERS))}",
    ]
    ratios: dict[str, list[float]] = {peer: [] for peer in _PEERS}
    for group, functions in figures.items():
        if not group.startswith("inflate/") or "tocsin" not in functions:
            continue
        name = group.removeprefix("inflate/")
        ours = functions["tocsin"]
        cells = [name, f"{_rate(ours):.0f}"]
        times = []
        for peer in _PEERS:
            if peer not in functions:
                cells.append("")
                times.append("")
                continue
            cells.append(f"{_rate(functions[peer]):.0f}")
            ratio = functions[peer]["ns"] / ours["ns"]
            times.append(f"{ratio:.2f}")
            if name.partition(".")[0] in _COMPRESSIBLE:
                ratios[peer].append(ratio)
        lines.append(f"| {' | '.join(cells + times)} |")
    means = [f"{statistics.geometric_mean(of):.2f}" if of else "" for of in ratios.values()]
    if any(means):
        blanks = " |" * (1 + len(_PEERS))
        lines.append(f"| geometric mean, compressible |{blanks} {' | '.join(means)} |")
    return lines


def headers_table(figures: dict[str, Any]) -> list[str]:
    """Return the table of the cost of block headers and decode tables, in microseconds."""
    lines = [
        "## Block headers and decode tables",
        "",
        "CPU microseconds per dynamic block without symbols.",
        "",
        "| layer | tocsin | libdeflate |",
        "| --- | ---: | ---: |",
    ]
    for group, functions in figures.items():
        if group.startswith("headers/") and {"tocsin", "libdeflate"} <= functions.keys():
            cells = [
                f"{functions[name]['ns'] / functions[name]['count'] / 1e3:.2f}"
                for name in ("tocsin", "libdeflate")
            ]
            lines.append(f"| {group.removeprefix('headers/')} | {' | '.join(cells)} |")
    return lines


def rooms_table(figures: dict[str, Any]) -> list[str]:
    """Return the table of the other benchmarks: CPU milliseconds and rates."""
    lines = [
        "## The other rooms",
        "",
        "CPU time of one run; MB/s of the layer's uncompressed bytes for index and tar-scan, of",
        "the blob for ztoc-write and ztoc-read, of the compressed span for span-read.",
        "",
        "| layer | room | ms | MB/s |",
        "| --- | --- | ---: | ---: |",
    ]
    for group, functions in figures.items():
        if group.startswith("rooms/"):
            lines.extend(
                f"| {group.removeprefix('rooms/')} | {room} | {figure['ns'] / 1e6:.2f} "
                f"| {_rate(figure):.0f} |"
                for room, figure in functions.items()
            )
    return lines


def _rate(figure: dict[str, Any]) -> float:
    return float(figure["bytes"] / figure["ns"] * 1e3)


if __name__ == "__main__":
    main()
