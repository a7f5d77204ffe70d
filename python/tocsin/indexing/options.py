"""What may be asked of ``create`` and ``convert``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.errors import UnsupportedError
from tocsin.model.ztoc_defaults import DEFAULT_SPAN_SIZE

if TYPE_CHECKING:
    from tocsin.model.platform import Platform

DEFAULT_MIN_LAYER_SIZE = 10 << 20
"""Compressed bytes below which a layer gets no zTOC (the reference's default)."""
OPTIMIZATIONS = frozenset({"xattr"})
"""Names the reference knows; ``xattr`` marks layers that can be mounted without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexingOptions:
    """How an image is indexed.

    Attributes:
        span_size: least uncompressed bytes between checkpoints, 0 or more.
        min_layer_size: layers with fewer compressed bytes get no zTOC.
        platforms: which of the image's platforms, as asked for; ``None`` for all.
        jobs: how many layers are read at once, at most.
        threads: processors that work on all layers together, and may on a single one; all that this
            process may use if ``None``. Nothing but time depends on it.
        optimizations: of `OPTIMIZATIONS`.
        prefetch: paths of files to be fetched before a container starts.
        rebuild: read layers again whose zTOC is at the destination already.
        reference_identical: make every byte as the reference does, even where its own reader then
            refuses the layer.
    """

    span_size: int = DEFAULT_SPAN_SIZE
    min_layer_size: int = DEFAULT_MIN_LAYER_SIZE
    platforms: tuple[Platform, ...] | None = None
    jobs: int = field(default_factory=processors.default_jobs)
    threads: int | None = None
    optimizations: frozenset[str] = frozenset()
    prefetch: tuple[str, ...] = ()
    rebuild: bool = False
    reference_identical: bool = False

    def __post_init__(self) -> None:
        for name in ("span_size", "min_layer_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted 0 or more")
        if self.jobs < 1:
            raise ValueError(f"jobs is {self.jobs}, wanted 1 or more")
        processors.wanted(self.threads)
        if unknown := self.optimizations - OPTIMIZATIONS:
            raise UnsupportedError(
                f"optimization {min(unknown)!r} is not known, wanted one of: "
                f"{', '.join(sorted(OPTIMIZATIONS))}"
            )
