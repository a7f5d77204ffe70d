r"""What ``--json`` prints. Keys are stable: new ones may come, none goes or changes its meaning.

Sizes are bytes, times seconds, digests whole. A key without a value is ``null``, a list without
elements ``[]``; no key is left out. Names that are no UTF-8 hold lone surrogates (``\udc80`` to
``\udcff``, one a byte), as Python's ``surrogateescape`` makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tocsin.model.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.images.copy import CopyResult
    from tocsin.images.coverage import (
        ImageCoverage,
        ImageIndexes,
        LayerCoverage,
        PlatformCoverage,
    )
    from tocsin.images.soci_indexes import FoundIndex
    from tocsin.indexing.results import CreateResult, PlatformResult
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.file_metadata import FileMetadata
    from tocsin.model.finding import Finding
    from tocsin.model.layer_result import LayerResult
    from tocsin.model.platform import Platform
    from tocsin.reading.extract import ExtractResult
    from tocsin.reading.stat import FileStat
    from tocsin.stores.metering import Traffic
    from tocsin.verifying.findings import IndexVerdict, LayerVerdict, VerifyResult

Document = dict[str, Any]


def descriptor_document(descriptor: Descriptor | None) -> Document | None:
    """``media_type``, ``digest``, ``size``."""
    return None if descriptor is None else _described(descriptor)


def _described(descriptor: Descriptor) -> Document:
    return {
        "media_type": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def result_document(result: CreateResult) -> Document:
    """``source``, ``destination``, ``dry_run``, ``seconds``, ``traffic`` and so on."""
    return {
        "source": result.source,
        "destination": result.destination,
        "dry_run": result.dry_run,
        "seconds": round(result.seconds, 3),
        "traffic": _traffic(result.traffic),
        "missing_prefetch": list(result.missing_prefetch),
        "platforms": [_platform_result(platform) for platform in result.platforms],
    }


def _traffic(traffic: Traffic) -> Document:
    return {
        "read": traffic.read,
        "pushed": traffic.pushed,
        "ztocs": traffic.ztocs,
        "manifests": traffic.manifests,
        "blobs": traffic.blobs,
        "mounted": traffic.mounted,
    }


def copy_document(result: CopyResult) -> Document:
    """``source``, ``destination``, ``image``, ``soci_indexes``, ``seconds``, ``traffic``."""
    return {
        "source": result.source,
        "destination": result.destination,
        "image": descriptor_document(result.image),
        "soci_indexes": [_described(index) for index in result.soci_indexes],
        "seconds": round(result.seconds, 3),
        "traffic": _traffic(result.traffic),
    }


def indexes_document(image: str, found: ImageIndexes) -> Document:
    """``image``, ``manifest``, ``platforms``."""
    return {
        "image": image,
        "manifest": descriptor_document(found.image),
        "platforms": [
            {
                "platform": _platform(platform.platform),
                "manifest": descriptor_document(platform.manifest),
                "layer_count": platform.layer_count,
                "problem": platform.problem,
                "soci_indexes": [
                    {
                        **_found_index(index),
                        "ztoc_count": len(index.soci_index.ztocs) if index.soci_index else 0,
                        "ztoc_size": index.ztoc_size,
                    }
                    for index in platform.soci_indexes
                ],
            }
            for platform in found.platforms
        ],
    }


def _platform_result(result: PlatformResult) -> Document:
    return {
        "platform": _platform(result.platform),
        "manifest": descriptor_document(result.manifest),
        "soci_index": descriptor_document(result.soci_index),
        "layers": [_layer_result(layer) for layer in result.layers],
    }


def _layer_result(result: LayerResult) -> Document:
    return {
        **_described(result.layer),
        "ztoc": descriptor_document(result.ztoc),
        "skipped": result.skipped,
        "reused": result.reused,
        "notes": list(result.notes),
        "entry_count": result.entry_count,
        "span_count": result.span_count,
        "uncompressed_size": result.uncompressed_size,
        "seconds": round(result.seconds, 3),
    }


def coverage_document(image: str, coverage: ImageCoverage) -> Document:
    """``image``, ``manifest``, ``layer_size``, ``covered_size``, ``ztoc_size``, ``platforms``."""
    return {
        "image": image,
        "manifest": descriptor_document(coverage.image),
        "layer_size": coverage.layer_size,
        "covered_size": coverage.covered_size,
        "ztoc_size": coverage.ztoc_size,
        "platforms": [_platform_coverage(platform) for platform in coverage.platforms],
    }


def _platform_coverage(coverage: PlatformCoverage) -> Document:
    return {
        "platform": _platform(coverage.platform),
        "manifest": descriptor_document(coverage.manifest),
        "problem": coverage.problem,
        "soci_indexes": [_found_index(found) for found in coverage.soci_indexes],
        "layer_size": coverage.layer_size,
        "covered_size": coverage.covered_size,
        "ztoc_size": coverage.ztoc_size,
        "layers": [_layer_coverage(layer) for layer in coverage.layers],
    }


def _found_index(found: FoundIndex) -> Document:
    return {
        "digest": str(found.digest),
        "media_type": None if found.descriptor is None else found.descriptor.media_type,
        "size": None if found.descriptor is None else found.descriptor.size,
        "version": found.version,
        "problem": found.problem,
    }


def _layer_coverage(coverage: LayerCoverage) -> Document:
    return {
        **_described(coverage.layer),
        "ztoc": descriptor_document(coverage.ztoc),
        "soci_versions": list(coverage.soci_versions),
        "span_size": coverage.span_size,
        "span_count": coverage.span_count,
        "entry_count": coverage.entry_count,
        "uncompressed_size": coverage.uncompressed_size,
        "problem": coverage.problem,
    }


def verify_document(result: VerifyResult) -> Document:
    """``image``, ``manifest``, ``ok``, ``seed``, ``platforms`` and so on."""
    told = [finding.severity for finding in dict.fromkeys(result.all_findings)]
    return {
        "image": result.image,
        "manifest": descriptor_document(result.manifest),
        "ok": result.ok,
        "quick": result.quick,
        "seed": result.seed,
        "seconds": round(result.seconds, 3),
        "errors": told.count(Severity.ERROR),
        "warnings": told.count(Severity.WARNING),
        "findings": _findings(result.findings),
        "platforms": [
            {
                "platform": _platform(platform.platform),
                "manifest": descriptor_document(platform.manifest),
                "ok": platform.ok,
                "findings": _findings(platform.findings),
                "soci_indexes": [_index_verdict(index) for index in platform.soci_indexes],
            }
            for platform in result.platforms
        ],
    }


def _index_verdict(verdict: IndexVerdict) -> Document:
    descriptor = verdict.descriptor
    return {
        "digest": str(verdict.digest),
        "media_type": None if descriptor is None else descriptor.media_type,
        "size": None if descriptor is None else descriptor.size,
        "version": verdict.version,
        "ok": verdict.ok,
        "findings": _findings(verdict.findings),
        "layers": [_layer_verdict(layer) for layer in verdict.layers],
    }


def _layer_verdict(verdict: LayerVerdict) -> Document:
    return {
        **_described(verdict.layer),
        "ztoc": descriptor_document(verdict.ztoc),
        "span_count": verdict.span_count,
        "checked_spans": verdict.checked_spans,
        "ok": verdict.ok,
        "findings": _findings(verdict.findings),
    }


def _findings(findings: tuple[Finding, ...]) -> list[Document]:
    return [
        {
            "kind": finding.kind,
            "severity": str(finding.severity),
            "message": finding.message,
            "expected": finding.expected,
            "actual": finding.actual,
        }
        for finding in findings
    ]


def _platform(platform: Platform | None) -> str | None:
    return None if platform is None else str(platform)


def ztoc_document(ztoc: Ztoc) -> Document:
    """What is known of a zTOC, without its entries."""
    return {
        "digest": ztoc.digest,
        "size": ztoc.size,
        "version": ztoc.version,
        "build_tool_identifier": ztoc.build_tool_identifier,
        "compression_algorithm": ztoc.compression_algorithm,
        "compressed_archive_size": ztoc.compressed_archive_size,
        "uncompressed_archive_size": ztoc.uncompressed_archive_size,
        "span_size": ztoc.span_size,
        "span_count": ztoc.span_count,
        "entry_count": len(ztoc.entries),
    }


def entry_document(entry: FileMetadata, spans: range) -> Document:
    """One entry: as `FileMetadata`, and ``first_span``, ``end_span`` (half-open)."""
    return {
        "name": entry.name,
        "type": entry.type,
        "linkname": entry.linkname,
        "uncompressed_offset": entry.uncompressed_offset,
        "uncompressed_size": entry.uncompressed_size,
        "first_span": spans.start,
        "end_span": spans.stop,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "uname": entry.uname,
        "gname": entry.gname,
        "mod_time": entry.mod_time,
        "devmajor": entry.devmajor,
        "devminor": entry.devminor,
        "pax_records": {_text(key): _text(value) for key, value in entry.pax_records.items()},
    }


def file_document(file: FileStat, layers: Sequence[Descriptor]) -> Document:
    """One path of an image: as `FileStat`, with the digest of its layer for ``layer``."""
    return {
        "path": file.path,
        "type": file.type,
        "size": file.size,
        "mode": file.mode,
        "uid": file.uid,
        "gid": file.gid,
        "uname": file.uname,
        "gname": file.gname,
        "mtime_ns": file.mtime_ns,
        "linkname": file.linkname,
        "devmajor": file.devmajor,
        "devminor": file.devminor,
        "xattrs": {name: _text(value) for name, value in file.xattrs.items()},
        "inode": file.inode,
        "layer": str(layers[file.layer].digest) if layers else None,
    }


def extract_document(image: str, path: str, destination: str, result: ExtractResult) -> Document:
    """``image``, ``path``, ``destination``, then as `ExtractResult`."""
    return {
        "image": image,
        "path": path,
        "destination": destination,
        "files": result.files,
        "directories": result.directories,
        "links": result.links,
        "specials": result.specials,
        "unchanged": result.unchanged,
        "size": result.size,
        "skipped": [{"path": each.path, "reason": each.reason} for each in result.skipped],
        "notes": list(result.notes),
        "seconds": round(result.seconds, 3),
    }


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
