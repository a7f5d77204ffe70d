"""Make the table of user journeys from pytest-benchmark's figures: CPU times and ratios.

Run by ``make bench``. The figures are those of ``benches/test_journeys.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import measure

_COMPRESSIBLE = ("rootfs", "ml", "node", "text")
_BUILD = {
    "tocsin": "test_build_ztoc",
    "indexed_gzip": "test_peer_indexed_gzip",
    "tarfile": "test_peer_tarfile",
}
_ONE_FILE = {"tocsin": "test_extract", "tarfile": "test_peer_tarfile_extract"}


def main() -> None:
    """Read the figures, print the report and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, help="file written with --benchmark-json")
    parser.add_argument(
        "--record", type=Path, metavar="DIR", help="directory to write the record to"
    )
    args = parser.parse_args()
    found = json.loads(args.figures.read_text())["benchmarks"]
    medians = {entry["name"]: entry["stats"]["median"] for entry in found}
    report = "\n".join(
        [
            *table("build_ztoc and what Python programs use without it", medians, _BUILD),
            "",
            *table("One file out of a layer", medians, _ONE_FILE),
            "",
        ]
    )
    print(report)
    print(f"recorded in {measure.record('journeys', medians, report, folder=args.record)}")


def table(title: str, medians: dict[str, float], tests: dict[str, str]) -> list[str]:
    """Return the CPU milliseconds of tocsin and its peers, and their ratios."""
    peers = [peer for peer in tests if peer != "tocsin"]
    lines = [
        f"## {title}",
        "",
        "CPU milliseconds inside one process, and as a multiple of tocsin's.",
        "",
        f"| layer | {' | '.join([*tests, *(f'x {peer}' for peer in peers)])} |",
        f"| --- |{' ---: |' * (len(tests) + len(peers))}",
    ]
    ratios: dict[str, list[float]] = {peer: [] for peer in peers}
    for layer in (*_COMPRESSIBLE, "packed"):
        times = {who: medians.get(f"{test}[{layer}]") for who, test in tests.items()}
        ours = times["tocsin"]
        if ours is None:
            continue
        cells = ["-" if value is None else f"{value * 1e3:.1f}" for value in times.values()]
        for peer in peers:
            theirs = times[peer]
            cells.append("-" if theirs is None else f"{theirs / ours:.2f}")
            if theirs is not None and layer in _COMPRESSIBLE:
                ratios[peer].append(theirs / ours)
        lines.append(f"| {layer} | {' | '.join(cells)} |")
    means = [f"{statistics.geometric_mean(r):.2f}" if r else "-" for r in ratios.values()]
    lines.append(f"| geometric mean, compressible |{' |' * len(tests)} {' | '.join(means)} |")
    return lines


if __name__ == "__main__":
    main()
