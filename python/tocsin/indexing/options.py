"""What may be asked of ``create`` and ``convert``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.errors import UnsupportedError
from tocsin.model.entry_path import path_text
from tocsin.model.ztoc_defaults import DEFAULT_SPAN_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.entry_path import StrPath
    from tocsin.model.platform import Platform

DEFAULT_MIN_LAYER_SIZE = 10 << 20
"""Compressed bytes below which a layer gets no zTOC (the reference's default)."""
OPTIMIZATIONS = frozenset({"xattr"})
"""Names the reference knows; ``xattr`` marks layers that can be mounted without them."""


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class IndexingOptions:
    """How an image is indexed.

    Where several platforms, optimizations or paths may be given, any iterable of them is taken, and
    a single one by itself.

    Attributes:
        span_size: least uncompressed bytes between checkpoints, 0 or more.
        min_layer_size: layers with fewer compressed bytes get no zTOC.
        platforms: which of the image's platforms, as asked for, such as ``linux/amd64``; ``None``
            for all.
        jobs: how many layers are read at once, at most; as many as there are processors, at most 4,
            if ``None`` is given.
        threads: processors that work on all layers together, and may on a single one; all that this
            process may use if ``None``. Nothing but time depends on it.
        optimizations: ``xattr`` marks layers that can be mounted without extended attributes.
        prefetch: paths of files to be fetched before a container starts.
        rebuild: read layers again whose zTOC is at the destination already.
        reference_identical: make every byte as the reference does, even where its own reader then
            refuses the layer.
    """

    span_size: int
    min_layer_size: int
    platforms: tuple[Platform, ...] | None
    jobs: int
    threads: int | None
    optimizations: frozenset[str]
    prefetch: tuple[str, ...]
    rebuild: bool
    reference_identical: bool

    def __init__(
        self,
        *,
        span_size: int = DEFAULT_SPAN_SIZE,
        min_layer_size: int = DEFAULT_MIN_LAYER_SIZE,
        platforms: str | Platform | Iterable[str | Platform] | None = None,
        jobs: int | None = None,
        threads: int | None = None,
        optimizations: str | Iterable[str] = (),
        prefetch: StrPath | Iterable[StrPath] = (),
        rebuild: bool = False,
        reference_identical: bool = False,
    ) -> None:
        """Check and keep the options.

        Raises:
            FormatError: a platform that is none.
            UnsupportedError: an optimization the reference does not know.
            ValueError: a number out of its range, or no platform at all.
            TypeError: not an iterable of what is wanted.
        """
        for name, value in (("span_size", span_size), ("min_layer_size", min_layer_size)):
            if value < 0:
                raise ValueError(f"{name} is {value}, wanted 0 or more")
        if jobs is not None and jobs < 1:
            raise ValueError(f"jobs is {jobs}, wanted 1 or more")
        processors.resolve_threads(threads)
        wanted = frozenset(_texts("optimizations", optimizations))
        if unknown := wanted - OPTIMIZATIONS:
            raise UnsupportedError(
                f"optimization {min(unknown)!r} is not known, wanted one of: "
                f"{', '.join(sorted(OPTIMIZATIONS))}"
            )
        self._set("span_size", span_size)
        self._set("min_layer_size", min_layer_size)
        self._set("platforms", _platforms(platforms))
        self._set("jobs", processors.default_jobs() if jobs is None else jobs)
        self._set("threads", threads)
        self._set("optimizations", wanted)
        self._set("prefetch", _texts("prefetch", prefetch))
        self._set("rebuild", rebuild)
        self._set("reference_identical", reference_identical)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # frozen for everyone else


def _platforms(
    given: str | Platform | Iterable[str | Platform] | None,
) -> tuple[Platform, ...] | None:
    if given is None:
        return None
    from tocsin.model.platform import platforms_of  # noqa: PLC0415 (most images are taken whole)

    return platforms_of(given)


def _texts(name: str, given: StrPath | Iterable[StrPath]) -> tuple[str, ...]:
    if isinstance(given, str | os.PathLike):
        return (path_text(given),)
    try:
        return tuple(path_text(each) for each in given)
    except TypeError as error:
        raise TypeError(f"{name}: wanted text or an iterable of it: {error}") from None
