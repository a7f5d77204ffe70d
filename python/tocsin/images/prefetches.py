"""Prefetch artifacts of a SOCI index: which spans they list, and which files these contain.

An artifact has only span numbers. Its files are all whose data is completely in these spans,
according to the layer's zTOC. These include the files for which the artifact was built.
Source: docs/format.md#the-prefetch-artifact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.images.soci_indexes import PROBLEMS
from tocsin.images.ztocs import read_ztoc
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.prefetch import PrefetchArtifact, PrefetchRange, merge_ranges
from tocsin.model.soci_index import IMAGE_LAYER_DIGEST
from tocsin.stores.base import read_blob

if TYPE_CHECKING:
    from tocsin.layers.known_ztocs import KnownZtocs
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.soci_index import SociIndex
    from tocsin.stores.base import Source


@dataclass(frozen=True, slots=True)
class PrefetchInfo:
    """The data of one layer that a snapshotter fetches before the container starts.

    Attributes:
        index: digest of the SOCI index that lists the artifact.
        artifact: descriptor of the artifact in the index.
        layer: digest of the layer in the index; empty if it is missing.
        version: version of the format; empty if the artifact cannot be read.
        ranges: ranges of spans in the artifact.
        files: absolute paths of the files completely in these spans, in the tar's order.
        problem: what is wrong with the artifact, or why it is incomplete.
    """

    index: Digest
    artifact: Descriptor
    layer: str
    version: str = ""
    ranges: tuple[PrefetchRange, ...] = ()
    files: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def span_count(self) -> int:
        """Number of spans, each counted once."""
        return sum(found.end_span - found.start_span + 1 for found in merge_ranges(self.ranges))

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for a prefetch artifact."""
        return {
            **self.artifact.to_dict(),
            "index": str(self.index),
            "layer": self.layer,
            "version": self.version,
            "spans": [
                {
                    "start_span": found.start_span,
                    "end_span": found.end_span,
                    "priority": found.priority,
                }
                for found in self.ranges
            ],
            "span_count": self.span_count,
            "files": list(self.files),
            "problem": self.problem,
        }


def prefetches_of(
    store: Source | None, digest: Digest, index: SociIndex, *, known: KnownZtocs | None = None
) -> tuple[PrefetchInfo, ...]:
    """Return the prefetch artifacts of a SOCI index.

    Args:
        store: store with the artifacts; ``None`` if only the index is available.
        digest: digest of the index.
        index: the SOCI index.
        known: zTOCs that have already been read.
    """
    return tuple(_read_prefetch(store, digest, index, entry, known) for entry in index.prefetches)


def _read_prefetch(
    store: Source | None,
    digest: Digest,
    index: SociIndex,
    entry: Descriptor,
    known: KnownZtocs | None,
) -> PrefetchInfo:
    layer = entry.annotations.get(IMAGE_LAYER_DIGEST, "")
    if store is None:
        missing = "the prefetch artifact is not part of the index file"
        return PrefetchInfo(digest, entry, layer, problem=missing)
    try:
        artifact = PrefetchArtifact.from_json(read_blob(store, entry, max_size=MAX_SIZE))
    except PROBLEMS as error:
        return PrefetchInfo(digest, entry, layer, problem=error.message)
    problem = None
    files: tuple[str, ...] = ()
    ztoc_entry = index.ztoc_of(layer)
    if ztoc_entry is None:
        problem = f"prefetch {entry.digest}: the index has no zTOC for its layer"
    else:
        try:
            ztoc = read_ztoc(store, ztoc_entry, known=known)
        except PROBLEMS as error:
            problem = error.message
        else:
            files = _files_in(ztoc, artifact.ranges)
            last = max((found.end_span for found in artifact.ranges), default=-1)
            if last >= ztoc.span_count:
                problem = (
                    f"prefetch {entry.digest}: names a span that its layer does not have "
                    f"(found {last}, expected at most {ztoc.span_count - 1})"
                )
    return PrefetchInfo(digest, entry, layer, artifact.version, artifact.ranges, files, problem)


def _files_in(ztoc: Ztoc, ranges: tuple[PrefetchRange, ...]) -> tuple[str, ...]:
    from tocsin.layers.span_files import whole_files  # noqa: PLC0415 (few images have any)

    merged = [(found.start_span, found.end_span) for found in merge_ranges(ranges)]
    return tuple(f"/{path}" for path in whole_files(ztoc, merged))
