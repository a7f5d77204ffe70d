"""``verify``: proves that the SOCI indexes of an image tell the truth.

Who mounts an image trusts its zTOCs: a window or an offset that lies gives other files than the
image has. So each layer is read, its zTOC made anew, and the two compared; or, quickly, a random
sample of spans.

Source: docs/format.md#the-soci-index; docs/format.md#how-an-index-is-found;
docs/format.md#acceptance-rules.
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
    VerifyResult,
    note,
    warning,
)
from tocsin.verifying.layers import LayerChecks, LayerWork, ZtocCheck, blob_of, unreadable
from tocsin.verifying.links import entries_of, link, stray_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
    """Check that all SOCI indexes of an image say what is true of it.

    What is untrue, missing or refused by readers is a finding in the result, not an error.

    Args:
        image: such as ``oci:some/dir:tag``.
        platforms: which of its platforms, one or several; ``None`` for all.
        quick: read a random sample of each layer's spans, not whole layers. Diff ids and layer
            digests are then not checked.
        seed: of the sample, to repeat one; it implies `quick`. ``None`` for a new one.
        jobs: layers at once; as many as there are processors, at most 4, if ``None``.
        threads: processors that work on all layers together, and may on a single one; all that this
            process may use if ``None``.
        registry: how to reach a registry.
        progress: told what happens, see `Progress`.

    Raises:
        NotFoundError: no such image or platform, or it has no SOCI index at all.
        VerificationError: the image's own manifest is not what its digest says.
        FormatError: it is no image.
        RegistryError: the registry refused or could not be reached; `AuthError` if for want of a
            credential.
        OSError: the place cannot be read.
    """
    started = time.monotonic()
    threads = processors.resolve_threads(threads)
    reference = reference_of(image)
    asked = None if platforms is None else platforms_of(platforms)
    if quick and seed is None:
        seed = secrets.randbits(_SEED_BITS)
    with open_source(reference, registry=registry) as store:
        target = resolve_image(store, reference.selector)
        entries = entries_of(store, target)
        linked = [link(store, one, entries) for one in platform_images(store, target, asked)]
        if not any(one.indexes or one.findings for one in linked):
            raise NotFoundError(
                f"{reference}: has no SOCI index, there is nothing to verify",
                hint="Make one with tocsin create or tocsin convert.",
            )
        checks = LayerChecks(
            store,
            jobs=jobs or processors.default_jobs(),
            threads=threads,
            seed=seed,
            progress=progress,
        )
        done = checks.run(_work(linked))
        verdicts = tuple(_platform_verdict(store, one, done) for one in linked)
        strays = tuple(stray_entries(store, entries, linked))
    return VerifyResult(
        image=str(reference),
        manifest=target,
        findings=strays,
        platforms=verdicts,
        seed=seed,
        seconds=time.monotonic() - started,
    )


def _work(linked: Iterable[LinkedImage]) -> list[LayerWork]:
    """Return each layer that has a zTOC once, with all its zTOCs."""
    work: dict[Blob, LayerWork] = {}
    for one in linked:
        for index in one.indexes:
            for layer in one.image.manifest.layers or ():
                for ztoc in _ztocs_of(index.soci_index, layer):
                    found = work.setdefault(blob_of(layer), LayerWork(layer))
                    found.ztocs[blob_of(ztoc)] = ztoc
    return list(work.values())


def _ztocs_of(soci_index: SociIndex | None, layer: Descriptor) -> list[Descriptor]:
    """Return what an index lists for a layer, each once: a layer may occur twice."""
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
    if not one.indexes and not findings:
        findings.append(
            note("index.none", f"manifest {one.image.descriptor.digest}: has no SOCI index")
        )
    return PlatformVerdict(
        one.image.platform,
        one.image.descriptor,
        tuple(findings),
        tuple(_index_verdict(store, one, index, done) for index in one.indexes),
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
    # A layer whose bytes are not those of its digest has no diff id to speak of.
    if one.diff_ids is None or check.diff_id is None or check.findings:
        return
    wanted = str(one.diff_ids[position])
    if check.diff_id != wanted:
        yield Finding(
            "layer.diff_id",
            f"layer {check.layer.digest}: its diff id is {check.diff_id}, config "
            f"{one.image.manifest.config.digest} says {wanted}",
            expected=check.diff_id,
            actual=wanted,
        )


def _annotations(entry: Descriptor, found: ZtocCheck) -> Iterator[Finding]:
    """Check what an index says of a zTOC that only the zTOC can tell."""
    if not found.readable:
        return
    says = entry.annotations.get(SPAN_SIZE)
    if says is None:
        yield warning(
            "ztoc.span_size", f"ztoc {entry.digest}: the index does not say its span size"
        )
    elif says != str(found.span_size):
        yield Finding(
            "ztoc.span_size",
            f"ztoc {entry.digest}: the index says span size {shown(says, limit=40)}, it is "
            f"{found.span_size}",
            expected=str(found.span_size),
            actual=says,
        )
    if entry.annotations.get(DISABLE_XATTRS) == "true" and found.needs_xattrs:
        yield Finding(
            "ztoc.xattrs",
            f"ztoc {entry.digest}: the index lets its layer be mounted without extended "
            "attributes, which it has",
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
            f"prefetch {entry.digest}: names span {last}, the last of its layer is {count - 1}",
            expected=str(count - 1),
            actual=str(last),
        )
