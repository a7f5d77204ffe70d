"""Indexing the images of a whole registry: each unique layer is read once.

`plan` reads manifests and finds the unique layers, `run` indexes them on threads or on any
``concurrent.futures.Executor`` with a journal, and `status` reads the journal. The names in
``__all__`` are the public API; docs/fleet.md is the guide.
"""

from __future__ import annotations

from tocsin.fleet.journal import status
from tocsin.fleet.planning import plan
from tocsin.fleet.plans import Plan, PlannedImage, PlannedLayer
from tocsin.fleet.results import (
    FleetAdvanced,
    FleetCounts,
    FleetProblem,
    FleetProgress,
    FleetResult,
    FleetStatus,
)
from tocsin.fleet.running import run
from tocsin.fleet.sources import read_list

__all__ = [
    "FleetAdvanced",
    "FleetCounts",
    "FleetProblem",
    "FleetProgress",
    "FleetResult",
    "FleetStatus",
    "Plan",
    "PlannedImage",
    "PlannedLayer",
    "plan",
    "read_list",
    "run",
    "status",
]
