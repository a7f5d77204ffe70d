"""The prefetch artifact: spans of a layer that are fetched before the container starts.

Values and pure functions; how a path is found in a layer and where a span begins is handed in.
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
"""Links followed for one path, as Linux does."""
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


class FoundEntry(NamedTuple):
    """An entry of a layer, as far as prefetching must know it.

    Attributes:
        type: as the zTOC names it.
        linkname: target of a link.
        offset: of its data, in uncompressed bytes.
        size: of its data.
    """

    type: str
    linkname: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class SearchableLayer:
    """A layer that has a zTOC, as far as prefetching must look into it.

    Attributes:
        find: from an entry's exact name to the entry, the first of that name; ``None`` if there is
            none.
        span_of: from an uncompressed offset to the id of the span that holds it.
        at_path: from a cleaned path to the entry there, the last one, however the tar spells its
            name; ``None`` where only exact names count.
    """

    find: Callable[[str], FoundEntry | None]
    span_of: Callable[[int], int]
    at_path: Callable[[str], FoundEntry | None] | None = None


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
            **exactly** that name is taken, as by the reference; whiteouts are not seen. If there is
            none, or it is a link, the path is looked up the way a program would find it: by any
            spelling (``./x``) and through links in any part of it.
    """
    ranges: list[list[PrefetchRange]] = [[] for _ in layers]
    missing = []
    for name in wanted_names(paths):
        found = _find_exactly(name, layers)
        if found is None or found[1].type in _LINKS:
            found = _find_as_a_program(name, layers) or found
        if found is None:
            missing.append(name)
        else:
            number, entry = found
            span_of = layers[number].span_of
            ranges[number].append(_range_of(entry.offset, entry.size, span_of))
    artifacts = (PrefetchArtifact(merge_ranges(r)) if r else None for r in ranges)
    return PrefetchPlan(tuple(artifacts), tuple(missing))


_Found = tuple[int, FoundEntry]
"""The number of a layer, from the lowest up, and an entry in it."""


def _find_exactly(name: str, layers: Sequence[SearchableLayer]) -> _Found | None:
    for number in reversed(range(len(layers))):
        entry = layers[number].find(name)
        if entry is not None:
            return number, entry
    return None


def _find_as_a_program(path: str, layers: Sequence[SearchableLayer]) -> _Found | None:
    """Return the file at a path, links followed; the uppermost layer that has it counts."""
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
            # A hard link names its target from the root of the layer, whatever it begins with.
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
