"""Builds the indexes of each platform; layers of several platforms are indexed only once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin.errors import SeekTableError, UnsupportedError
from tocsin.indexing.layer_jobs import LayerJobs, is_prefetch_artifact, layer_key
from tocsin.indexing.packs import MadePack, make_pack
from tocsin.indexing.results import PlatformResult
from tocsin.indexing.reuse import ReusableZtocs, find_seek_blobs, find_ztocs
from tocsin.layers.seek_table import make_seek_table
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_MANIFEST
from tocsin.model.prefetch import entry_names, plan_prefetch
from tocsin.model.seek_manifest import (
    SEEK_FILE_LIST,
    SEEK_ROOT,
    SeekManifest,
    root_descriptor,
)
from tocsin.model.soci_index import CONFIG_BLOB, IndexedLayer, make_soci_index

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tocsin.images.selection import PlatformImage
    from tocsin.indexing.known import KnownLayers, ZtocStore
    from tocsin.indexing.layer_jobs import LayerKey, LayerOutcome
    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.events import Progress
    from tocsin.stores.base import Sink, Source

_INDEX_SMALL = "Index small layers too with --min-layer-size 0 (min_layer_size=0)."


@dataclass(frozen=True, slots=True)
class IndexedPlatforms:
    """SOCI indexes and seek tables that are not stored yet; their blobs already are.

    Attributes:
        results: result for each image.
        indexes: bytes of the SOCI indexes, for each result that has one.
        seek_tables: bytes of the seek manifests, for each result that has one.
        missing_prefetch: prefetch paths that are not in any indexed layer.
    """

    results: tuple[PlatformResult, ...]
    indexes: tuple[bytes, ...]
    missing_prefetch: tuple[str, ...]
    seek_tables: tuple[bytes, ...] = ()

    def store(self, sink: Sink, stored: Collection[Digest] = ()) -> None:
        """Store the SOCI indexes, the config blob they share, and the seek manifests.

        Args:
            sink: destination.
            stored: digests of SOCI indexes that are stored and listed already.
        """
        indexes = [data for data in self.indexes if Digest.of(data) not in stored]
        if indexes:
            sink.put_blob(CONFIG_BLOB)
        for data in (*indexes, *self.seek_tables):
            sink.put_manifest(data, OCI_MANIFEST)


def index_platforms(
    source: Source,
    sink: Sink,
    images: Sequence[PlatformImage],
    *,
    version: int,
    tag: str | None = None,
    options: IndexingOptions,
    store: ZtocStore | None = None,
    elsewhere: KnownLayers | None = None,
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
        store: zTOCs to use, and where to keep those that are built.
        elsewhere: layers that were indexed before.
        carry: whether to copy the indexed layers to the sink.
        progress: called with progress events.

    Raises:
        UnsupportedError: no layer has a zTOC, and no image has a seek table.
    """
    if not images:
        return IndexedPlatforms((), (), ())
    # An existing zTOC does not record whether it was built with reference_identical.
    rebuild = options.rebuild or options.reference_identical
    # With seek_only, no zTOCs are looked up: the entries of the file list come from the layers.
    known = ReusableZtocs() if rebuild or options.seek_only else find_ztocs(sink, images, tag)
    known_seek = None
    if options.seek and not rebuild:
        known_seek = find_seek_blobs(sink, images, tag, span_size=options.seek_span_size)
    jobs = LayerJobs(
        source,
        sink,
        options=options,
        known=known,
        known_seek=known_seek,
        store=store,
        elsewhere=elsewhere,
        carry=carry,
        progress=progress,
    )
    outcomes = jobs.run(layer for image in images for layer in _layers(image))
    seek_tables = [
        _seek_table(source, sink, image, version=version, outcomes=outcomes, options=options)
        for image in images
    ]
    is_empty = not any(outcome.indexed for outcome in outcomes.values())
    if is_empty and not any(table.data for table in seek_tables):
        raise _nothing_indexed(source, list(outcomes.values()), options)
    results, indexes = [], []
    missing: set[str] | None = None
    for image, seek_table in zip(images, seek_tables, strict=True):
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
                seek_table=seek_table.descriptor,
                seek_problem=seek_table.problem,
                seek_size=seek_table.size,
                pack_size=seek_table.pack_size,
                pack_notes=seek_table.pack_notes,
            )
        )
    in_order = entry_names(options.prefetch)
    return IndexedPlatforms(
        tuple(results),
        tuple(indexes),
        tuple(path for path in in_order if path in (missing or ())),
        tuple(table.data for table in seek_tables if table.data is not None),
    )


@dataclass(frozen=True, slots=True)
class _SeekTable:
    """A seek manifest that is not stored yet, or why there is none."""

    data: bytes | None = None
    problem: str | None = None
    size: int = 0
    pack_size: int = 0
    pack_notes: tuple[str, ...] = ()

    @property
    def descriptor(self) -> Descriptor | None:
        return None if self.data is None else Descriptor.of(self.data, OCI_MANIFEST)


def _seek_table(
    source: Source,
    sink: Sink,
    image: PlatformImage,
    *,
    version: int,
    outcomes: Mapping[LayerKey, LayerOutcome],
    options: IndexingOptions,
) -> _SeekTable:
    """Build the seek table of an image and store its blobs."""
    if not options.seek:
        return _SeekTable()
    parts, blobs = [], []
    for layer in _layers(image):
        outcome = outcomes[layer_key(layer)]
        if outcome.seek is None or outcome.result.seek_blob is None:
            return _SeekTable(problem=f"layer {layer.digest}: {outcome.seek_problem}")
        parts.append(outcome.seek)
        blobs.append(outcome.result.seek_blob)
    try:
        table = make_seek_table(parts)
    except SeekTableError as error:
        return _SeekTable(problem=error.message)
    root = root_descriptor(table.root)
    pack = MadePack()
    if options.pack is not None:
        pack = make_pack(
            source,
            sink,
            image,
            options.pack,
            table=table,
            layers=parts,
            descriptors=_layers(image),
        )
    manifest = SeekManifest(
        root, table.file_list_descriptor, tuple(blobs), pack_index=pack.index, pack=pack.frames
    )
    sink.put_blob(table.root, media_type=SEEK_ROOT)
    sink.put_blob(table.file_list, media_type=SEEK_FILE_LIST)
    data = manifest.to_json(subject=image.descriptor if version == 1 else None)
    return _SeekTable(data, size=manifest.size, pack_size=manifest.pack_size, pack_notes=pack.notes)


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
    source: Source, outcomes: Sequence[LayerOutcome], options: IndexingOptions
) -> UnsupportedError:
    skipped = [outcome.result for outcome in outcomes]
    if not skipped:
        return UnsupportedError(f"{source.name}: nothing to index: the image has no layers")
    subject = f"all {len(skipped)} layers are" if len(skipped) > 1 else "the only layer is"
    reasons = sorted({outcome.result.skipped or outcome.seek_problem or "" for outcome in outcomes})
    has_small = any(result.layer.size < options.min_layer_size for result in skipped)
    return UnsupportedError(
        f"{source.name}: nothing to index: {subject} skipped: {', '.join(reasons[:3])}",
        hint=_INDEX_SMALL if has_small else None,
    )
