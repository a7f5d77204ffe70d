"""Events of a run that is under way, for ``progress=``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Planned:
    """The layers that will be read, each once, largest first."""

    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class LayerStarted:
    """A layer is being read."""

    layer: Descriptor


@dataclass(frozen=True, slots=True)
class LayerAdvanced:
    """`done` compressed bytes of a layer have been read."""

    layer: Descriptor
    done: int
