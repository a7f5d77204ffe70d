"""Runs programs in rotation on one layer (A B C, A B C, ...), so that drift affects all alike."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from layer_files import LayerFile
    from peers import Tool

_CPU = attrgetter("cpu")


@dataclass(frozen=True)
class Contender:
    """A tool with its settings."""

    name: str  # its name in the tables
    tool: Tool
    threads: int
    cpus: int  # number of CPUs that it is pinned to


@dataclass
class Measured:
    """All measured rounds of one contender on one layer."""

    costs: list[measure.Cost] = field(default_factory=list)
    index_size: int = 0  # bytes written; 0 if the tool only reads

    def median(self, figure: Callable[[measure.Cost], float]) -> float:
        """Return the median of a figure over the rounds."""
        return statistics.median(map(figure, self.costs))

    def spread(self, figure: Callable[[measure.Cost], float]) -> float:
        """Return the largest figure minus the smallest, divided by the median."""
        figures = [figure(cost) for cost in self.costs]
        return (max(figures) - min(figures)) / statistics.median(figures)

    def times(self, other: Measured, figure: Callable[[measure.Cost], float] = _CPU) -> float:
        """Return the median over the rounds of this figure divided by the other's."""
        pairs = zip(self.costs, other.costs, strict=True)
        return statistics.median(figure(ours) / figure(theirs) for ours, theirs in pairs)


def figures(rows: Mapping[str, Mapping[str, Measured]]) -> dict[str, dict[str, list[object]]]:
    """Return all measured costs by layer or image, then by contender, for the JSON of a record."""
    return {
        name: {
            contender: [asdict(cost) for cost in row.costs] for contender, row in by_name.items()
        }
        for name, by_name in rows.items()
    }


def rotate(
    layer: LayerFile,
    contenders: Iterable[Contender],
    python: str,
    *,
    rounds: int,
    skipped: list[str],
) -> dict[str, Measured]:
    """Run every contender on `layer` in turn, `rounds` times after a warm-up round.

    A contender that fails is dropped with all its rounds, and the reason is added to `skipped`.
    """
    contenders = list(contenders)
    layer.read_once()
    rows = {contender.name: Measured() for contender in contenders}
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
        for number in range(rounds + 1):
            for contender in contenders:
                if contender.name not in rows:
                    continue
                out = Path(folder, "index")
                out.unlink(missing_ok=True)
                words = contender.tool.words(
                    python, layer=os.fspath(layer.path), out=str(out), cpus=contender.threads
                )
                measure.pin(contender.cpus)
                try:
                    cost = measure.run(words)
                except measure.CommandFailedError as error:
                    skipped.append(f"{contender.name} on {layer.path.stem}: {error}")
                    del rows[contender.name]
                    continue
                if contender.tool.reports_itself:
                    took = json.loads(Path(f"{out}.took").read_text("utf-8"))
                    cost = replace(cost, **took)
                if number > 0:
                    rows[contender.name].costs.append(cost)
                    rows[contender.name].index_size = out.stat().st_size if out.exists() else 0
    return rows
