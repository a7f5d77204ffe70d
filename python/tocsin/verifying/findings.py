"""The results of ``verify``.

They contain everything that the command line prints, so scripts need not parse its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.model.document import document_of, seconds_of, text_of
from tocsin.model.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.platform import Platform


def warning(kind: str, message: str) -> Finding:
    """Return a finding that may cause problems with some readers or registries."""
    return Finding(kind, message, Severity.WARNING)


def note(kind: str, message: str) -> Finding:
    """Return a harmless finding."""
    return Finding(kind, message, Severity.NOTE)


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """The result for one layer and its zTOC.

    Attributes:
        layer: descriptor in the image's manifest.
        ztoc: descriptor in the SOCI index; ``None`` if the index has no zTOC for the layer, which
            is then not checked.
        span_count: number of spans in the zTOC; 0 if it cannot be read.
        checked_spans: number of spans compared with the layer: all of them, or the sample.
        findings: empty if no problems were found.
    """

    layer: Descriptor
    ztoc: Descriptor | None = None
    span_count: int = 0
    checked_spans: int = 0
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> Document:
        """Return the layer as printed by ``--json``."""
        return {
            **self.layer.to_dict(),
            "ztoc": document_of(self.ztoc),
            "span_count": self.span_count,
            "checked_spans": self.checked_spans,
            "ok": self.ok,
            "findings": _documents(self.findings),
        }

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings and notes are allowed."""
        return not has_errors(self.findings)


@dataclass(frozen=True, slots=True)
class IndexVerdict:
    """The result for one SOCI index.

    Attributes:
        version: 2 if the image's manifest names the index, 1 if the index refers to the manifest.
        digest: digest of the index.
        descriptor: descriptor of the index; ``None`` if it is missing.
        findings: findings about the index and its links to the image.
        layers: one result per layer of the image, bottom layer first.
    """

    version: int
    digest: Digest
    descriptor: Descriptor | None = None
    findings: tuple[Finding, ...] = ()
    layers: tuple[LayerVerdict, ...] = ()

    def to_dict(self) -> Document:
        """Return the SOCI index as printed by ``--json``."""
        found = self.descriptor
        return {
            "digest": str(self.digest),
            "media_type": None if found is None else found.media_type,
            "size": None if found is None else found.size,
            "version": self.version,
            "ok": self.ok,
            "findings": _documents(self.findings),
            "layers": [layer.to_dict() for layer in self.layers],
        }

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """The findings of the index and of its layers."""
        return (*self.findings, *(found for layer in self.layers for found in layer.findings))

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings and notes are allowed."""
        return not has_errors(self.all_findings)


@dataclass(frozen=True, slots=True)
class SeekLayerVerdict:
    """The result for one layer in a seek table.

    Attributes:
        layer: descriptor in the image's manifest.
        seek_blob: descriptor in the seek table.
        span_count: number of spans; 0 for a layer that readers read in full.
        checked_spans: number of spans compared with the layer: all of them, or the sample.
        findings: empty if no problems were found.
    """

    layer: Descriptor
    seek_blob: Descriptor
    span_count: int = 0
    checked_spans: int = 0
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> Document:
        """Return the layer as printed by ``--json``."""
        return {
            **self.layer.to_dict(),
            "seek_blob": self.seek_blob.to_dict(),
            "span_count": self.span_count,
            "checked_spans": self.checked_spans,
            "ok": self.ok,
            "findings": _documents(self.findings),
        }

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings and notes are allowed."""
        return not has_errors(self.findings)


@dataclass(frozen=True, slots=True)
class SeekTableVerdict:
    """The result for one seek table.

    Attributes:
        digest: digest of its manifest.
        bound: whether the image's manifest names it; otherwise it refers to the manifest.
        span_size: uncompressed bytes between two checkpoints; ``None`` if it cannot be read.
        entry_count: number of entries in the file list; ``None`` if it cannot be read.
        checked_entries: number of entries compared with the layers: all of them, or the sample.
        pack_frames: number of frames in the pack; ``None`` without a pack that can be read.
        checked_frames: number of frames compared with the layers, all of them, or the sample.
        findings: findings about the table, its links to the image and its file list.
        layers: one result per layer of the image, bottom layer first; empty if it cannot be read.
    """

    digest: Digest
    bound: bool
    span_size: int | None = None
    entry_count: int | None = None
    checked_entries: int = 0
    pack_frames: int | None = None
    checked_frames: int = 0
    findings: tuple[Finding, ...] = ()
    layers: tuple[SeekLayerVerdict, ...] = ()

    def to_dict(self) -> Document:
        """Return the seek table as printed by ``--json``."""
        return {
            "digest": str(self.digest),
            "bound": self.bound,
            "span_size": self.span_size,
            "entry_count": self.entry_count,
            "checked_entries": self.checked_entries,
            "pack_frames": self.pack_frames,
            "checked_frames": self.checked_frames,
            "ok": self.ok,
            "findings": _documents(self.findings),
            "layers": [layer.to_dict() for layer in self.layers],
        }

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """The findings of the seek table and of its layers."""
        return (*self.findings, *(found for layer in self.layers for found in layer.findings))

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings and notes are allowed."""
        return not has_errors(self.all_findings)


@dataclass(frozen=True, slots=True)
class PlatformVerdict:
    """The result for one platform's image.

    Attributes:
        platform: platform as requested or, without a request, as in the image; ``None`` if
            unknown.
        manifest: descriptor of the image manifest.
        findings: findings about the image's manifest and config.
        soci_indexes: the SOCI indexes of the image, in the order in which readers try them.
        seek_tables: the seek tables of the image, in the order in which readers try them.
    """

    platform: Platform | None
    manifest: Descriptor
    findings: tuple[Finding, ...] = ()
    soci_indexes: tuple[IndexVerdict, ...] = ()
    seek_tables: tuple[SeekTableVerdict, ...] = ()

    def to_dict(self) -> Document:
        """Return the platform as printed by ``--json``."""
        return {
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "ok": self.ok,
            "findings": _documents(self.findings),
            "soci_indexes": [index.to_dict() for index in self.soci_indexes],
            "seek_tables": [table.to_dict() for table in self.seek_tables],
        }

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """The findings of the platform, of its indexes and of its seek tables."""
        of_indexes = (found for index in self.soci_indexes for found in index.all_findings)
        of_tables = (found for table in self.seek_tables for found in table.all_findings)
        return (*self.findings, *of_indexes, *of_tables)

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings and notes are allowed."""
        return not has_errors(self.all_findings)


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The result of ``verify``.

    Attributes:
        image: reference to the image.
        manifest: the image's manifest or image index.
        findings: findings about the image index.
        platforms: one result per platform verified.
        seed: seed of the random sample; ``None`` if whole layers were read.
        seconds: wall time of the run.
    """

    image: str
    manifest: Descriptor
    findings: tuple[Finding, ...]
    platforms: tuple[PlatformVerdict, ...]
    seed: int | None
    seconds: float

    def to_dict(self) -> Document:
        """Return the result as printed by ``tocsin verify --json``."""
        # Findings shared by several platforms or indexes count once.
        severities = [finding.severity for finding in dict.fromkeys(self.all_findings)]
        return {
            "image": self.image,
            "manifest": self.manifest.to_dict(),
            "ok": self.ok,
            "quick": self.quick,
            "seed": self.seed,
            "seconds": seconds_of(self.seconds),
            "errors": severities.count(Severity.ERROR),
            "warnings": severities.count(Severity.WARNING),
            "findings": _documents(self.findings),
            "platforms": [platform.to_dict() for platform in self.platforms],
        }

    @property
    def quick(self) -> bool:
        """Whether only a sample of each layer was read."""
        return self.seed is not None

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """All findings; those shared by several platforms or indexes are repeated."""
        below = (found for platform in self.platforms for found in platform.all_findings)
        return (*self.findings, *below)

    @property
    def ok(self) -> bool:
        """Whether there are no errors, which means that the indexes match the image."""
        return not has_errors(self.all_findings)

    @property
    def layers(self) -> Iterator[LayerVerdict]:
        """The results for all layers of all SOCI indexes."""
        return (
            layer
            for platform in self.platforms
            for index in platform.soci_indexes
            for layer in index.layers
        )


def _documents(findings: tuple[Finding, ...]) -> list[Document]:
    return [finding.to_dict() for finding in findings]


def has_errors(findings: tuple[Finding, ...]) -> bool:
    """Return whether any of `findings` is an error."""
    return any(found.severity is Severity.ERROR for found in findings)
