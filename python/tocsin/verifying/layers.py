"""Checks all layers that have a zTOC, several at once; each is read once, or only sampled.

All zTOCs of a layer are checked in the same pass, whichever index or platform lists them. Nothing
is written to disk.
"""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.layers.indexer import IndexedLayerBytes, LayerPass
from tocsin.layers.seek_table import SeekBlob, SeekParts
from tocsin.layers.zstd import unpack_zstd
from tocsin.layers.ztoc import Ztoc
from tocsin.model.events import LayerAdvanced, LayerFinished, LayerStarted, Planned
from tocsin.model.finding import Finding
from tocsin.model.media_types import Compression, layer_type
from tocsin.model.soci_index import MAX_ZTOC_SIZE
from tocsin.quoting import shown
from tocsin.stores.base import read_blob
from tocsin.stores.window import PIECE_SIZE
from tocsin.verifying.acceptance import early_spans, refusals
from tocsin.verifying.difference import differences
from tocsin.verifying.sample import check_spans, sample
from tocsin.verifying.seek import check_layers
from tocsin.verifying.seek_sample import sample_layer
from tocsin.verifying.unreadable import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.events import Event, Progress
    from tocsin.stores.base import Source
    from tocsin.verifying.seek import SeekLayerCheck

Blob = tuple[str, int]
"""Digest and size; descriptors with equal values refer to the same blob."""

_MAX_HAZARDS_SHOWN = 3


def blob_of(descriptor: Descriptor) -> Blob:
    """Return the identity of the blob that a descriptor refers to."""
    return str(descriptor.digest), descriptor.size


@dataclass(slots=True)
class ZtocCheck:
    """The result of checking one zTOC.

    Attributes:
        findings: findings about the zTOC.
        span_count: number of spans; 0 if the zTOC cannot be read.
        span_size: span size stored in the zTOC.
        needs_xattrs: whether the layer must be mounted with extended attributes.
        readable: whether the zTOC could be read, so that the values above are known.
        checked_spans: number of spans compared with the layer.
    """

    findings: list[Finding] = field(default_factory=list)
    span_count: int = 0
    span_size: int = 0
    needs_xattrs: bool = False
    readable: bool = False
    checked_spans: int = 0


@dataclass(slots=True)
class LayerCheck:
    """The result of checking one layer.

    Attributes:
        layer: descriptor in the manifest.
        ztocs: results for the layer's zTOCs.
        findings: findings about the layer itself.
        diff_id: digest of the uncompressed layer; ``None`` if it was not read in full.
        seek: results for the layer's parts of seek tables.
        seek_parts: what seek tables need of the layer, by span size; empty if it was not read in
            full.
    """

    layer: Descriptor
    ztocs: dict[Blob, ZtocCheck] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    diff_id: str | None = None
    seek: list[SeekLayerCheck] = field(default_factory=list)
    seek_parts: dict[int, SeekParts] = field(default_factory=dict, repr=False)

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """The findings of the layer, of its zTOCs and of its parts of seek tables."""
        of_ztocs = (found for check in self.ztocs.values() for found in check.findings)
        of_seek = (found for check in self.seek for found in check.findings)
        return (*self.findings, *of_ztocs, *of_seek)


@dataclass(frozen=True, slots=True)
class LayerWork:
    """A layer to check, and its zTOCs.

    Attributes:
        layer: descriptor in the manifest.
        ztocs: descriptors of the zTOCs that SOCI indexes list for the layer.
        seek: the layer's parts of seek tables, which receive their findings.
    """

    layer: Descriptor
    ztocs: dict[Blob, Descriptor] = field(default_factory=dict)
    seek: list[SeekLayerCheck] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Loaded:
    blob: bytes
    ztoc: Ztoc
    check: ZtocCheck


class _CancelledError(Exception):
    """An error in another layer or the user stopped the run; this exception is never reported."""


class LayerChecks:
    """Compares layers with their zTOCs and seek tables."""

    def __init__(
        self,
        store: Source,
        *,
        jobs: int,
        threads: int,
        seed: int | None,
        progress: Progress | None,
    ) -> None:
        """Prepare a run.

        Args:
            store: source of layers and zTOCs.
            jobs: number of layers read at once.
            threads: number of CPU threads shared by all layers.
            seed: seed of the sample; ``None`` to read whole layers.
            progress: called with progress events.
        """
        self._store = store
        self._jobs = jobs
        self._threads = threads
        self._seed = seed
        self._progress = progress
        self._progress_lock = threading.Lock()
        self._cancelled = threading.Event()
        self._shares: processors.Shares[Blob] = self._shares_of(())

    def run(self, work: Iterable[LayerWork]) -> dict[Blob, LayerCheck]:
        """Check layers; all threads have ended when this returns or raises.

        Raises:
            RegistryError: a registry rejected a request or could not be reached.
            OSError: a local file cannot be read.
        """
        # Largest first, so that no large layer starts when all others are done.
        ordered = sorted(work, key=lambda one: -one.layer.size)
        self._shares = self._shares_of(ordered)
        self._report(Planned(tuple(one.layer for one in ordered)))
        reason: BaseException | None = None
        checks: dict[Blob, LayerCheck] = {}
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="verify") as pool:
            futures = [pool.submit(self._check, one) for one in ordered]
            try:
                for future in as_completed(futures):
                    try:
                        check = future.result()
                    except _CancelledError:
                        continue
                    except Exception as error:
                        reason = reason or error
                        self._stop(pool)
                        continue
                    checks[blob_of(check.layer)] = check
            except BaseException:
                self._stop(pool)
                raise
        if reason is not None:
            raise reason
        return checks

    def _shares_of(self, work: Iterable[LayerWork]) -> processors.Shares[Blob]:
        return processors.Shares(
            self._threads,
            jobs=self._jobs,
            sizes={blob_of(one.layer): one.layer.size for one in work},
        )

    def _stop(self, pool: ThreadPoolExecutor) -> None:
        self._cancelled.set()
        self._shares.stop()
        pool.shutdown(wait=False, cancel_futures=True)

    def _report(self, event: Event) -> None:
        if self._progress is not None:
            with self._progress_lock:
                self._check_cancelled()
                self._progress(event)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError

    def _check(self, work: LayerWork) -> LayerCheck:
        key = blob_of(work.layer)
        # Sampling is limited by the network, so these layers do not wait for threads.
        threads = self._shares.take(key) if self._seed is None else 1
        try:
            return self._find(work, threads)
        finally:
            self._shares.done(key)

    def _find(self, work: LayerWork, threads: int) -> LayerCheck:
        started = time.monotonic()
        self._check_cancelled()
        self._report(LayerStarted(work.layer))
        check = LayerCheck(work.layer, seek=work.seek)
        loaded = []
        for key, descriptor in work.ztocs.items():
            check.ztocs[key] = ZtocCheck()
            found = self._load(work.layer, descriptor, check.ztocs[key])
            if found is not None:
                loaded.append(found)
        if self._seed is None and not loaded and _is_zstd(work.layer):
            self._read_zstd(check, threads)
        elif self._seed is None:
            self._read_whole(check, loaded, threads)
        else:
            self._read_sample(check, loaded, self._seed)
        seconds = time.monotonic() - started
        self._report(LayerFinished(work.layer, seconds, findings=check.all_findings))
        return check

    def _load(self, layer: Descriptor, descriptor: Descriptor, check: ZtocCheck) -> _Loaded | None:
        try:
            blob = read_blob(self._store, descriptor, max_size=MAX_ZTOC_SIZE)
            ztoc = Ztoc.from_bytes(blob)
        except (NotFoundError, VerificationError, FormatError) as error:
            check.findings.append(unreadable(error, "ztoc", str(descriptor.digest)))
            return None
        check.span_count, check.span_size = ztoc.span_count, ztoc.span_size
        check.needs_xattrs, check.readable = ztoc.needs_xattrs, True
        if ztoc.compressed_archive_size != layer.size:
            check.findings.append(
                Finding(
                    "ztoc.layer_size",
                    f"ztoc {descriptor.digest}: built for a layer of "
                    f"{ztoc.compressed_archive_size} bytes, but layer {layer.digest} has "
                    f"{layer.size}",
                    expected=str(layer.size),
                    actual=str(ztoc.compressed_archive_size),
                )
            )
        check.findings += refusals(ztoc)
        return _Loaded(blob, ztoc, check)

    # Whole layers

    def _read_whole(self, check: LayerCheck, loaded: Sequence[_Loaded], threads: int) -> None:
        passes = _passes(loaded, check.seek, threads)
        try:
            refused = self._push(check.layer, tuple(passes.values()))
            with self._shares.turn:
                made = None if refused else {key: one.finish() for key, one in passes.items()}
        except (NotFoundError, VerificationError) as error:
            check.findings.append(unreadable(error, "layer", str(check.layer.digest)))
            return
        except (FormatError, UnsupportedError) as error:
            made, refused = None, error.message
        if made is None:
            self._explain(check, loaded, problem=refused)
            return
        first = next(iter(made.values()))
        check.diff_id = first.diff_id
        if first.digest != str(check.layer.digest):
            self._explain(check, loaded)
            return
        for one in loaded:
            self._compare(check.layer, one, made[_settings(one.ztoc)])
        for found in made.values():
            if found.seek is not None:
                parts = SeekParts(found.ztoc, found.seek, found.digest)
                check.seek_parts[found.seek.span_size] = parts
        self._compare_seek(check)

    def _read_zstd(self, check: LayerCheck, threads: int) -> None:
        """Read a zstd layer, which has no zTOC and no checkpoints, but entries in file lists."""
        layer = check.layer
        one = LayerPass(format="uncompressed", diff_id=True, threads=threads, for_reading=True)
        try:
            for piece in unpack_zstd(self._pieces(layer)):
                with self._shares.turn:
                    one.push(piece)
            found = one.finish()
        except (NotFoundError, VerificationError) as error:
            check.findings.append(unreadable(error, "layer", str(layer.digest)))
            return
        except (FormatError, UnsupportedError) as error:
            self._explain(check, (), problem=error.message)
            return
        check.diff_id = found.diff_id
        for span_size in {part.span_size for part in check.seek}:
            seek = SeekBlob.of_whole_layer(
                "zstd", size=layer.size, uncompressed_size=found.size, span_size=span_size
            )
            check.seek_parts[span_size] = SeekParts(found.ztoc, seek, str(layer.digest))
        self._compare_seek(check)

    def _pieces(self, layer: Descriptor) -> Iterator[bytes]:
        done = 0
        for piece in self._store.blob(layer):
            self._check_cancelled()
            yield piece
            done += len(piece)
            self._report(LayerAdvanced(layer, done))

    def _compare_seek(self, check: LayerCheck) -> None:
        layer = check.layer

        def compressed_bytes(start: int, end: int) -> bytes:
            return b"".join(self._range(layer, start, end))

        check_layers(self._store, check.seek, check.seek_parts, compressed_bytes)

    def _push(self, layer: Descriptor, passes: Sequence[LayerPass]) -> str | None:
        """Feed a layer to all passes; return the error message if one of them fails."""
        done = 0
        for piece in self._store.blob(layer, verify=False):
            self._check_cancelled()
            try:
                with self._shares.turn:
                    for one in passes:
                        one.push(piece)
            except (FormatError, UnsupportedError) as error:
                return error.message
            done += len(piece)
            self._report(LayerAdvanced(layer, done))
        return None

    def _compare(self, layer: Descriptor, one: _Loaded, made: IndexedLayerBytes) -> None:
        one.check.checked_spans = one.ztoc.span_count
        if one.ztoc.compressed_archive_size == layer.size:
            one.check.findings += differences(
                one.blob, one.ztoc, made.ztoc, lambda *range_: self._range(layer, *range_)
            )
        if any(finding.kind == "ztoc.refused" for finding in one.check.findings):
            return
        # Hazards are visible only in the layer: headers that a TOC entry cannot represent exactly.
        for hazard in made.hazards[:_MAX_HAZARDS_SHOWN]:
            name = made.ztoc.entries[hazard.entry_index].name
            message = (
                f"ztoc {one.ztoc.digest}: soci-snapshotter fails on {shown(name)}: {hazard.reason}"
            )
            one.check.findings.append(Finding("ztoc.refused", message))

    def _range(self, layer: Descriptor, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, PIECE_SIZE):
            self._check_cancelled()
            yield self._store.blob_range(layer, at, min(at + PIECE_SIZE, end))

    def _explain(
        self, check: LayerCheck, loaded: Sequence[_Loaded], *, problem: str | None = None
    ) -> None:
        """Report whether a layer is damaged, and where, or only cannot be indexed.

        This reads the layer again, because a failing pass stops before the digest is known.
        """
        layer = check.layer
        try:
            for _ in self._store.blob(layer):
                self._check_cancelled()
        except (NotFoundError, VerificationError) as error:
            finding = unreadable(error, "layer", str(layer.digest))
            check.findings.append(self._damage(finding, layer, loaded))
            return
        if problem is None:
            message = "digest did not match when the layer was first read, but did the second time"
        else:
            message = f"cannot be indexed: {problem}"
        check.findings.append(Finding("layer.format", f"layer {layer.digest}: {message}"))

    def _damage(self, finding: Finding, layer: Descriptor, loaded: Sequence[_Loaded]) -> Finding:
        """Add the first span that does not match the zTOC to a finding about a layer's digest."""
        if finding.kind != "layer.digest":
            return finding
        fitting = [one for one in loaded if one.ztoc.compressed_archive_size == layer.size]
        for one in fitting[:1]:
            for span_id, expected in enumerate(one.ztoc.spans["sha256"].tolist()):
                start, end = one.ztoc.span_range(span_id)
                hasher = hashlib.sha256()
                for piece in self._range(layer, start, end):
                    hasher.update(piece)
                if hasher.digest() != expected:
                    place = (
                        f"; the first span that differs from ztoc {one.ztoc.digest} is span "
                        f"{span_id} (compressed bytes {start} to {end})"
                    )
                    return replace(finding, message=finding.message + place)
        return finding

    # A sample

    def _read_sample(self, check: LayerCheck, loaded: Sequence[_Loaded], seed: int) -> None:
        layer = check.layer
        done = 0

        def fetch(start: int, end: int) -> bytes:
            nonlocal done
            self._check_cancelled()
            data = self._store.blob_range(layer, start, end)
            done = min(done + len(data), layer.size)
            self._report(LayerAdvanced(layer, done))
            return data

        if not self._store.has_blob(layer):
            check.findings.append(
                Finding(
                    "layer.missing",
                    f"layer {layer.digest}: missing, or its size is not {layer.size} bytes",
                )
            )
            return
        for one in loaded:
            if one.ztoc.compressed_archive_size != layer.size:
                continue
            span_ids = sample(one.ztoc.span_count, seed=seed, name=str(layer.digest))
            try:
                one.check.findings += check_spans(one.ztoc, span_ids, fetch)
            except (NotFoundError, VerificationError) as error:
                check.findings.append(unreadable(error, "layer", str(layer.digest)))
                return
            one.check.checked_spans = len(span_ids)
        for part in check.seek:
            span_ids = sample(part.span_count, seed=seed, name=str(layer.digest))
            try:
                sample_layer(self._store, part, span_ids, fetch)
            except (NotFoundError, VerificationError) as error:
                check.findings.append(unreadable(error, "layer", str(layer.digest)))
                return


def _is_zstd(layer: Descriptor) -> bool:
    kind = layer_type(layer.media_type)
    return kind is not None and kind.compression is Compression.ZSTD


def _passes(
    loaded: Sequence[_Loaded], seek: Sequence[SeekLayerCheck], threads: int
) -> dict[tuple[object, ...], LayerPass]:
    """Return the passes that rebuild what is to be compared, as few as possible."""
    models = {_settings(one.ztoc): one.ztoc for one in loaded}
    span_sizes: list[int | None] = sorted({one.span_size for one in seek})  # type: ignore[assignment]  # no None yet
    each = max(1, threads // max(1, len(models), len(span_sizes)))
    passes: dict[tuple[object, ...], LayerPass] = {}
    for key, ztoc in models.items():
        passes[key] = _pass_like(ztoc, each, span_sizes.pop() if span_sizes else None)
    # With nothing to compare, the layer is still checked against the manifest.
    for span_size in span_sizes or ([] if passes else [None]):
        passes[span_size,] = LayerPass(
            diff_id=True, threads=each, for_reading=True, seek_span_size=span_size
        )
    return passes


def _settings(ztoc: Ztoc) -> tuple[object, ...]:
    return ztoc.span_size, ztoc.build_tool_identifier, _keeps_early_checkpoints(ztoc)


def _pass_like(ztoc: Ztoc, threads: int, seek_span_size: int | None) -> LayerPass:
    """Return a pass with the settings that `ztoc` was built with."""
    return LayerPass(
        span_size=ztoc.span_size,
        reference_identical=_keeps_early_checkpoints(ztoc),
        diff_id=True,
        build_tool_identifier=ztoc.build_tool_identifier,
        threads=threads,
        seek_span_size=seek_span_size,
    )


def _keeps_early_checkpoints(ztoc: Ztoc) -> bool:
    """Return whether there are several checkpoints before the first output.

    The reference writes all of them, though soci-snapshotter rejects such zTOCs. By default, tocsin
    keeps only the last one.
    """
    return len(early_spans(ztoc)) > 0
