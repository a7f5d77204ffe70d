"""Progress as log messages, for programs without a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.log import LOG
from tocsin.model.events import LayerFinished, Planned

if TYPE_CHECKING:
    from tocsin.model.events import Event, Progress


def log_progress() -> Progress:
    """Return a progress callback that logs the plan and each finished layer at level INFO.

    The logger is ``tocsin``. A callback counts the layers of one run.
    """
    planned = finished = 0

    def log(event: Event) -> None:
        nonlocal planned, finished
        match event:
            case Planned(layers):
                planned, finished = len(layers), 0
                unit = "layer" if planned == 1 else "layers"
                size = sum(layer.size for layer in layers)
                LOG.info("%d %s, %d bytes", planned, unit, size)
            case LayerFinished(layer):
                finished += 1
                LOG.info(
                    "layer %s: finished in %.1f s (%d of %d)",
                    *(layer.digest, event.seconds, finished, planned),
                )

    return log
