"""Reports of ``tocsin fleet``, and the progress of a run."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tocsin.cli import words
from tocsin.cli.progress import display_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tocsin.cli.output import Output
    from tocsin.fleet import (
        FleetAdvanced,
        FleetCounts,
        FleetProgress,
        FleetResult,
        FleetStatus,
        Plan,
    )

_MAX_PROBLEMS_SHOWN = 20
_MAX_REASONS_SHOWN = 8
_BAR = "layers"


def write_plan(plan: Plan, place: Path | None, output: Output) -> None:
    """Write a summary of a plan."""
    todo = [image for image in plan.images if image.skipped is None]
    reading = [layer for layer in plan.layers if layer.is_read]
    found = [layer for layer in plan.layers if layer.ztoc is not None]
    facts = {
        "images": f"{len(todo):,} to index, {len(plan.images) - len(todo):,} skipped",
        "layers": f"{words.count(len(reading), 'layer')} to read, {words.size(plan.read_size)}",
        "shared": f"{words.size(plan.shared_size)} if each image were indexed alone",
        "zTOCs": f"{len(found):,} found in the registry",
        "plan": words.short_digest(plan.fingerprint),
    }
    if place is not None:
        facts["file"] = str(place)
    output.facts(facts)
    _write_reasons(Counter(image.skipped for image in plan.images if image.skipped), output)


def write_result(result: FleetResult, output: Output) -> None:
    """Write the result of a run."""
    write_status(result.status, output, seconds=result.seconds)
    if result.stopped is not None:
        output.line("stopped at --max-bytes; run the command again to continue")


def write_status(status: FleetStatus, output: Output, *, seconds: float | None = None) -> None:
    """Write the state of a run."""
    traffic = status.traffic
    facts = {
        "images": _counts(status.images),
        "layers": _counts(status.layers),
        "read": f"layers of {words.size(status.read)}, of {words.size(status.read_size)}",
        "traffic": f"{words.size(traffic.read)} read, {words.size(traffic.pushed)} pushed",
        "plan": words.short_digest(status.plan),
    }
    if seconds is not None:
        facts["time"] = words.duration(seconds)
    output.facts(facts)
    failed = [problem for problem in status.problems if problem.state == "failed"]
    for problem in failed[:_MAX_PROBLEMS_SHOWN]:
        output.line(words.printable(f"failed: {problem.image}: {problem.reason}"))
    if len(failed) > _MAX_PROBLEMS_SHOWN:
        output.line(f"and {len(failed) - _MAX_PROBLEMS_SHOWN:,} more, with --json")
    skipped = (each for each in status.problems if each.state == "skipped")
    _write_reasons(Counter(each.reason for each in skipped), output)


@contextmanager
def shown(output: Output) -> Iterator[FleetProgress]:
    """Return a progress callback that shows a bar for the bytes of the layers."""
    with display_for(output) as display:
        started = False

        def show(event: FleetAdvanced) -> None:
            nonlocal started
            if not started:
                started = True
                display.start(_BAR, event.read_size)
            display.move(_BAR, event.read)

        yield show


def _counts(counts: FleetCounts) -> str:
    parts = [f"{counts.done:,} of {counts.total:,} done"]
    others = {"pending": counts.pending, "skipped": counts.skipped, "failed": counts.failed}
    parts += [f"{number:,} {name}" for name, number in others.items() if number]
    return ", ".join(parts)


def _write_reasons(reasons: Counter[str], output: Output) -> None:
    for reason, count in reasons.most_common(_MAX_REASONS_SHOWN):
        output.line(words.printable(f"skipped {words.count(count, 'image')}: {reason}"))
    if len(reasons) > _MAX_REASONS_SHOWN:
        output.line(f"and {len(reasons) - _MAX_REASONS_SHOWN:,} more reasons, with --json")
