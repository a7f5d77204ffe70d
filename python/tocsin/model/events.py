"""Events of a run that is under way: what every ``progress=`` is called with.

A progress bar needs five of them: `Planned` gives the total, `LayerStarted` adds a line,
`LayerAdvanced` moves it, `LayerFinished` removes it; `Advanced` moves the one line of a run that
reads a single layer or copies files.
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
    """Before the first layer is read, by ``create``, ``convert`` and ``verify``.

    Attributes:
        layers: that will be read, each once, largest first.
    """

    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class LayerStarted:
    """A layer is being read.

    Attributes:
        layer: as in the image's manifest; its size is the total of `LayerAdvanced`.
    """

    layer: Descriptor


@dataclass(frozen=True, slots=True)
class LayerAdvanced:
    """More of a layer has been read.

    Attributes:
        layer: as in `LayerStarted`.
        done: compressed bytes read so far.
    """

    layer: Descriptor
    done: int


@dataclass(frozen=True, slots=True)
class LayerFinished:
    """A layer is done. A layer that did not have to be read finishes without having started.

    Attributes:
        layer: as in the image's manifest.
        seconds: wall time.
        result: what ``create`` and ``convert`` made of it; ``None`` from all others.
        findings: what ``verify`` found in the layer and its zTOCs; empty from all others.
    """

    layer: Descriptor
    seconds: float
    result: LayerResult | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Advanced:
    """More bytes are done of a run that has one total; the first is sent before any work.

    Sent by ``build_ztoc`` and ``index_layer``, which count compressed bytes read, and by
    ``extract``, which counts bytes of files.

    Attributes:
        done: bytes so far.
        total: bytes in all; ``None`` if that is unknown, as for a pipe.
    """

    done: int
    total: int | None


Event: TypeAlias = Planned | LayerStarted | LayerAdvanced | LayerFinished | Advanced
"""What `Progress` is called with."""

Progress: TypeAlias = Callable[[Event], None]
"""Called for every event, from the threads that work, but never by two at once.

An exception from it stops the run as Ctrl-C does: nothing half-made stays, and it is passed on.
"""
