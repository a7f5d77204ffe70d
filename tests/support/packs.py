"""Packs for tests, written and read without the code under test.

Source: docs/pack.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from tocsin import _core
from tocsin.images.seek_tables import referring_seek_tables
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_MANIFEST
from tocsin.model.seek_manifest import PACK_FRAMES, PACK_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.stores.base import Sink

BLOCK = 512


def varint(number: int) -> bytes:
    """Return an unsigned LEB128 number."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> int:
    """Return 0, 1, 2, 3, … for 0, -1, 1, -2, …"""
    return -2 * number - 1 if number < 0 else 2 * number


class Part(NamedTuple):
    """A part of a layer: the number of the layer, start and end in bytes."""

    layer: int
    start: int
    end: int


@dataclass
class RawPack:
    """A pack whose fields tests may damage before it is written.

    Attributes:
        layers: digest and uncompressed size of each layer.
        frames: parts and content of each frame.
        stored_lens: stored lengths in the index, if they are not those of the frames.
    """

    layers: list[tuple[bytes, int]]
    frames: list[tuple[list[Part], bytes]]
    magic: bytes = b"TOCSINP1"
    stored_lens: dict[int, int] = field(default_factory=dict)

    @property
    def stored(self) -> list[bytes]:
        return [zstandard.ZstdCompressor(level=3).compress(content) for _, content in self.frames]

    @property
    def blob(self) -> bytes:
        return b"".join(self.stored)

    def content(self) -> bytes:
        """Return the content of the index before it is compressed."""
        out = [varint(len(self.layers))]
        out += [digest + varint(size) for digest, size in self.layers]
        out.append(varint(len(self.frames)))
        ends: dict[int, int] = {}
        for number, (parts, _) in enumerate(self.frames):
            stored = self.stored_lens.get(number, len(self.stored[number]))
            out += [varint(stored), varint(len(parts))]
            for layer, start, end in parts:
                first, after = start // BLOCK, -(-end // BLOCK)
                out += [varint(layer), varint(zigzag(first - ends.get(layer, 0)))]
                out.append(varint(after - first - 1))
                ends[layer] = after
        return b"".join(out)

    def index(self, content: bytes | None = None) -> bytes:
        """Return the index, maybe with another content."""
        content = self.content() if content is None else content
        stored = zstandard.ZstdCompressor(level=3).compress(content)
        lengths = len(stored).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        digests = b"".join(hashlib.sha256(frame).digest() for frame in self.stored)
        return self.magic + lengths + stored + digests


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, size: int) -> bytes:
        taken, self.rest = self.rest[:size], self.rest[size:]
        assert len(taken) == size
        return taken

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number


def read_pack(index: bytes, blob: bytes) -> RawPack:
    """Read a pack, and check everything that the format says about the encoding."""
    reader = _Reader(index)
    magic = reader.take(8)
    stored_len, length = (int.from_bytes(reader.take(4), "little") for _ in range(2))
    content = _Reader(_decompress(reader.take(stored_len), length))
    digests = reader.rest
    layers = [(content.take(32), content.varint()) for _ in range(content.varint())]
    ends: dict[int, int] = {}
    frames, at = [], 0
    for number in range(content.varint()):
        size = content.varint()
        stored, at = blob[at : at + size], at + size
        assert hashlib.sha256(stored).digest() == digests[32 * number : 32 * number + 32]
        parts = []
        for _ in range(content.varint()):
            layer, step, blocks = content.varint(), content.varint(), content.varint() + 1
            first = ends.get(layer, 0) + (step >> 1 ^ -(step & 1))
            ends[layer] = first + blocks
            end = min((first + blocks) * BLOCK, layers[layer][1])
            parts.append(Part(layer, first * BLOCK, end))
        frames.append((parts, _decompress(stored, sum(end - start for _, start, end in parts))))
    assert content.rest == b""
    assert (len(digests), at) == (32 * len(frames), len(blob))
    return RawPack(layers, frames, magic)


def _decompress(stored: bytes, length: int) -> bytes:
    header = zstandard.get_frame_parameters(stored)
    assert (header.content_size, header.has_checksum, header.dict_id) == (length, False, 0)
    return zstandard.ZstdDecompressor().decompress(stored)


def change_pack(
    store: Sink,
    tag: str,
    change: Callable[[int, bytes], bytes],
    *,
    layers: Sequence[tuple[bytes, int]] | None = None,
) -> None:
    """Replace the pack of the seek table that refers to an image; `change` gets each frame."""
    image = store.resolve(tag)
    (found,) = referring_seek_tables(store, image)
    manifest = found.manifest
    assert manifest is not None
    assert manifest.pack_index is not None
    assert manifest.pack is not None
    blobs = [b"".join(store.blob(blob)) for blob in (manifest.pack_index, manifest.pack)]
    raw = read_pack(*blobs)
    raw.frames = [(parts, change(at, data)) for at, (parts, data) in enumerate(raw.frames)]
    raw.layers = list(layers or raw.layers)
    put_pack(store, tag, raw.index(), raw.blob)


def put_pack(store: Sink, tag: str, index: bytes, frames: bytes) -> None:
    """Replace the pack of the seek table that refers to an image."""
    image = store.resolve(tag)
    (found,) = referring_seek_tables(store, image)
    assert found.manifest is not None
    assert found.descriptor is not None
    descriptor = replace(Descriptor.of(index, PACK_INDEX), data=index)
    new = replace(found.manifest, pack_index=descriptor, pack=Descriptor.of(frames, PACK_FRAMES))
    store.put_blob(index)
    store.put_blob(frames)
    store.delete(found.descriptor)
    store.put_manifest(new.to_json(subject=image), OCI_MANIFEST)


def core_pack(raw: RawPack) -> _core.Pack:
    """Parse the index of a pack with the code under test."""
    return _core.Pack(raw.index())
