"""Options of ``create`` and ``convert``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.errors import UnsupportedError
from tocsin.model.entry_path import path_text
from tocsin.model.seek_defaults import (
    DEFAULT_SEEK_SPAN_SIZE,
    MAX_SEEK_SPAN_SIZE,
    MIN_SEEK_SPAN_SIZE,
)
from tocsin.model.ztoc_defaults import DEFAULT_SPAN_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.access_log import AccessLog
    from tocsin.model.entry_path import StrPath
    from tocsin.model.platform import Platform

DEFAULT_MIN_LAYER_SIZE = 10 << 20
"""Compressed size in bytes below which layers are skipped; the default of the reference tool."""
OPTIMIZATIONS = frozenset({"xattr"})
"""Optimizations of the reference tool; ``xattr`` marks layers without extended attributes."""


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class IndexingOptions:
    """Options for indexing an image.

    Platforms, optimizations and prefetch paths can each be given as an iterable or a single value.

    Attributes:
        span_size: minimum number of uncompressed bytes between checkpoints, at least 0.
        min_layer_size: minimum compressed size in bytes of a layer to index.
        platforms: platforms of the image to index, such as ``linux/amd64``; ``None`` for all.
        jobs: maximum number of layers read at the same time; ``None`` for one per CPU, at most 4.
        threads: number of CPU threads shared by all layers; ``None`` for all available CPUs. It
            affects only the speed.
        optimizations: ``xattr`` marks layers that can be mounted without extended attributes.
        prefetch: paths of files to fetch before a container starts.
        rebuild: rebuild zTOCs that already exist at the destination.
        reference_identical: write exactly the bytes that the reference tool would write, even if
            its reader rejects the result.
        seek: also make a seek table for each platform; see docs/seek-table.md.
        seek_only: make only seek tables, without zTOCs and SOCI indexes; implies `seek`.
        seek_span_size: uncompressed bytes between the checkpoints of seek tables, from 64 KiB to
            64 MiB.
        pack: what a program read, for a pack in each seek table, from which a mount serves the same
            reads; see docs/pack.md. ``None`` for no pack.
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
    seek: bool
    seek_only: bool
    seek_span_size: int
    pack: AccessLog | None

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
        seek: bool = False,
        seek_only: bool = False,
        seek_span_size: int = DEFAULT_SEEK_SPAN_SIZE,
        pack: AccessLog | None = None,
    ) -> None:
        """Check and store the options.

        Raises:
            FormatError: a platform is invalid.
            UnsupportedError: an optimization is unknown.
            ValueError: a number is out of range, `platforms` is empty, or `pack` is given without
                `seek`.
            TypeError: an argument has the wrong type.
        """
        for name, value in (("span_size", span_size), ("min_layer_size", min_layer_size)):
            if value < 0:
                raise ValueError(f"{name}: out of range (found {value}, expected at least 0)")
        if not MIN_SEEK_SPAN_SIZE <= seek_span_size <= MAX_SEEK_SPAN_SIZE:
            raise ValueError(
                f"seek_span_size: out of range (found {seek_span_size}, expected "
                f"{MIN_SEEK_SPAN_SIZE} to {MAX_SEEK_SPAN_SIZE})"
            )
        if jobs is not None and jobs < 1:
            raise ValueError(f"jobs: out of range (found {jobs}, expected at least 1)")
        if pack is not None and not (seek or seek_only):
            raise ValueError("pack: requires seek or seek_only")
        processors.resolve_threads(threads)
        wanted = frozenset(_texts("optimizations", optimizations))
        if unknown := wanted - OPTIMIZATIONS:
            raise UnsupportedError(
                f"optimizations: unknown value (found {min(unknown)!r}, expected one of: "
                f"{', '.join(sorted(OPTIMIZATIONS))})"
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
        self._set("seek", seek or seek_only)
        self._set("seek_only", seek_only)
        self._set("seek_span_size", seek_span_size)
        self._set("pack", pack)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen


def _platforms(
    given: str | Platform | Iterable[str | Platform] | None,
) -> tuple[Platform, ...] | None:
    if given is None:
        return None
    from tocsin.model.platform import platforms_of  # noqa: PLC0415 (rarely needed)

    return platforms_of(given)


def _texts(name: str, given: StrPath | Iterable[StrPath]) -> tuple[str, ...]:
    if isinstance(given, str | os.PathLike):
        return (path_text(given),)
    try:
        return tuple(path_text(each) for each in given)
    except TypeError as error:
        raise TypeError(f"{name}: not a string or an iterable of strings: {error}") from None
