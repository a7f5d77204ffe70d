"""``verify``: checks that the SOCI indexes and seek tables of an image match the image.

A snapshotter that mounts an image lazily trusts the zTOCs: a wrong window or offset makes it return
wrong file contents. So ``verify`` reads each layer, rebuilds its zTOC and compares the two. In
quick mode, it checks a random sample of spans. Seek tables are checked in the same pass.

Source: docs/seek-table.md#parts; docs/format.md#the-soci-index;
docs/format.md#how-an-index-is-found; docs/format.md#acceptance-rules.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.images.selection import platform_images, resolve_image
from tocsin.model.finding import Finding
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.platform import platforms_of
from tocsin.model.prefetch import PrefetchArtifact
from tocsin.model.soci_index import DISABLE_XATTRS, IMAGE_LAYER_DIGEST, PREFETCH, SPAN_SIZE
from tocsin.quoting import shown
from tocsin.stores.base import read_blob
from tocsin.stores.opening import open_source
from tocsin.stores.places import reference_of
from tocsin.verifying.findings import (
    IndexVerdict,
    LayerVerdict,
    PlatformVerdict,
    SeekLayerVerdict,
    SeekTableVerdict,
    VerifyResult,
    note,
    warning,
)
from tocsin.verifying.layers import LayerChecks, LayerWork, ZtocCheck, blob_of
from tocsin.verifying.links import entries_of, link, stray_entries
from tocsin.verifying.pack import check_pack, sample_pack
from tocsin.verifying.seek import add_positions, check_list, stray_seek_entries
from tocsin.verifying.seek_sample import sample_list
from tocsin.verifying.unreadable import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tocsin.layers.seek_table import SeekParts
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.events import Progress
    from tocsin.model.platform import Platform
    from tocsin.model.reference import ReferenceLike
    from tocsin.model.soci_index import SociIndex
    from tocsin.stores.base import Source
    from tocsin.stores.registry import RegistryOptions
    from tocsin.verifying.layers import Blob, LayerCheck
    from tocsin.verifying.links import LinkedImage, LinkedIndex
    from tocsin.verifying.seek import SeekTableCheck

_SEED_BITS = 32


def verify(
    image: ReferenceLike,
    *,
    platforms: str | Platform | Iterable[str | Platform] | None = None,
    quick: bool = False,
    seed: int | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    registry: RegistryOptions | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """Verify all SOCI indexes and seek tables of an image against the image.

    Anything wrong, missing or rejected by readers is reported as a finding in the result; it does
    not raise an exception.

    Args:
        image: reference such as ``oci:some/dir:tag``.
        platforms: one or several platforms to verify; ``None`` for all.
        quick: check a random sample of each layer's spans instead of whole layers. Diff IDs and
            layer digests are not checked then.
        seed: seed of the sample, to repeat a previous run; implies `quick`. ``None`` for a new one.
        jobs: number of layers read at once; ``None`` for one per CPU, at most 4.
        threads: number of CPU threads shared by all layers; ``None`` for all available CPUs.
        registry: options for access to a registry.
        progress: called with progress events, see `Progress`.

    Raises:
        NotFoundError: the image or platform does not exist, or the image has no SOCI index
            and no seek table.
        VerificationError: the image's manifest does not match its digest.
        FormatError: the reference does not refer to an image.
        RegistryError: the registry rejected a request or could not be reached; `AuthError` if
            credentials are missing or insufficient.
        OSError: a local file cannot be read.
    """
    started = time.monotonic()
    threads = processors.resolve_threads(threads)
    reference = reference_of(image)
    requested = None if platforms is None else platforms_of(platforms)
    if quick and seed is None:
        seed = secrets.randbits(_SEED_BITS)
    with open_source(reference, registry=registry) as store:
        target = resolve_image(store, reference.selector)
        entries = entries_of(store, target)
        linked = [link(store, one, entries) for one in platform_images(store, target, requested)]
        if not any(one.indexes or one.seek_tables or one.findings for one in linked):
            raise NotFoundError(
                f"{reference}: has no SOCI index or seek table, nothing to verify",
                hint="Create an index with tocsin create or tocsin convert.",
            )
        for table in _seek_tables(linked):
            add_positions(store, table)
        checks = LayerChecks(
            store,
            jobs=jobs or processors.default_jobs(),
            threads=threads,
            seed=seed,
            progress=progress,
        )
        done = checks.run(_work(linked))
        for table in _seek_tables(linked):
            if seed is None:
                parts = _seek_parts(table, done)
                check_list(store, table, parts)
                check_pack(store, table, parts)
            else:
                sample_list(store, table, seed=seed)
                sample_pack(store, table, seed=seed)
        verdicts = tuple(_platform_verdict(store, one, done) for one in linked)
        strays = (
            *stray_entries(store, entries, linked),
            *stray_seek_entries(store, entries, _seek_tables(linked)),
        )
    return VerifyResult(
        image=str(reference),
        manifest=target,
        findings=strays,
        platforms=verdicts,
        seed=seed,
        seconds=time.monotonic() - started,
    )


def _work(linked: Iterable[LinkedImage]) -> list[LayerWork]:
    """Return the layers to check, without duplicates, each with all its zTOCs and seek blobs."""
    work: dict[Blob, LayerWork] = {}
    for one in linked:
        for index in one.indexes:
            for layer in one.image.manifest.layers or ():
                for ztoc in _ztocs_of(index.soci_index, layer):
                    found = work.setdefault(blob_of(layer), LayerWork(layer))
                    found.ztocs[blob_of(ztoc)] = ztoc
        for table in one.seek_tables:
            for part in table.layers:
                work.setdefault(blob_of(part.layer), LayerWork(part.layer)).seek.append(part)
    return list(work.values())


def _seek_tables(linked: Iterable[LinkedImage]) -> list[SeekTableCheck]:
    return [table for one in linked for table in one.seek_tables]


def _seek_parts(table: SeekTableCheck, done: Mapping[Blob, LayerCheck]) -> list[SeekParts | None]:
    """Return what each layer gave for a seek table; ``None`` for those that cannot be read."""
    return [done[blob_of(part.layer)].seek_parts.get(part.span_size) for part in table.layers]


def _ztocs_of(soci_index: SociIndex | None, layer: Descriptor) -> list[Descriptor]:
    """Return the zTOCs that an index lists for a layer, without duplicates."""
    if soci_index is None:
        return []
    listed = {
        blob_of(entry): entry
        for entry in soci_index.layers
        if entry.media_type != PREFETCH
        and entry.annotations.get(IMAGE_LAYER_DIGEST) == str(layer.digest)
    }
    return list(listed.values())


def _platform_verdict(
    store: Source, one: LinkedImage, done: Mapping[Blob, LayerCheck]
) -> PlatformVerdict:
    findings = list(one.findings)
    if not one.indexes and not one.seek_tables and not findings:
        findings.append(
            note(
                "index.none",
                f"manifest {one.image.descriptor.digest}: has no SOCI index or seek table",
            )
        )
    return PlatformVerdict(
        one.image.platform,
        one.image.descriptor,
        tuple(findings),
        tuple(_index_verdict(store, one, index, done) for index in one.indexes),
        tuple(_seek_verdict(one, table, done) for table in one.seek_tables),
    )


def _seek_verdict(
    one: LinkedImage, table: SeekTableCheck, done: Mapping[Blob, LayerCheck]
) -> SeekTableVerdict:
    layers = []
    for part in table.layers:
        check = done[blob_of(part.layer)]
        findings = (*check.findings, *_diff_id(one, part.number, check), *part.findings)
        layers.append(
            SeekLayerVerdict(part.layer, part.blob, part.span_count, part.checked_spans, findings)
        )
    contents = table.contents
    return SeekTableVerdict(
        table.digest,
        table.is_bound,
        None if contents is None else contents.span_size,
        None if contents is None else contents.entry_count,
        table.checked_entries,
        table.frame_count,
        table.checked_frames,
        tuple(table.findings),
        tuple(layers),
    )


def _index_verdict(
    store: Source, one: LinkedImage, index: LinkedIndex, done: Mapping[Blob, LayerCheck]
) -> IndexVerdict:
    layers = []
    span_counts: dict[Digest, int] = {}
    for position, layer in enumerate(one.image.manifest.layers or ()):
        ztocs = _ztocs_of(index.soci_index, layer)
        if not ztocs:
            layers.append(LayerVerdict(layer))
            continue
        check = done[blob_of(layer)]
        own = [*check.findings, *_diff_id(one, position, check)]
        for ztoc in ztocs:
            found = check.ztocs[blob_of(ztoc)]
            if found.readable:
                span_counts[layer.digest] = found.span_count
            findings = (*own, *found.findings, *_annotations(ztoc, found))
            layers.append(
                LayerVerdict(layer, ztoc, found.span_count, found.checked_spans, findings)
            )
    prefetches = index.soci_index.prefetches if index.soci_index else ()
    artifacts = (f for entry in prefetches for f in _prefetch(store, entry, span_counts))
    return IndexVerdict(
        index.version,
        index.digest,
        index.descriptor,
        (*index.findings, *artifacts),
        tuple(layers),
    )


def _diff_id(one: LinkedImage, position: int, check: LayerCheck) -> Iterator[Finding]:
    # If the layer itself is damaged, its diff ID is meaningless.
    if one.diff_ids is None or check.diff_id is None or check.findings:
        return
    listed = str(one.diff_ids[position])
    if check.diff_id != listed:
        yield Finding(
            "layer.diff_id",
            f"layer {check.layer.digest}: diff ID is {check.diff_id}, but {listed} in config "
            f"{one.image.manifest.config.digest}",
            expected=check.diff_id,
            actual=listed,
        )


def _annotations(entry: Descriptor, found: ZtocCheck) -> Iterator[Finding]:
    """Check the annotations of a zTOC in an index against the zTOC itself."""
    if not found.readable:
        return
    listed = entry.annotations.get(SPAN_SIZE)
    if listed is None:
        yield warning("ztoc.span_size", f"ztoc {entry.digest}: span size is missing from the index")
    elif listed != str(found.span_size):
        yield Finding(
            "ztoc.span_size",
            f"ztoc {entry.digest}: span size is {found.span_size}, but {shown(listed, limit=40)} "
            "in the index",
            expected=str(found.span_size),
            actual=listed,
        )
    if entry.annotations.get(DISABLE_XATTRS) == "true" and found.needs_xattrs:
        yield Finding(
            "ztoc.xattrs",
            f"ztoc {entry.digest}: the index disables extended attributes, but the layer has some",
        )


def _prefetch(
    store: Source, entry: Descriptor, span_counts: Mapping[Digest, int]
) -> Iterator[Finding]:
    try:
        artifact = PrefetchArtifact.from_json(read_blob(store, entry, max_size=MAX_SIZE))
    except (FormatError, NotFoundError, UnsupportedError, VerificationError) as error:
        yield unreadable(error, "prefetch", str(entry.digest))
        return
    counts = {str(layer): count for layer, count in span_counts.items()}
    count = counts.get(entry.annotations.get(IMAGE_LAYER_DIGEST, ""))
    last = max((found.end_span for found in artifact.ranges), default=-1)
    if count is not None and last >= count:
        yield Finding(
            "prefetch.span",
            f"prefetch {entry.digest}: span {last} does not exist, the last span of the layer is "
            f"{count - 1}",
            expected=str(count - 1),
            actual=str(last),
        )
