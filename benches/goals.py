"""Goals that figures are held against, and the table that says which were reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """What a figure must be.

    Attributes:
        text: the figure, in words.
        bound: the least it must be, or the most.
        at_most: whether it is the most.
    """

    text: str
    bound: float
    at_most: bool = False

    def reached(self, value: float) -> bool:
        """Return whether `value` is enough; what is printed is rounded, this is not."""
        return value <= self.bound if self.at_most else value >= self.bound

    def cell(self, value: float | None) -> str:
        """Return the value and whether it is enough; a dash when it was not measured."""
        if value is None:
            return "-"
        return f"{value:.2f} {'reached' if self.reached(value) else '**not reached**'}"

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"


def table(goals: dict[Goal, dict[str, float | None]]) -> list[str]:
    """Return a Markdown table: a line for each goal, a column for each of the cases measured."""
    cases = list(dict.fromkeys(case for values in goals.values() for case in values))
    lines = [
        f"| goal | wanted | {' | '.join(cases)} |",
        f"| --- | --- |{' --- |' * len(cases)}",
    ]
    for goal, values in goals.items():
        cells = [goal.cell(values.get(case)) for case in cases]
        lines.append(f"| {goal.text} | {goal.wanted} | {' | '.join(cells)} |")
    return lines
