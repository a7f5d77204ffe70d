"""The prefetch artifact: spans of a layer that are fetched before the container starts.

Values and pure functions; how a path is found in a layer and where a span begins is handed in.
Source: docs/format.md#the-prefetch-artifact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tocsin.errors import UnsupportedError
from tocsin.model.entry_path import clean_path
from tocsin.model.fields import Fields
from tocsin.model.go_json import decode_object, encode, omit_empty
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tocsin.model.go_json import Json

VERSION = "1.0"

_WHAT = "prefetch"
_MAX_SPAN_ID = (1 << 31) - 1
_GO_BLANKS = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@dataclass(frozen=True, slots=True, order=True)
class PrefetchRange:
    """Spans ``start_span`` to ``end_span``, **both included**.

    Attributes:
        start_span: span id of the first.
        end_span: span id of the last.
        priority: none is 0, which is not written; what is made here has none.
    """

    start_span: int
    end_span: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class PrefetchArtifact:
    """The prefetch artifact of one layer.

    Attributes:
        ranges: sorted, neither overlapping nor adjacent when made by `plan_prefetch`.
        version: of the format.
    """

    ranges: tuple[PrefetchRange, ...]
    version: str = VERSION

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the artifact in `data`.

        Raises:
            FormatError: it is none, or a range is not one; `what` is ``prefetch``.
            UnsupportedError: it has another version.
        """
        fields = Fields(decode_object(data, what=_WHAT), what=_WHAT)
        version = fields.text("version")
        if version != VERSION:
            raise UnsupportedError(
                f"prefetch: version is {quoted(version, limit=40)}, wanted {VERSION}"
            )
        return cls(tuple(map(_range_from, fields.children("prefetch_spans") or ())), version)

    def to_json(self) -> bytes:
        """Return the bytes the reference writes."""
        return encode(
            {"version": self.version, "prefetch_spans": [_range_struct(r) for r in self.ranges]}
        )


@dataclass(frozen=True, slots=True)
class SearchableLayer:
    """A layer that has a zTOC, as far as prefetching must look into it.

    Attributes:
        find: from an entry's exact name to its (offset, size) in uncompressed bytes; the first
            entry of that name, ``None`` when there is none.
        span_of: from an uncompressed offset to the id of the span that holds it.
    """

    find: Callable[[str], tuple[int, int] | None]
    span_of: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class PrefetchPlan:
    """What is to be fetched early.

    Attributes:
        artifacts: one for each layer given, in that order; ``None`` where nothing was found.
        missing: paths that no layer has, cleaned, in the order asked.
    """

    artifacts: tuple[PrefetchArtifact | None, ...]
    missing: tuple[str, ...]


def plan_prefetch(paths: Iterable[str], layers: Sequence[SearchableLayer]) -> PrefetchPlan:
    """Find the spans that hold files.

    Args:
        paths: as a user writes them, see `wanted_names`.
        layers: from the lowest up, only those with a zTOC. The uppermost that has an entry of
            **exactly** that name is taken: ``./x`` or ``x/`` never match, whiteouts are not seen.
    """
    ranges: list[list[PrefetchRange]] = [[] for _ in layers]
    missing = []
    for name in wanted_names(paths):
        for layer, into in zip(reversed(layers), reversed(ranges), strict=True):
            found = layer.find(name)
            if found is not None:
                into.append(_range_of(*found, layer.span_of))
                break
        else:
            missing.append(name)
    artifacts = (PrefetchArtifact(merge_ranges(r)) if r else None for r in ranges)
    return PrefetchPlan(tuple(artifacts), tuple(missing))


def wanted_names(paths: Iterable[str]) -> list[str]:
    """Return the names of entries that `paths` mean, in order, each once.

    Surrounding blanks and empty paths do not count.
    """
    stripped = (path.strip(_GO_BLANKS) for path in paths)
    return list(dict.fromkeys(clean_path(path) for path in stripped if path))


def merge_ranges(ranges: Iterable[PrefetchRange]) -> tuple[PrefetchRange, ...]:
    """Return `ranges` sorted, overlapping and adjacent ones made one."""
    merged: list[PrefetchRange] = []
    for found in sorted(ranges):
        if merged and found.start_span <= merged[-1].end_span + 1:
            last = merged[-1]
            merged[-1] = PrefetchRange(last.start_span, max(last.end_span, found.end_span))
        else:
            merged.append(PrefetchRange(found.start_span, found.end_span))
    return tuple(merged)


def _range_of(offset: int, size: int, span_of: Callable[[int], int]) -> PrefetchRange:
    # The reference asks for the byte after the last, so this may be one span more than needed.
    start = span_of(offset)
    return PrefetchRange(start, max(start, span_of(offset + size)))


def _range_from(fields: Fields) -> PrefetchRange:
    found = PrefetchRange(
        fields.integer("start_span"), fields.integer("end_span"), fields.integer("priority")
    )
    if not 0 <= found.start_span <= found.end_span <= _MAX_SPAN_ID:
        raise fields.refuse("start_span", f"got spans {found.start_span} to {found.end_span}")
    return found


def _range_struct(found: PrefetchRange) -> dict[str, Json]:
    return omit_empty(
        {
            "start_span": found.start_span,
            "end_span": found.end_span,
            "priority": found.priority,
        },
        "priority",
    )
