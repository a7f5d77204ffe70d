"""tocsin: make container images start before they have arrived.

Makes SOCI indexes of container images, byte for byte as the reference does, in one pass and without
root, Docker or containerd. The names below are all there is to know; everything else may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocsin.errors import (
        AuthError,
        ConflictError,
        FormatError,
        GzipError,
        NotFoundError,
        PathError,
        RegistryError,
        TarError,
        TocsinError,
        UnsupportedError,
        VerificationError,
        ZtocError,
    )
    from tocsin.images.copy import CopyResult, copy
    from tocsin.images.remove import remove_indexes
    from tocsin.indexing.convert import convert
    from tocsin.indexing.create import create
    from tocsin.indexing.options import IndexingOptions
    from tocsin.indexing.results import ConvertResult, CreateResult, PlatformResult
    from tocsin.layers.indexer import IndexedLayerBytes, build_ztoc, index_layer
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.columns import FILES_DTYPE, SPANS_DTYPE
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
    from tocsin.reading.extract import ExtractResult, SkippedFile
    from tocsin.reading.files import Files
    from tocsin.reading.image import Image, open  # noqa: A004 (as in gzip and tarfile)
    from tocsin.reading.one_layer import LayerFiles, open_layer
    from tocsin.reading.stat import FileStat
    from tocsin.stores.metering import Traffic
    from tocsin.stores.registry import RegistryOptions
    from tocsin.verifying.findings import (
        IndexVerdict,
        LayerVerdict,
        PlatformVerdict,
        VerifyResult,
    )
    from tocsin.verifying.verify import verify

__all__ = [
    "FILES_DTYPE",
    "SPANS_DTYPE",
    "Advanced",
    "AuthError",
    "ConflictError",
    "ConvertResult",
    "CopyResult",
    "CreateResult",
    "Event",
    "ExtractResult",
    "FileMetadata",
    "FileStat",
    "Files",
    "Finding",
    "FormatError",
    "GzipError",
    "Image",
    "IndexVerdict",
    "IndexedLayerBytes",
    "IndexingOptions",
    "LayerAdvanced",
    "LayerFiles",
    "LayerFinished",
    "LayerResult",
    "LayerStarted",
    "LayerVerdict",
    "NotFoundError",
    "PathError",
    "Planned",
    "PlatformResult",
    "PlatformVerdict",
    "Progress",
    "RegistryError",
    "RegistryOptions",
    "Severity",
    "SkippedFile",
    "TarError",
    "TocsinError",
    "Traffic",
    "UnsupportedError",
    "VerificationError",
    "VerifyResult",
    "Ztoc",
    "ZtocError",
    "build_ztoc",
    "convert",
    "copy",
    "create",
    "index_layer",
    "open",
    "open_layer",
    "remove_indexes",
    "verify",
]

_HOMES = {
    "AuthError": "tocsin.errors",
    "ConflictError": "tocsin.errors",
    "FormatError": "tocsin.errors",
    "GzipError": "tocsin.errors",
    "NotFoundError": "tocsin.errors",
    "PathError": "tocsin.errors",
    "RegistryError": "tocsin.errors",
    "TarError": "tocsin.errors",
    "TocsinError": "tocsin.errors",
    "UnsupportedError": "tocsin.errors",
    "VerificationError": "tocsin.errors",
    "ZtocError": "tocsin.errors",
    "FILES_DTYPE": "tocsin.model.columns",
    "SPANS_DTYPE": "tocsin.model.columns",
    "convert": "tocsin.indexing.convert",
    "CopyResult": "tocsin.images.copy",
    "copy": "tocsin.images.copy",
    "create": "tocsin.indexing.create",
    "IndexedLayerBytes": "tocsin.layers.indexer",
    "build_ztoc": "tocsin.layers.indexer",
    "index_layer": "tocsin.layers.indexer",
    "IndexingOptions": "tocsin.indexing.options",
    "remove_indexes": "tocsin.images.remove",
    "ConvertResult": "tocsin.indexing.results",
    "CreateResult": "tocsin.indexing.results",
    "LayerResult": "tocsin.model.layer_result",
    "PlatformResult": "tocsin.indexing.results",
    "verify": "tocsin.verifying.verify",
    "Finding": "tocsin.model.finding",
    "IndexVerdict": "tocsin.verifying.findings",
    "LayerVerdict": "tocsin.verifying.findings",
    "PlatformVerdict": "tocsin.verifying.findings",
    "Severity": "tocsin.model.finding",
    "VerifyResult": "tocsin.verifying.findings",
    "Advanced": "tocsin.model.events",
    "Event": "tocsin.model.events",
    "LayerAdvanced": "tocsin.model.events",
    "LayerFinished": "tocsin.model.events",
    "LayerStarted": "tocsin.model.events",
    "Planned": "tocsin.model.events",
    "Progress": "tocsin.model.events",
    "FileMetadata": "tocsin.model.file_metadata",
    "Ztoc": "tocsin.layers.ztoc",
    "ExtractResult": "tocsin.reading.extract",
    "SkippedFile": "tocsin.reading.extract",
    "FileStat": "tocsin.reading.stat",
    "Files": "tocsin.reading.files",
    "LayerFiles": "tocsin.reading.one_layer",
    "open_layer": "tocsin.reading.one_layer",
    "Image": "tocsin.reading.image",
    "open": "tocsin.reading.image",
    "Traffic": "tocsin.stores.metering",
    "RegistryOptions": "tocsin.stores.registry",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (whatever the name stands for)
    """Import a public name when it is first used, so that ``tocsin --help`` is there at once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
