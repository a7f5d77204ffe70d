"""The results of ``verify``.

Everything the command line prints comes from here, so that scripts have it too.
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
    """Return a finding that readers may stumble over."""
    return Finding(kind, message, Severity.WARNING)


def note(kind: str, message: str) -> Finding:
    """Return a finding that harms nobody."""
    return Finding(kind, message, Severity.NOTE)


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """What is true of one layer's zTOC.

    Attributes:
        layer: as in the image's manifest.
        ztoc: as the SOCI index lists it; ``None`` when the index has none for the layer, which is
            then not looked at.
        span_count: spans the zTOC has; 0 when it cannot be read.
        checked_spans: spans that were compared with the layer: all of them, or the sample.
        findings: none if all is well.
    """

    layer: Descriptor
    ztoc: Descriptor | None = None
    span_count: int = 0
    checked_spans: int = 0
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a layer."""
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
        """Whether there is no error."""
        return not has_errors(self.findings)


@dataclass(frozen=True, slots=True)
class IndexVerdict:
    """What is true of one SOCI index.

    Attributes:
        version: 2 when the image's manifest names it, 1 when it refers to the manifest.
        digest: of it.
        descriptor: ``None`` when it is not there.
        findings: about the index itself and its links.
        layers: one for each layer of the image, from the lowest up.
    """

    version: int
    digest: Digest
    descriptor: Descriptor | None = None
    findings: tuple[Finding, ...] = ()
    layers: tuple[LayerVerdict, ...] = ()

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a SOCI index."""
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
        """Its own and those of its layers."""
        return (*self.findings, *(found for layer in self.layers for found in layer.findings))

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not has_errors(self.all_findings)


@dataclass(frozen=True, slots=True)
class PlatformVerdict:
    """What is true of one platform's image.

    Attributes:
        platform: as asked for, else as the image says; ``None`` when it says none.
        manifest: of the image.
        findings: about the image's manifest and config.
        soci_indexes: those that belong to it, in the order a reader tries them.
    """

    platform: Platform | None
    manifest: Descriptor
    findings: tuple[Finding, ...] = ()
    soci_indexes: tuple[IndexVerdict, ...] = ()

    def to_dict(self) -> Document:
        """Return what ``--json`` prints of a platform."""
        return {
            "platform": text_of(self.platform),
            "manifest": self.manifest.to_dict(),
            "ok": self.ok,
            "findings": _documents(self.findings),
            "soci_indexes": [index.to_dict() for index in self.soci_indexes],
        }

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Its own and those of its indexes."""
        below = (found for index in self.soci_indexes for found in index.all_findings)
        return (*self.findings, *below)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not has_errors(self.all_findings)


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What ``verify`` found.

    Attributes:
        image: as a reference.
        manifest: the image's manifest or image index.
        findings: about the image index.
        platforms: one for each image verified.
        seed: of the random sample; ``None`` when whole layers were read.
        seconds: wall time of the whole.
    """

    image: str
    manifest: Descriptor
    findings: tuple[Finding, ...]
    platforms: tuple[PlatformVerdict, ...]
    seed: int | None
    seconds: float

    def to_dict(self) -> Document:
        """Return what ``tocsin verify --json`` prints."""
        # What platforms and indexes share counts once.
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
        """Every finding; what two indexes or platforms share is there for each."""
        below = (found for platform in self.platforms for found in platform.all_findings)
        return (*self.findings, *below)

    @property
    def ok(self) -> bool:
        """Whether there is no error: everything the indexes say is true."""
        return not has_errors(self.all_findings)

    @property
    def layers(self) -> Iterator[LayerVerdict]:
        """Every verdict on a layer."""
        return (
            layer
            for platform in self.platforms
            for index in platform.soci_indexes
            for layer in index.layers
        )


def _documents(findings: tuple[Finding, ...]) -> list[Document]:
    return [finding.to_dict() for finding in findings]


def has_errors(findings: tuple[Finding, ...]) -> bool:
    """Return whether one of `findings` is an error."""
    return any(found.severity is Severity.ERROR for found in findings)
