"""Builds a SOCI index for each platform; layers of several platforms are indexed only once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError
from tocsin.indexing.layer_jobs import LayerJobs, is_prefetch_artifact, layer_key
from tocsin.indexing.results import PlatformResult
from tocsin.indexing.reuse import ReusableZtocs, find_ztocs
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_MANIFEST
from tocsin.model.prefetch import entry_names, plan_prefetch
from tocsin.model.soci_index import CONFIG_BLOB, IndexedLayer, make_soci_index

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tocsin.images.selection import PlatformImage
    from tocsin.indexing.layer_jobs import LayerKey, LayerOutcome
    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.events import Progress
    from tocsin.model.layer_result import LayerResult
    from tocsin.stores.base import Sink, Source

_INDEX_SMALL = "Index small layers too with --min-layer-size 0 (min_layer_size=0)."


@dataclass(frozen=True, slots=True)
class IndexedPlatforms:
    """SOCI indexes that are not stored yet; their zTOCs already are.

    Attributes:
        results: result for each image.
        indexes: bytes of the SOCI index of each result that has one.
        missing_prefetch: prefetch paths that are not in any indexed layer.
    """

    results: tuple[PlatformResult, ...]
    indexes: tuple[bytes, ...]
    missing_prefetch: tuple[str, ...]

    def store(self, sink: Sink) -> None:
        """Store the SOCI indexes and the config blob they share."""
        if self.indexes:
            sink.put_blob(CONFIG_BLOB)
        for data in self.indexes:
            sink.put_manifest(data, OCI_MANIFEST)


def index_platforms(
    source: Source,
    sink: Sink,
    images: Sequence[PlatformImage],
    *,
    version: int,
    tag: str | None = None,
    options: IndexingOptions,
    carry: bool,
    progress: Progress | None,
) -> IndexedPlatforms:
    """Index the layers of `images` and build a SOCI index for each image.

    Args:
        source: store with the images.
        sink: destination of zTOCs and prefetch artifacts, which are stored immediately.
        images: image for each platform.
        version: version of the SOCI indexes.
        tag: tag of the result in the sink.
        options: indexing options.
        carry: whether to copy the indexed layers to the sink.
        progress: called with progress events.

    Raises:
        UnsupportedError: no layer of any image has a zTOC.
    """
    if not images:
        return IndexedPlatforms((), (), ())
    # An existing zTOC does not record whether it was built with reference_identical.
    anew = options.rebuild or options.reference_identical
    known = ReusableZtocs() if anew else find_ztocs(sink, images, tag)
    jobs = LayerJobs(source, sink, options=options, known=known, carry=carry, progress=progress)
    outcomes = jobs.run(layer for image in images for layer in _layers(image))
    if not any(outcome.indexed for outcome in outcomes.values()):
        raise _nothing_indexed(source, [outcome.result for outcome in outcomes.values()], options)
    results, indexes = [], []
    missing: set[str] | None = None
    for image in images:
        indexed, not_found = _with_prefetch(sink, image, outcomes, options)
        if indexed:
            missing = not_found if missing is None else missing & not_found
        subject = image.descriptor if version == 1 else None
        data = make_soci_index(indexed, subject=subject).to_json() if indexed else None
        if data is not None:
            indexes.append(data)
        results.append(
            PlatformResult(
                platform=image.platform,
                manifest=image.descriptor,
                layers=tuple(outcomes[layer_key(layer)].result for layer in _layers(image)),
                soci_index=None if data is None else Descriptor.of(data, OCI_MANIFEST),
            )
        )
    in_order = entry_names(options.prefetch)
    return IndexedPlatforms(
        tuple(results),
        tuple(indexes),
        tuple(path for path in in_order if path in (missing or ())),
    )


def _layers(image: PlatformImage) -> list[Descriptor]:
    return [layer for layer in image.manifest.layers or () if not is_prefetch_artifact(layer)]


def _with_prefetch(
    sink: Sink,
    image: PlatformImage,
    outcomes: Mapping[LayerKey, LayerOutcome],
    options: IndexingOptions,
) -> tuple[list[IndexedLayer], set[str]]:
    """Return an image's indexed layers with their prefetch artifacts, and the paths not found."""
    found: list[IndexedLayer] = []
    searchable = []
    for layer in _layers(image):
        outcome = outcomes[layer_key(layer)]
        if outcome.indexed is not None:
            found.append(outcome.indexed)
            if outcome.searchable is not None:
                searchable.append(outcome.searchable)
    if not options.prefetch or not found:
        return found, set()
    plan = plan_prefetch(options.prefetch, searchable)
    for at, artifact in enumerate(plan.artifacts):
        if artifact is not None:
            found[at] = replace(found[at], prefetch=sink.put_blob(artifact.to_json()))
    return found, set(plan.missing)


def _nothing_indexed(
    source: Source, skipped: Sequence[LayerResult], options: IndexingOptions
) -> UnsupportedError:
    if not skipped:
        return UnsupportedError(f"{source.name}: nothing to index: the image has no layers")
    subject = f"all {len(skipped)} layers are" if len(skipped) > 1 else "the only layer is"
    reasons = sorted({result.skipped or "" for result in skipped})
    has_small = any(result.layer.size < options.min_layer_size for result in skipped)
    return UnsupportedError(
        f"{source.name}: nothing to index: {subject} skipped: {', '.join(reasons[:3])}",
        hint=_INDEX_SMALL if has_small else None,
    )
