"""A tool for SCons: ``Environment(tools=["default", scons.generate])`` adds ``TocsinIndex``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tocsin.errors import TocsinError
from tocsin.integrations.frameworks import framework
from tocsin.integrations.step import Step, error_text

if TYPE_CHECKING:
    from tocsin.indexing.options import IndexingOptions
    from tocsin.stores.registry import RegistryOptions

_ERRORS = framework("SCons.Errors", package="scons")


def exists(_env: Any) -> bool:  # noqa: ANN401 (SCons has no types)
    """Return whether the tool can be used, as SCons asks of each tool."""
    return True


def generate(env: Any) -> None:  # noqa: ANN401 (SCons has no types)
    """Add the method ``TocsinIndex`` to a construction environment."""
    env.AddMethod(tocsin_index, "TocsinIndex")


def tocsin_index(
    env: Any,  # noqa: ANN401 (SCons has no types)
    stamp: str,
    image: str,
    destination: str | None = None,
    *,
    options: IndexingOptions | None = None,
    registry: RegistryOptions | None = None,
    force: bool = False,
) -> Any:  # noqa: ANN401 (a list of nodes)
    """Return the node of a stamp that `index_image` makes.

    Args:
        env: the construction environment; its variables are replaced in `image` and `destination`.
        stamp: name of the stamp, which is the target.
        image: reference of the image, which is the source.
        destination: reference of the converted image; ``None`` for version 1 indexes.
        options: as for `index_image`.
        registry: as for `index_image`.
        force: as for `index_image`.
    """
    image = env.subst(image)
    destination = None if destination is None else env.subst(destination)
    step = Step(image, destination, options, registry, force)

    def is_outdated(_value: object, target: Any, *_: object) -> bool:  # noqa: ANN401 (a node)
        return not step.is_current(target.get_abspath())

    # Values with the same text are the same node, and each step needs its own decider.
    value = env.Value(json.dumps([str(env.File(stamp)), image, destination]))
    value.Decider(is_outdated)
    node = env.Command(
        stamp, value, env.Action(_build, f"tocsin: indexing {image}"), TOCSIN_STEP=step
    )
    # SCons removes targets before it builds them, but the stamp says which image may be replaced.
    return env.Precious(node)


def _build(target: list[Any], source: object, env: Any) -> None:  # noqa: ANN401 (as SCons has it)
    # Not a closure: SCons builds again if an action changes, and compares what closures contain.
    del source
    try:
        env["TOCSIN_STEP"].run(target[0].get_abspath())
    except (TocsinError, OSError) as error:
        raise _ERRORS.BuildError(target[0], errstr=error_text(error)) from error
