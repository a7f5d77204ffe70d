"""Hostile layers: valid gzip streams of valid tars that no ordinary compressor would write.

Each one is a small, seeded file that targets one assumption of a decoder or an indexer, which `why`
describes. zlib writes what it can; the rest is written bit by bit according to RFC 1951 (blocks)
and RFC 1952 (members).
"""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import seeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MTIME = 1767225600  # 2026-01-01T00:00:00Z

HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])  # RFC 1952 §2.3: deflate, no flags
END = b"\x03\x00"  # a final fixed block with only an end-of-block code

_STORED_MAX = 65_535  # RFC 1951 §3.2.4: LEN has 16 bits
_EMPTY_STORED = b"\x00\x00\x00\xff\xff"  # not final, from a byte boundary
_LONGEST = 258  # length of the longest match in bytes (RFC 1951 §3.2.5)
_FARTHEST = 32_768  # largest distance in bytes


@dataclass(frozen=True)
class Pathological:
    """One layer: why it is hostile, and the function that makes it."""

    why: str
    make: Callable[[], bytes]

    def write(self, path: Path) -> None:
        """Write the compressed layer to `path`."""
        path.write_bytes(self.make())


class BitWriter:
    """Writes bits in DEFLATE's order, least significant first (RFC 1951 §3.1.1)."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._held = 0
        self._held_bits = 0

    def put(self, value: int, bits: int) -> None:
        """Append the low `bits` bits of `value`, lowest first."""
        self._held |= value << self._held_bits
        self._held_bits += bits
        whole, self._held_bits = divmod(self._held_bits, 8)
        self._bytes += (self._held & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
        self._held >>= 8 * whole

    def align(self) -> None:
        """Pad the last byte with zero bits."""
        self.put(0, -self._held_bits % 8)

    def finish(self) -> bytes:
        """Return all bytes, the last one padded."""
        self.align()
        return bytes(self._bytes)


class LopsidedCode:
    """A dynamic Huffman code in which the longest match at distance 1 takes two zero bits.

    Length symbol 285 (258 bytes) has one bit, literals 0-254 have nine, and literal 255 and the end
    of block ten: 1/2 + 255/512 + 2/1024 = 1, a complete code. The only distance symbol has one bit,
    which RFC 1951 §3.2.7 allows. So 516 bytes of a run take half a byte, the highest ratio of
    DEFLATE.
    """

    def __init__(self) -> None:
        lengths = [9] * 255 + [10, 10] + [0] * 28 + [1]
        self._codes = _canonical(lengths)
        header = BitWriter()
        header.put(2, 2)  # BTYPE: dynamic
        header.put(len(lengths) - 257, 5)  # HLIT
        header.put(0, 5)  # HDIST: one distance code
        order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
        used = {0: 2, 1: 2, 9: 2, 10: 2}
        header.put(18 - 4, 4)  # HCLEN: up to symbol 1, the eighteenth of `order`
        for symbol in order[:18]:
            header.put(used.get(symbol, 0), 3)
        length_codes = _canonical([used.get(symbol, 0) for symbol in range(19)])
        for length in [*lengths, 1]:
            header.put(*length_codes[length])
        # Stored as a number, so that a block needs only one `put`.
        self.header = int.from_bytes(header.finish(), "little")
        self.header_bits = 2 + 5 + 5 + 4 + 18 * 3 + (len(lengths) + 1) * 2

    def open_block(self, out: BitWriter, *, final: bool) -> None:
        """Write the three-bit header of a block and its code."""
        out.put(int(final), 1)
        out.put(self.header, self.header_bits)

    def literals(self, out: BitWriter, data: bytes) -> None:
        """Write `data` byte by byte."""
        for byte in data:
            out.put(*self._codes[byte])

    def run(self, out: BitWriter, matches: int) -> None:
        """Repeat the previous byte, 258 times for each of `matches` (both codes are zero bits)."""
        out.put(0, 2 * matches)

    def close_block(self, out: BitWriter) -> None:
        """Write the end-of-block code."""
        out.put(*self._codes[256])


def _canonical(lengths: list[int]) -> list[tuple[int, int]]:
    """Return each symbol's bit-reversed code and its length (RFC 1951 §3.2.2)."""
    codes = [(0, 0)] * len(lengths)
    code, previous = 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        if length:
            code <<= length - previous
            codes[symbol] = (int(f"{code:0{length}b}"[::-1], 2), length)
            code, previous = code + 1, length
    return codes


def zeros(size: int) -> bytes:
    """Return a layer with one file of `size` zeros in a single dynamic block, about 1032:1."""
    head, tail = _tar_ends("zeros", size)
    plain = size + len(tail)
    # The first zero is a literal, followed by matches, and literals for the rest.
    matches, rest = divmod(plain - 1, _LONGEST)
    code, out = LopsidedCode(), BitWriter()
    code.open_block(out, final=True)
    code.literals(out, head + b"\0")
    code.run(out, matches)
    code.literals(out, bytes(rest))
    code.close_block(out)
    piece = bytes(1 << 20)
    whole, left = divmod(plain, len(piece))
    return _member(out.finish(), head, *[piece] * whole, piece[:left])


def one_block_of_zeros() -> bytes:
    """256 MiB of zeros in a single dynamic block: no block boundary inside, ratio over 1000."""
    return zeros(256 << 20)


def one_literal_a_block() -> bytes:
    """20,000 dynamic blocks of one literal: two Huffman tables for every byte."""
    tar = _tar({"literals": seeded.noise(0, 18_000)})
    code, out = LopsidedCode(), BitWriter()
    for place, byte in enumerate(tar):
        code.open_block(out, final=place == len(tar) - 1)
        code.literals(out, bytes([byte]))
        code.close_block(out)
    return _member(out.finish(), tar)


def empty_blocks() -> bytes:
    """200,000 empty stored and fixed blocks around a little data: boundaries without output."""
    tar = _tar({"little": seeded.noise(1, 4_000)})
    # Seven empty fixed blocks have 70 bits, so an empty stored block ends on a byte boundary.
    fixed = BitWriter()
    for _ in range(7):
        fixed.put(0b010, 10)  # BFINAL 0, BTYPE 01, end of block 0000000
    fixed.put(0, 3)  # BFINAL 0, BTYPE 00
    fixed.align()
    group = fixed.finish() + _EMPTY_STORED[1:]
    cut = len(tar) // 2
    body = b"".join((group * 12_500, _stored(tar[:cut]), group * 12_500, _stored(tar[cut:]), END))
    return _member(body, tar)


def tiny_stored_blocks() -> bytes:
    """Stored blocks of 0 to 7 bytes: a header of five bytes before every few bytes."""
    rng = seeded.generator(2)
    tar = _tar({"stored": seeded.noise(2, 200_000)})
    pieces = []
    place = 0
    while place < len(tar):
        size = rng.randrange(8)
        pieces.append(_stored(tar[place : place + size]))
        place += size
    return _member(b"".join((*pieces, END)), tar)


def stored_blocks() -> bytes:
    """Everything in stored blocks of the largest size, as compression level 0 writes it."""
    tar = _tar({f"noise-{place}": seeded.noise(place, 1 << 20) for place in range(16)})
    pieces = (tar[place : place + _STORED_MAX] for place in range(0, len(tar), _STORED_MAX))
    return _member(b"".join((*map(_stored, pieces), END)), tar)


def farthest_matches() -> bytes:
    """Noise of 32 KiB repeated at distance 32,768: every match needs the oldest window byte."""
    noise = seeded.noise(3, _FARTHEST)
    matches = 65_536
    size = _FARTHEST + matches * _LONGEST
    head, tail = _tar_ends("far", size)
    out = BitWriter()
    out.put(0b010, 3)  # BFINAL 0, BTYPE 01: fixed codes
    for _ in range(matches):
        # Length symbol 285 is 11000101, distance symbol 29 is 11101, then 13 extra bits of one.
        out.put(0b1_1111_1111_1111_10111_10100011, 26)
    out.put(0, 7)  # end of block
    out.put(0, 3)  # BFINAL 0, BTYPE 00: the first byte of the stored block below
    out.align()
    body = b"".join((_stored(head + noise), out.finish(), _stored(tail)[1:], END))
    whole = (noise * (size // _FARTHEST + 1))[:size]
    return _member(body, head, whole, tail)


def fixed_codes() -> bytes:
    """Text in fixed-Huffman blocks only."""
    return _zlib(_tar({"text": seeded.prose(4, 8 << 20)}), strategy=zlib.Z_FIXED)


def huffman_only() -> bytes:
    """Text without matches: as many symbols as bytes."""
    return _zlib(_tar({"text": seeded.prose(5, 8 << 20)}), strategy=zlib.Z_HUFFMAN_ONLY)


def sync_flushes() -> bytes:
    """A sync flush every 100 bytes: a block end, and an empty stored block, at each."""
    return _zlib(_tar({"text": seeded.prose(6, 4 << 20)}), step=100, flush=zlib.Z_SYNC_FLUSH)


def full_flushes() -> bytes:
    """A full flush every 1000 bytes: block starts that need no window."""
    return _zlib(_tar({"text": seeded.prose(7, 4 << 20)}), step=1000, flush=zlib.Z_FULL_FLUSH)


def noise_at_nine() -> bytes:
    """Incompressible bytes at level 9: stored blocks between useless dynamic ones."""
    return _zlib(_tar({"noise": seeded.noise(8, 16 << 20)}))


def tiny_members() -> bytes:
    """20,000 gzip members of 0 to 400 bytes, as in concatenated log files."""
    rng = seeded.generator(9)
    tar = _tar({"text": seeded.prose(9, 4 << 20)})
    members = []
    place = 0
    while place < len(tar):
        size = rng.randrange(401)
        members.append(_zlib(tar[place : place + size]))
        place += size
    return b"".join(members)


def named_members() -> bytes:
    """Members whose headers have every optional field, with an extra field of 60,000 bytes."""
    tar = _tar({"text": seeded.prose(10, 1 << 20)})
    flags = 0b11110  # FHCRC, FEXTRA, FNAME, FCOMMENT (RFC 1952 §2.3.1)
    fields = (
        struct.pack("<H", 60_000) + seeded.noise(10, 60_000) + b"layer.tar\0" + b"c" * 1000 + b"\0"
    )
    head = bytes([0x1F, 0x8B, 8, flags, 0, 0, 0, 0, 2, 3]) + fields
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    step = 64 << 10
    pieces = (tar[place : place + step] for place in range(0, len(tar), step))
    return b"".join(head + _zlib(piece)[len(HEADER) :] for piece in pieces)


def many_entries() -> bytes:
    """50,000 empty files: nothing but tar headers."""
    return _zlib(_tar({f"{place:05}": b"" for place in range(50_000)}))


def long_names() -> bytes:
    """2,000 files whose PAX headers have names of 4,000 bytes and large attributes."""
    rng = seeded.generator(11)
    names = (f"{'d' * 200}/" * 19 + f"{place}-{rng.getrandbits(64):016x}" for place in range(2_000))
    return _zlib(_tar(dict.fromkeys(names, b"x"), attribute="v" * 8_000))


LAYERS = {
    make.__name__.replace("_", "-"): Pathological(make.__doc__ or "", make)
    for make in (
        one_block_of_zeros,
        one_literal_a_block,
        empty_blocks,
        tiny_stored_blocks,
        stored_blocks,
        farthest_matches,
        fixed_codes,
        huffman_only,
        sync_flushes,
        full_flushes,
        noise_at_nine,
        tiny_members,
        named_members,
        many_entries,
        long_names,
    )
}


def _tar(files: dict[str, bytes], *, attribute: str = "") -> bytes:
    """Return a PAX tar of `files`, each with `attribute` as an extended attribute unless empty."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            entry = _entry(name, len(data))
            if attribute:
                entry.pax_headers = {"SCHILY.xattr.user.made": attribute}
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _tar_ends(name: str, size: int) -> tuple[bytes, bytes]:
    """Return the bytes before and after the `size` bytes of a tar's only file."""
    padding = -size % tarfile.BLOCKSIZE
    return _entry(name, size).tobuf(tarfile.PAX_FORMAT), bytes(padding + 2 * tarfile.BLOCKSIZE)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mtime = _MTIME
    return entry


def _member(body: bytes, *plain: bytes) -> bytes:
    """Frame the deflate stream `body` as one gzip member with the content `plain`."""
    crc = 0
    for piece in plain:
        crc = zlib.crc32(piece, crc)
    return HEADER + body + struct.pack("<II", crc, sum(map(len, plain)) & 0xFFFFFFFF)


def _stored(data: bytes) -> bytes:
    """Return a stored block that is not the last one, from a byte boundary (RFC 1951 §3.2.4)."""
    return b"\0" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data


def _zlib(
    data: bytes,
    *,
    strategy: int = zlib.Z_DEFAULT_STRATEGY,
    step: int = 0,
    flush: int = zlib.Z_NO_FLUSH,
) -> bytes:
    """Compress `data` at level 9 as one member, with a `flush` after every `step` bytes."""
    out = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=strategy)
    pieces = []
    for place in range(0, len(data), step or max(len(data), 1)):
        pieces.append(out.compress(data[place : place + step] if step else data))
        if step:
            pieces.append(out.flush(flush))
    pieces.append(out.flush())
    return _member(b"".join(pieces), data)
