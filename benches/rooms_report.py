"""Make the table of the Rust rooms from what criterion measured: medians of CPU time, as ratios.

``make bench`` runs it after ``cargo bench``; criterion leaves its figures below
``target/criterion``.
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
    """Read, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--criterion", type=Path, default=_CRITERION, metavar="DIR")
    parser.add_argument("--record", type=Path, metavar="DIR", help="write the record there")
    args = parser.parse_args()
    figures = read(args.criterion)
    report = "\n".join(
        [*inflate_table(figures), "", *headers_table(figures), "", *rooms_table(figures), ""]
    )
    print(report)
    folder = measure.record("rooms", figures, report, folder=args.record)
    print(f"recorded in {folder}")


def read(criterion: Path) -> dict[str, Any]:
    """Return {group: {function: {"ns": median, "bytes" or "count" of one run}}} of the newest."""
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
    """Return the rates of inflate with CRC, and tocsin's as a multiple of each peer's."""
    lines = [
        "## Inflate with CRC",
        "",
        "MB/s of uncompressed bytes, and how many times the peer's rate tocsin has.",
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
    """Return what a block's header and its decode tables cost, in microseconds."""
    lines = [
        "## Block headers and decode tables",
        "",
        "CPU microseconds a dynamic block without symbols.",
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
    """Return the other rooms: CPU milliseconds and rate."""
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
