"""Goals for the figures, and a table that shows whether each was reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A bound for a figure.

    Attributes:
        text: description of the figure.
        bound: the minimum, or the maximum.
        at_most: whether `bound` is the maximum.
    """

    text: str
    bound: float
    at_most: bool = False

    def reached(self, value: float) -> bool:
        """Return whether `value` is within the bound, without rounding."""
        return value <= self.bound if self.at_most else value >= self.bound

    def cell(self, value: float | None) -> str:
        """Return the value and whether it reaches the goal; a dash if it was not measured."""
        if value is None:
            return "-"
        return f"{value:.2f} {'reached' if self.reached(value) else '**not reached**'}"

    @property
    def wanted(self) -> str:
        """The bound as text."""
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"


def table(goals: dict[Goal, dict[str, float | None]]) -> list[str]:
    """Return a Markdown table with a line for each goal and a column for each case."""
    cases = list(dict.fromkeys(case for values in goals.values() for case in values))
    lines = [
        f"| goal | wanted | {' | '.join(cases)} |",
        f"| --- | --- |{' --- |' * len(cases)}",
    ]
    for goal, values in goals.items():
        cells = [goal.cell(values.get(case)) for case in cases]
        lines.append(f"| {goal.text} | {goal.wanted} | {' | '.join(cells)} |")
    return lines
