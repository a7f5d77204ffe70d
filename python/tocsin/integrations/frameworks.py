"""Importing the frameworks that the integrations are for; none of them is a dependency."""

from __future__ import annotations

import importlib
from typing import Any


def framework(module: str, *, package: str) -> Any:  # noqa: ANN401 (modules without types)
    """Import a module of a framework.

    Args:
        module: name of the module.
        package: package that provides it, as pip names it.

    Raises:
        ImportError: the framework is not installed; the message has the command that installs it.
    """
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A broken installation of the framework must not look like a missing one.
        if error.name != top:
            raise
        raise ImportError(
            f"{top} is not installed; install it with: pip install {package}", name=top
        ) from None
