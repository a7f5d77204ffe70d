"""Progress events, passed to the ``progress=`` callbacks.

For a progress bar, `Planned` gives the total, `LayerStarted` adds a line, `LayerAdvanced` updates
it and `LayerFinished` removes it. `Advanced` updates the only line of a run that reads a single
layer or extracts files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.finding import Finding
    from tocsin.model.layer_result import LayerResult


@dataclass(frozen=True, slots=True)
class Planned:
    """Sent by ``create``, ``convert`` and ``verify`` before the first layer is read.

    Attributes:
        layers: the layers to read, without duplicates, largest first.
    """

    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class LayerStarted:
    """Reading a layer has started.

    Attributes:
        layer: descriptor in the image's manifest; its size is the total for `LayerAdvanced`.
    """

    layer: Descriptor


@dataclass(frozen=True, slots=True)
class LayerAdvanced:
    """More of a layer has been read.

    Attributes:
        layer: the layer, as in `LayerStarted`.
        done: compressed bytes read so far.
    """

    layer: Descriptor
    done: int


@dataclass(frozen=True, slots=True)
class LayerFinished:
    """A layer is done. For a layer that need not be read, `LayerStarted` is not sent.

    Attributes:
        layer: descriptor in the image's manifest.
        seconds: wall time.
        result: result of ``create`` or ``convert``; ``None`` in other runs.
        findings: findings of ``verify`` for the layer and its zTOCs; empty in other runs.
    """

    layer: Descriptor
    seconds: float
    result: LayerResult | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Advanced:
    """The whole run has advanced; sent once with 0 before any work.

    ``build_ztoc`` and ``index_layer`` count compressed bytes read, ``extract`` counts bytes of
    files.

    Attributes:
        done: bytes processed so far.
        total: total bytes; ``None`` if unknown, as for a pipe.
    """

    done: int
    total: int | None


Event: TypeAlias = Planned | LayerStarted | LayerAdvanced | LayerFinished | Advanced
"""The argument of a `Progress` callback."""

Progress: TypeAlias = Callable[[Event], None]
"""A callback for progress events, called from worker threads but never concurrently.

An exception raised by the callback stops the run as Ctrl-C does: partial results are removed, and
the exception propagates to the caller.
"""
