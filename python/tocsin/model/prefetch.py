"""The prefetch artifact: spans of a layer that are fetched before the container starts.

Values and pure functions. The caller passes functions that look up paths and spans in a layer.
Source: docs/format.md#the-prefetch-artifact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

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
_LINKS = frozenset({"symlink", "hardlink"})
_MAX_LINKS = 40
"""Maximum symbolic links followed for one path, as in Linux."""
_MAX_SPAN_ID = (1 << 31) - 1
_GO_WHITESPACE = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@dataclass(frozen=True, slots=True, order=True)
class PrefetchRange:
    """The spans from ``start_span`` to ``end_span``, **inclusive**.

    Attributes:
        start_span: id of the first span.
        end_span: id of the last span.
        priority: 0 means no priority and is not written; tocsin never sets it.
    """

    start_span: int
    end_span: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class PrefetchArtifact:
    """The prefetch artifact of one layer.

    Attributes:
        ranges: sorted; from `plan_prefetch`, neither overlapping nor adjacent.
        version: version of the format.
    """

    ranges: tuple[PrefetchRange, ...]
    version: str = VERSION

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse a prefetch artifact.

        Raises:
            FormatError: `data` is not a prefetch artifact or has an invalid range; `what` is
                ``prefetch``.
            UnsupportedError: the version is unknown.
        """
        fields = Fields(decode_object(data, what=_WHAT), what=_WHAT)
        version = fields.text("version")
        if version != VERSION:
            raise UnsupportedError(
                f"prefetch: version is {quoted(version, limit=40)}, expected {VERSION}"
            )
        return cls(tuple(map(_range_from, fields.children("prefetch_spans") or ())), version)

    def to_json(self) -> bytes:
        """Return the same bytes as the reference writes."""
        return encode(
            {"version": self.version, "prefetch_spans": [_range_struct(r) for r in self.ranges]}
        )


class FoundEntry(NamedTuple):
    """The properties of an entry in a layer, as far as prefetching needs them.

    Attributes:
        type: type in the zTOC, such as ``reg``.
        linkname: target of a link.
        offset: uncompressed offset of the data.
        size: size of the data in bytes.
    """

    type: str
    linkname: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class SearchableLayer:
    """The look-up functions that prefetching needs for a layer with a zTOC.

    Attributes:
        find: returns the first entry with exactly this name, or ``None``.
        span_of: returns the id of the span that contains an uncompressed offset.
        at_path: returns the last entry at a cleaned path, however the tar spells its name;
            ``None`` to look up exact names only.
    """

    find: Callable[[str], FoundEntry | None]
    span_of: Callable[[int], int]
    at_path: Callable[[str], FoundEntry | None] | None = None


@dataclass(frozen=True, slots=True)
class PrefetchPlan:
    """The prefetch artifacts of an image's layers.

    Attributes:
        artifacts: one per layer, in the order of the layers; ``None`` for a layer without matches.
        missing: cleaned paths that were not found in any layer, in the order given.
    """

    artifacts: tuple[PrefetchArtifact | None, ...]
    missing: tuple[str, ...]


def plan_prefetch(paths: Iterable[str], layers: Sequence[SearchableLayer]) -> PrefetchPlan:
    """Find the spans that contain the given files.

    As in the reference, a path first matches the top layer that has an entry with **exactly** that
    name; whiteouts are ignored. If there is no match, or the match is a link, the path is resolved
    as a program would resolve it: with any spelling (``./x``) and through links.

    Args:
        paths: paths as typed by a user; `entry_names` cleans them.
        layers: the layers with a zTOC, bottom layer first.
    """
    ranges: list[list[PrefetchRange]] = [[] for _ in layers]
    missing = []
    for name in entry_names(paths):
        found = _find_exactly(name, layers)
        if found is None or found[1].type in _LINKS:
            found = _find_through_links(name, layers) or found
        if found is None:
            missing.append(name)
        else:
            number, entry = found
            span_of = layers[number].span_of
            ranges[number].append(_range_of(entry.offset, entry.size, span_of))
    artifacts = (PrefetchArtifact(merge_ranges(r)) if r else None for r in ranges)
    return PrefetchPlan(tuple(artifacts), tuple(missing))


_Found = tuple[int, FoundEntry]
"""The position of a layer, 0 for the bottom layer, and an entry in it."""


def _find_exactly(name: str, layers: Sequence[SearchableLayer]) -> _Found | None:
    for number in reversed(range(len(layers))):
        entry = layers[number].find(name)
        if entry is not None:
            return number, entry
    return None


def _find_through_links(path: str, layers: Sequence[SearchableLayer]) -> _Found | None:
    """Return the file at a path, following links; upper layers take precedence."""
    at = ""
    links = 0
    todo = path.split("/")[::-1]
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = at.rpartition("/")[0]
            continue
        full = f"{at}/{name}" if at else name
        found = _uppermost(full, layers)
        if found is not None and found[1].type in _LINKS:
            links += 1
            if links > _MAX_LINKS:
                return None
            target = found[1].linkname
            # The target of a hard link is relative to the root of the layer, even without a slash.
            if found[1].type == "hardlink" or target.startswith("/"):
                at = ""
            todo += target.split("/")[::-1]
            continue
        if not any(part not in ("", ".") for part in todo):
            return found if found is not None and found[1].type == "reg" else None
        at = full
    return None


def _uppermost(path: str, layers: Sequence[SearchableLayer]) -> _Found | None:
    for number in reversed(range(len(layers))):
        at_path = layers[number].at_path
        entry = None if at_path is None else at_path(path)
        if entry is not None:
            return number, entry
    return None


def entry_names(paths: Iterable[str]) -> list[str]:
    """Return the entry names for `paths` in order, without duplicates.

    Surrounding whitespace and empty paths are ignored.
    """
    stripped = (path.strip(_GO_WHITESPACE) for path in paths)
    return list(dict.fromkeys(clean_path(path) for path in stripped if path))


def merge_ranges(ranges: Iterable[PrefetchRange]) -> tuple[PrefetchRange, ...]:
    """Return `ranges` sorted, with overlapping and adjacent ranges merged."""
    merged: list[PrefetchRange] = []
    for found in sorted(ranges):
        if merged and found.start_span <= merged[-1].end_span + 1:
            last = merged[-1]
            merged[-1] = PrefetchRange(last.start_span, max(last.end_span, found.end_span))
        else:
            merged.append(PrefetchRange(found.start_span, found.end_span))
    return tuple(merged)


def _range_of(offset: int, size: int, span_of: Callable[[int], int]) -> PrefetchRange:
    # As in the reference, the end is the byte after the last one, which may add a span.
    start = span_of(offset)
    return PrefetchRange(start, max(start, span_of(offset + size)))


def _range_from(fields: Fields) -> PrefetchRange:
    found = PrefetchRange(
        fields.integer("start_span"), fields.integer("end_span"), fields.integer("priority")
    )
    if not 0 <= found.start_span <= found.end_span <= _MAX_SPAN_ID:
        raise fields.error(
            "start_span", f"invalid range of spans, {found.start_span} to {found.end_span}"
        )
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
