"""Draw the chart of the README from a record of ``reference.py``.

::

    python benches/chart.py benches/record/DATE-CPU/reference.json --out docs/convert.svg
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

_COLOURS = {"tocsin": "#d9480f", "soci": "#868e96"}
_LABELS = {"tocsin": "tocsin convert", "soci": "soci convert --standalone"}


def main() -> int:
    """Run the command line; return 0."""
    parser = argparse.ArgumentParser(description="Draw wall times of tocsin and the reference.")
    parser.add_argument("record", type=Path, help="reference.json of a record")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="SVG or PNG")
    args = parser.parse_args()
    figures = json.loads(args.record.read_text())
    walls = {
        image: {tool: statistics.median(cost["wall"] for cost in rows[tool]) for tool in _COLOURS}
        for image, rows in figures["images"].items()
    }
    _draw(walls, figures["machine"], args.out)
    return 0


def _draw(walls: dict[str, dict[str, float]], machine: dict[str, str], out: Path) -> None:
    # Imported here, so that --help works without matplotlib.
    from matplotlib import rcParams  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    rcParams["svg.hashsalt"] = "tocsin"  # so that the same record gives the same file
    figure = Figure(figsize=(7.2, 0.62 * len(walls) + 1.1), layout="constrained")
    axes = figure.subplots()
    height = 0.38
    for row, times in enumerate(walls.values()):
        for bar, (tool, seconds) in enumerate(times.items()):
            y = row + (bar - 0.5) * height
            axes.barh(
                y,
                seconds,
                height=height,
                color=_COLOURS[tool],
                label=_LABELS[tool] if row == 0 else None,
            )
            axes.annotate(
                f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s",
                (seconds, y),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
    axes.set_yticks(range(len(walls)), list(walls))
    axes.invert_yaxis()
    axes.set_xlabel(f"wall seconds, less is better ({machine['cpu']}, 2 CPUs)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.margins(x=0.12)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.1))
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
