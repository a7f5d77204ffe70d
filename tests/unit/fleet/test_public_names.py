"""The public names of ``tocsin.fleet``: documented, complete, and their values can be pickled."""

import dataclasses
import inspect
import pickle

import pytest

import tocsin
from support import annotations, fleets
from support.registry import Registry
from tocsin import fleet

PUBLIC = [
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
"""Every change of this list belongs in the CHANGELOG."""
CALLABLE = [name for name in PUBLIC if name != "FleetProgress"]


def test_names_when_compared_then_equal_the_pinned_list():
    assert fleet.__all__ == PUBLIC


@pytest.mark.parametrize("name", CALLABLE)
def test_name_when_public_then_documented(name):
    value = getattr(fleet, name)
    assert inspect.getdoc(value)
    assert not value.__doc__.startswith(f"{name}(")
    if inspect.isclass(value):
        for method, member in vars(value).items():
            if not method.startswith("_") and isinstance(member, property):
                assert inspect.getdoc(member), method


@pytest.mark.parametrize("name", CALLABLE)
def test_annotations_when_walked_then_every_class_is_public(name):
    met = annotations.classes_met(getattr(fleet, name), constructor=True)
    public = {id(getattr(tocsin, each)) for each in tocsin.__all__}
    public |= {id(getattr(fleet, each)) for each in PUBLIC}
    assert [place for place, kind in met.items() if id(kind) not in public] == []


def test_values_when_pickled_then_copies_are_equal(tmp_path):
    options, events = tocsin.IndexingOptions(min_layer_size=0), []
    with Registry() as registry:
        fleets.put(registry.host, "app", "base")
        fleets.put(registry.host, "gone", "base")
        sources = [f"{registry.host}/app:1", f"{registry.host}/gone:1"]
        plan = fleet.plan(sources, options=options)
        del registry.repositories["gone"]
        result = fleet.run(plan, tmp_path / "j", check_push=False, progress=events.append)
    values = [plan, *plan.images, *plan.layers, result, result.status, *result.status.problems]
    values += [result.status.images, *events]
    for value in values:
        copy = pickle.loads(pickle.dumps(value))  # noqa: S301 (our own)
        assert (copy, type(copy)) == (value, type(value))
    kinds = {getattr(fleet, name) for name in CALLABLE}
    assert {kind for kind in kinds if dataclasses.is_dataclass(kind)} == set(map(type, values))
