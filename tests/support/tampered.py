"""zTOC blobs with one value changed in place, and the indexes that link them to an image.

Places come from `support.ztocfile`, which shares no code with what is tested.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from support.ztocfile import ENTRY, WINDOW_LEN, parse
from tocsin.model.media_types import OCI_MANIFEST
from tocsin.model.soci_index import CONFIG_BLOB, IndexedLayer, SociIndex, make_soci_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.images import Image
    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Sink

CHECKPOINT_LEN = 17 + WINDOW_LEN
_CODES = {"offset": "<q", "size": "<q", "mode": "<q", "uid": "<I", "gid": "<I"}


def with_bytes(blob: bytes, at: int, data: bytes) -> bytes:
    """Return `blob` with other bytes at one offset."""
    assert blob[at : at + len(data)] != data
    return blob[:at] + data + blob[at + len(data) :]


def with_number(blob: bytes, index: int, field: str, value: int) -> bytes:
    """Return a zTOC with one number of entry `index` changed; it must not be the default."""
    table = parse(blob).tables["toc"].tables("metadata", ENTRY)[index]
    return with_bytes(blob, table.places[field], struct.pack(_CODES[field], value))


def with_text(blob: bytes, index: int, field: str, value: bytes) -> bytes:
    """Return a zTOC with one text of entry `index` changed to another of the same length."""
    table = parse(blob).tables["toc"].tables("metadata", ENTRY)[index]
    assert len(value) == len(table.data(field))
    return with_bytes(blob, table.target(field) + 4, value)


def with_window_byte(blob: bytes, span_id: int, at: int) -> bytes:
    """Return a zTOC with one byte changed in the window of a span."""
    place = _checkpoint(blob, span_id) + 17 + at
    return with_bytes(blob, place, bytes([blob[place] ^ 1]))


def with_checkpoint(blob: bytes, span_id: int, *, compressed: int = 0, bits: int = 0) -> bytes:
    """Return a zTOC with the checkpoint of a span moved by `compressed` bytes and `bits` bits."""
    place = _checkpoint(blob, span_id)
    found = parse(blob).checkpoints[span_id]
    packed = struct.pack(
        "<qqB", found.compressed + compressed, found.uncompressed, found.bits ^ bits
    )
    return with_bytes(blob, place, packed)


def with_span_digest(blob: bytes, span_id: int) -> bytes:
    """Return a zTOC with the digest of one span changed."""
    place = parse(blob).tables["info"].elements("span_digests")[span_id] + 4 + len("sha256:")
    return with_bytes(blob, place, b"0" if blob[place : place + 1] != b"0" else b"1")


def _checkpoint(blob: bytes, span_id: int) -> int:
    return parse(blob).tables["info"].target("checkpoints") + 4 + 12 + span_id * CHECKPOINT_LEN


def put_v1(
    store: Sink, image: Image, ztocs: Sequence[bytes], *, tag: str = "app", span_size: int
) -> Descriptor:
    """Put an image and an index that lists `ztocs` for its layers; all digests match."""
    subject = image.put(store, tag=tag)
    store.put_blob(CONFIG_BLOB)
    indexed = [
        IndexedLayer(layer, store.put_blob(ztoc), span_size)
        for layer, ztoc in zip(image.layer_descriptors, ztocs, strict=False)
    ]
    return put_index_of(store, make_soci_index(indexed, subject=subject))


def put_index_of(store: Sink, index: SociIndex) -> Descriptor:
    """Put a SOCI index."""
    return store.put_manifest(index.to_json(), OCI_MANIFEST)


def with_entry(index: SociIndex, **changes: object) -> SociIndex:
    """Return an index with its first entry changed; ``annotations`` are merged."""
    first, *rest = index.layers
    more = changes.pop("annotations", {})
    assert isinstance(more, dict)
    changed = replace(first, annotations={**first.annotations, **more})
    return replace(index, layers=(replace(changed, **changes), *rest))  # type: ignore[arg-type]  # fields by name
