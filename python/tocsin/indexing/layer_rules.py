"""Rules for layers: reasons to leave them out of indexes, and how they are indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.layers.indexer import LayerPass
from tocsin.layers.seek_pass import SeekPass
from tocsin.model.compression import ZSTD
from tocsin.model.media_types import Compression, layer_type
from tocsin.model.ztoc_defaults import DEFAULT_SPAN_SIZE
from tocsin.quoting import shown

if TYPE_CHECKING:
    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Source

_FORMATS = {
    Compression.GZIP: None,
    Compression.NONE: "uncompressed",
    Compression.UNKNOWN: "uncompressed",
}
"""Expected format for each compression; ``None`` to detect it from the first bytes.

The reference's reader uses the format in the zTOC, not the media type, so a plain tar with a gzip
media type gets the zTOC of a plain tar. Docker's media type without a compression means a plain
tar, as in the reference.
"""


def skip_reason(source: Source, layer: Descriptor, options: IndexingOptions) -> str | None:
    """Return why a layer gets no zTOC, as in the reference; ``None`` if its bytes decide."""
    kind = layer_type(layer.media_type)
    reason = None
    if kind is None:
        media_type = shown(layer.media_type) if layer.media_type else "missing"
        reason = f"not a layer (media type: {media_type})"
    elif layer.size < options.min_layer_size:
        reason = f"size {layer.size} is less than the minimum layer size {options.min_layer_size}"
    elif kind.encrypted:
        reason = "encrypted"
    elif kind.compression not in _FORMATS:
        is_zstd = kind.compression is Compression.ZSTD
        reason = unsupported(ZSTD if is_zstd else shown(layer.media_type))
    elif kind.foreign and not source.has_blob(layer):
        reason = "foreign layer that is missing from the source"
    elif options.span_size == 0 and _FORMATS[kind.compression] == "uncompressed":
        reason = "uncompressed tar, which cannot have spans of 0 bytes"
    return reason


def unsupported(name: str) -> str:
    """Return why a layer with a compression that SOCI does not know gets no zTOC."""
    return f"unsupported compression ({name}); SOCI supports only gzip and plain tar"


def unreadable_reason(source: Source, layer: Descriptor) -> str | None:
    """Return why a layer cannot be in a seek table; ``None`` if its bytes decide."""
    kind = layer_type(layer.media_type)
    if kind is None:
        media_type = shown(layer.media_type) if layer.media_type else "missing"
        return f"not a layer (media type: {media_type})"
    if kind.encrypted:
        return "encrypted"
    if kind.compression not in _FORMATS and kind.compression is not Compression.ZSTD:
        return f"unsupported compression ({shown(layer.media_type)})"
    if kind.foreign and not source.has_blob(layer):
        return "foreign layer that is missing from the source"
    return None


def indexing_pass(
    layer: Descriptor, options: IndexingOptions, *, threads: int, seek: bool, for_reading: bool
) -> LayerPass | SeekPass:
    """Return the pass that indexes a layer.

    Args:
        layer: descriptor of the layer.
        options: indexing options.
        threads: number of CPU threads.
        seek: whether the layer will be part of a seek table.
        for_reading: whether no zTOC is stored, so that the bytes alone decide how it is read.
    """
    kind = layer_type(layer.media_type)
    assert kind is not None  # noqa: S101 (others are not read)
    is_gzip = kind.compression is Compression.GZIP
    # A plain tar cannot have spans of 0 bytes; such a layer gets no zTOC.
    span_size = options.span_size or (0 if is_gzip and not for_reading else DEFAULT_SPAN_SIZE)
    # With a gzip media type, the reference does not accept an empty blob as an empty tar.
    layer_format = "gzip" if is_gzip and not layer.size else _FORMATS.get(kind.compression)
    if not seek:
        return LayerPass(
            span_size=span_size,
            format=layer_format,
            reference_identical=options.reference_identical,
            threads=threads,
            for_reading=for_reading,
        )
    return SeekPass(
        seek_span_size=options.seek_span_size,
        span_size=span_size,
        format=None if for_reading else layer_format,
        reference_identical=options.reference_identical,
        threads=threads,
        for_reading=for_reading,
    )
