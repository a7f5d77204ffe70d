"""tocsin: start containers before their images are downloaded.

Builds SOCI indexes of container images in one pass, byte for byte identical to those of the
reference implementation, without root, Docker or containerd. The names in ``__all__`` are the
public API; everything else may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocsin.errors import (
        AuthError,
        ConflictError,
        ContainerdError,
        EngineError,
        FormatError,
        GzipError,
        NotFoundError,
        PathError,
        RegistryError,
        SeekTableError,
        TarError,
        TocsinError,
        UnsupportedError,
        VerificationError,
        ZtocError,
    )
    from tocsin.images.access_logs import FoundAccessLog
    from tocsin.images.copy import CopyResult, copy
    from tocsin.images.coverage import (
        ImageCoverage,
        ImageIndexes,
        LayerCoverage,
        PlatformCoverage,
        PlatformIndexes,
    )
    from tocsin.images.info import indexes, info, resolve
    from tocsin.images.prefetches import PrefetchInfo
    from tocsin.images.remove import remove_indexes
    from tocsin.images.seek_tables import FoundSeekTable
    from tocsin.images.soci_indexes import FoundIndex
    from tocsin.indexing.convert import convert
    from tocsin.indexing.create import create
    from tocsin.indexing.known import ZtocStore
    from tocsin.indexing.options import IndexingOptions
    from tocsin.indexing.results import ConvertResult, CreateResult, PlatformResult
    from tocsin.indexing.ztoc_directory import ZtocDirectory
    from tocsin.layers.indexer import (
        Hazard,
        IndexedLayerBytes,
        LayerSource,
        build_ztoc,
        index_layer,
    )
    from tocsin.layers.seek_table import SeekBlob
    from tocsin.layers.sources import SeekableLayer
    from tocsin.layers.ztoc import Ztoc
    from tocsin.layers.ztoc_info import ZtocInfo
    from tocsin.model.access_log import AccessedFile, AccessLog
    from tocsin.model.columns import FILES_DTYPE, SPANS_DTYPE
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.entry_path import StrPath
    from tocsin.model.events import (
        Advanced,
        Event,
        LayerAdvanced,
        LayerFinished,
        LayerStarted,
        Planned,
        Progress,
    )
    from tocsin.model.file_metadata import FileMetadata
    from tocsin.model.finding import Finding, Severity
    from tocsin.model.layer_result import LayerResult
    from tocsin.model.manifest import Manifest
    from tocsin.model.platform import Platform
    from tocsin.model.prefetch import PrefetchRange
    from tocsin.model.reference import (
        ContainerdReference,
        DockerArchiveReference,
        LayoutReference,
        OciArchiveReference,
        Reference,
        ReferenceLike,
        RegistryReference,
    )
    from tocsin.model.refusal import Refusal
    from tocsin.model.seek_manifest import SeekManifest
    from tocsin.model.soci_index import SociIndex
    from tocsin.mounting.mount import Mount, mount
    from tocsin.mounting.status import MountStatus
    from tocsin.reading.extract import ExtractResult, SkippedFile
    from tocsin.reading.files import Files
    from tocsin.reading.image import Image, ImageLayer, open  # noqa: A004 (as in gzip and tarfile)
    from tocsin.reading.one_layer import LayerFiles, open_layer
    from tocsin.reading.stat import FileStat
    from tocsin.recording.push import PushedAccessLog, push_access_log
    from tocsin.stores.http.options import HttpOptions
    from tocsin.stores.metering import Traffic
    from tocsin.stores.registry.options import RegistryOptions
    from tocsin.verifying.findings import (
        IndexVerdict,
        LayerVerdict,
        PlatformVerdict,
        SeekLayerVerdict,
        SeekTableVerdict,
        VerifyResult,
    )
    from tocsin.verifying.verify import verify

    __version__: str

__all__ = [
    "FILES_DTYPE",
    "SPANS_DTYPE",
    "AccessLog",
    "AccessedFile",
    "Advanced",
    "AuthError",
    "ConflictError",
    "ContainerdError",
    "ContainerdReference",
    "ConvertResult",
    "CopyResult",
    "CreateResult",
    "Descriptor",
    "Digest",
    "DockerArchiveReference",
    "Document",
    "EngineError",
    "Event",
    "ExtractResult",
    "FileMetadata",
    "FileStat",
    "Files",
    "Finding",
    "FormatError",
    "FoundAccessLog",
    "FoundIndex",
    "FoundSeekTable",
    "GzipError",
    "Hazard",
    "HttpOptions",
    "Image",
    "ImageCoverage",
    "ImageIndexes",
    "ImageLayer",
    "IndexVerdict",
    "IndexedLayerBytes",
    "IndexingOptions",
    "LayerAdvanced",
    "LayerCoverage",
    "LayerFiles",
    "LayerFinished",
    "LayerResult",
    "LayerSource",
    "LayerStarted",
    "LayerVerdict",
    "LayoutReference",
    "Manifest",
    "Mount",
    "MountStatus",
    "NotFoundError",
    "OciArchiveReference",
    "PathError",
    "Planned",
    "Platform",
    "PlatformCoverage",
    "PlatformIndexes",
    "PlatformResult",
    "PlatformVerdict",
    "PrefetchInfo",
    "PrefetchRange",
    "Progress",
    "PushedAccessLog",
    "Reference",
    "ReferenceLike",
    "Refusal",
    "RegistryError",
    "RegistryOptions",
    "RegistryReference",
    "SeekBlob",
    "SeekLayerVerdict",
    "SeekManifest",
    "SeekTableError",
    "SeekTableVerdict",
    "SeekableLayer",
    "Severity",
    "SkippedFile",
    "SociIndex",
    "StrPath",
    "TarError",
    "TocsinError",
    "Traffic",
    "UnsupportedError",
    "VerificationError",
    "VerifyResult",
    "Ztoc",
    "ZtocDirectory",
    "ZtocError",
    "ZtocInfo",
    "ZtocStore",
    "build_ztoc",
    "convert",
    "copy",
    "create",
    "index_layer",
    "indexes",
    "info",
    "mount",
    "open",
    "open_layer",
    "push_access_log",
    "remove_indexes",
    "resolve",
    "verify",
]

_MODULE_OF = {
    "AuthError": "tocsin.errors",
    "ContainerdError": "tocsin.errors",
    "ConflictError": "tocsin.errors",
    "EngineError": "tocsin.errors",
    "FormatError": "tocsin.errors",
    "GzipError": "tocsin.errors",
    "NotFoundError": "tocsin.errors",
    "PathError": "tocsin.errors",
    "RegistryError": "tocsin.errors",
    "SeekTableError": "tocsin.errors",
    "TarError": "tocsin.errors",
    "TocsinError": "tocsin.errors",
    "UnsupportedError": "tocsin.errors",
    "VerificationError": "tocsin.errors",
    "ZtocError": "tocsin.errors",
    "CopyResult": "tocsin.images.copy",
    "copy": "tocsin.images.copy",
    "ImageCoverage": "tocsin.images.coverage",
    "ImageIndexes": "tocsin.images.coverage",
    "LayerCoverage": "tocsin.images.coverage",
    "PlatformCoverage": "tocsin.images.coverage",
    "PlatformIndexes": "tocsin.images.coverage",
    "indexes": "tocsin.images.info",
    "info": "tocsin.images.info",
    "resolve": "tocsin.images.info",
    "remove_indexes": "tocsin.images.remove",
    "FoundAccessLog": "tocsin.images.access_logs",
    "FoundIndex": "tocsin.images.soci_indexes",
    "FoundSeekTable": "tocsin.images.seek_tables",
    "convert": "tocsin.indexing.convert",
    "create": "tocsin.indexing.create",
    "ZtocStore": "tocsin.indexing.known",
    "IndexingOptions": "tocsin.indexing.options",
    "ConvertResult": "tocsin.indexing.results",
    "CreateResult": "tocsin.indexing.results",
    "PlatformResult": "tocsin.indexing.results",
    "ZtocDirectory": "tocsin.indexing.ztoc_directory",
    "Hazard": "tocsin.layers.indexer",
    "IndexedLayerBytes": "tocsin.layers.indexer",
    "LayerSource": "tocsin.layers.indexer",
    "build_ztoc": "tocsin.layers.indexer",
    "index_layer": "tocsin.layers.indexer",
    "SeekableLayer": "tocsin.layers.sources",
    "Ztoc": "tocsin.layers.ztoc",
    "ZtocInfo": "tocsin.layers.ztoc_info",
    "AccessLog": "tocsin.model.access_log",
    "AccessedFile": "tocsin.model.access_log",
    "FILES_DTYPE": "tocsin.model.columns",
    "SPANS_DTYPE": "tocsin.model.columns",
    "Descriptor": "tocsin.model.descriptor",
    "Digest": "tocsin.model.digest",
    "Document": "tocsin.model.document",
    "StrPath": "tocsin.model.entry_path",
    "Advanced": "tocsin.model.events",
    "Event": "tocsin.model.events",
    "LayerAdvanced": "tocsin.model.events",
    "LayerFinished": "tocsin.model.events",
    "LayerStarted": "tocsin.model.events",
    "Planned": "tocsin.model.events",
    "PrefetchInfo": "tocsin.images.prefetches",
    "PrefetchRange": "tocsin.model.prefetch",
    "Progress": "tocsin.model.events",
    "FileMetadata": "tocsin.model.file_metadata",
    "Finding": "tocsin.model.finding",
    "Severity": "tocsin.model.finding",
    "LayerResult": "tocsin.model.layer_result",
    "Manifest": "tocsin.model.manifest",
    "Platform": "tocsin.model.platform",
    "ContainerdReference": "tocsin.model.reference",
    "DockerArchiveReference": "tocsin.model.reference",
    "LayoutReference": "tocsin.model.reference",
    "OciArchiveReference": "tocsin.model.reference",
    "Reference": "tocsin.model.reference",
    "ReferenceLike": "tocsin.model.reference",
    "Refusal": "tocsin.model.refusal",
    "RegistryReference": "tocsin.model.reference",
    "SeekBlob": "tocsin.layers.seek_table",
    "SeekManifest": "tocsin.model.seek_manifest",
    "SociIndex": "tocsin.model.soci_index",
    "Mount": "tocsin.mounting.mount",
    "mount": "tocsin.mounting.mount",
    "MountStatus": "tocsin.mounting.status",
    "ExtractResult": "tocsin.reading.extract",
    "SkippedFile": "tocsin.reading.extract",
    "Files": "tocsin.reading.files",
    "Image": "tocsin.reading.image",
    "ImageLayer": "tocsin.reading.image",
    "open": "tocsin.reading.image",
    "LayerFiles": "tocsin.reading.one_layer",
    "open_layer": "tocsin.reading.one_layer",
    "FileStat": "tocsin.reading.stat",
    "PushedAccessLog": "tocsin.recording.push",
    "push_access_log": "tocsin.recording.push",
    "HttpOptions": "tocsin.stores.http.options",
    "Traffic": "tocsin.stores.metering",
    "RegistryOptions": "tocsin.stores.registry.options",
    "IndexVerdict": "tocsin.verifying.findings",
    "LayerVerdict": "tocsin.verifying.findings",
    "SeekLayerVerdict": "tocsin.verifying.findings",
    "SeekTableVerdict": "tocsin.verifying.findings",
    "PlatformVerdict": "tocsin.verifying.findings",
    "VerifyResult": "tocsin.verifying.findings",
    "verify": "tocsin.verifying.verify",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any public object)
    """Import a public name on first use, which keeps ``tocsin --help`` fast."""
    if name == "__version__":
        value = importlib.import_module("importlib.metadata").version("tocsin")
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
