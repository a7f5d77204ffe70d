"""The index and the frames of a pack, and what is refused."""

import hashlib
import random

import pytest
import zstandard

from support.packs import BLOCK, Part, RawPack, core_pack, read_pack, varint
from tocsin import SeekTableError, VerificationError, _core

MIB = 1 << 20
CHANCE = random.Random(5)  # noqa: S311 (content of layers)
LAYERS = [CHANCE.randbytes(40 * BLOCK + 100), bytes(3 * MIB), b"x" * 700]
DIGESTS = [hashlib.sha256(layer).digest() for layer in LAYERS]
SIZES = list(zip(DIGESTS, map(len, LAYERS), strict=True))


def frame(*parts):
    """Return the parts and the content of a frame."""
    found = [Part(*part) for part in parts]
    return found, b"".join(LAYERS[layer][start:end] for layer, start, end in found)


def raw(*frames):
    return RawPack(list(SIZES), list(frames))


def some():
    return raw(
        frame((0, 0, 1024), (2, 512, 700), (0, 4096, 8192)),
        frame((1, MIB, 2 * MIB)),
        frame((0, 1024, 2048), (0, 20 * BLOCK, len(LAYERS[0]))),
    )


# -- valid packs -------------------------------------------------------------------------------


def test_index_when_written_by_another_writer_then_read():
    expected = some()
    pack = core_pack(expected)
    assert pack.layers == [(f"sha256:{digest.hex()}", size) for digest, size in SIZES]
    assert pack.frame_count == 3
    assert pack.extent_count == 6
    assert pack.size == len(expected.blob)
    assert pack.content_size == sum(len(content) for _, content in expected.frames)
    for number, (parts, content) in enumerate(expected.frames):
        assert pack.extents(number) == parts
        start, end = pack.frame_range(number)
        assert pack.open_frame(number, expected.blob[start:end]) == content


def test_writer_when_read_by_another_reader_then_the_same():
    expected = some()
    writer = _core.PackWriter([(f"sha256:{digest.hex()}", size) for digest, size in SIZES])
    for parts, content in expected.frames:
        writer.add(parts, content)
    found = read_pack(*writer.finish())
    assert found.magic == b"TOCSINP1"
    assert (found.layers, found.frames) == (expected.layers, expected.frames)
    assert found.content()[:200] == expected.content()[:200]


def test_writer_when_repeated_then_the_same_bytes():
    made = []
    for _ in range(2):
        writer = _core.PackWriter([(f"sha256:{digest.hex()}", size) for digest, size in SIZES])
        for parts, content in some().frames:
            writer.add(parts, content)
        made.append(writer.finish())
    assert made[0] == made[1]


def test_index_when_there_are_no_frames_then_read():
    pack = core_pack(raw())
    assert (pack.frame_count, pack.size, pack.content_size) == (0, 0, 0)


def test_writer_when_content_and_extents_differ_then_error():
    writer = _core.PackWriter([("sha256:" + "0" * 64, 4096)])
    with pytest.raises(SeekTableError, match="length of a frame"):
        writer.add([(0, 0, 1024)], bytes(1023))


# -- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [b"\0", b"", b"longer"])
def test_frame_when_its_bytes_differ_then_verification_error(change):
    expected = some()
    pack = core_pack(expected)
    stored = expected.blob[slice(*pack.frame_range(0))]
    with pytest.raises(VerificationError, match="pack frame 0"):
        pack.open_frame(0, stored[:-1] + change)


@pytest.mark.parametrize("number", [3, 1 << 31])
def test_frame_when_it_does_not_exist_then_error(number):
    pack = core_pack(some())
    with pytest.raises(SeekTableError, match="number of a frame"):
        pack.open_frame(number, b"")
    with pytest.raises(IndexError):
        pack.frame_range(number)
    assert pack.extents(number) == []


def test_frame_when_it_is_a_bomb_then_refused_by_its_length():
    # 3 MiB of zeros are stored in a few bytes.
    bomb = raw(([Part(1, 0, 4096)], bytes(3 * MIB)))
    with pytest.raises(SeekTableError, match="wrong content size"):
        core_pack(bomb).open_frame(0, bomb.blob)


# -- hostile indexes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (raw(frame((0, 0, 1024)), frame((0, 512, 1536))), "overlapping extents"),
        (raw(frame((0, 0, 1024), (2, 0, 512), (0, 0, 512))), "overlapping extents"),
        (raw(frame((0, 0, 1024), (0, 1024, 2048))), "continues the one before"),
        (raw(([Part(0, 0, 42 * BLOCK)], b"")), "end of an extent is too large"),
        (raw(([Part(0, 1 << 61, (1 << 61) + 512)], b"")), "end of an extent is too large"),
        (raw(([Part(3, 0, 512)], b"")), r"invalid number of a layer \(3\)"),
        (raw(([Part(0, -512, 512)], b"")), "start of an extent"),
        (raw(([Part(1, 0, MIB + 512)], b"")), "is too large"),
        (raw(([Part(1, 0, MIB), Part(1, 2 * MIB, 2 * MIB + 512)], b"")), "length of a frame"),
        (raw(([], b"")), "invalid number of extents"),
        (RawPack(SIZES, [], magic=b"TOCSINP2"), "unsupported version"),
        (RawPack([(bytes(32), (1 << 60) + 1)], []), "uncompressed size is too large"),
        (RawPack(SIZES, [frame((0, 0, 512))], stored_lens={0: 2 * MIB}), "stored length"),
    ],
)
def test_index_when_a_rule_is_broken_then_error(pack, message):
    with pytest.raises(SeekTableError, match=message):
        core_pack(pack)


def test_index_when_content_is_larger_than_the_limit_then_error():
    parts = [[Part(0, at * MIB, (at + 1) * MIB)] for at in range(257)]
    pack = RawPack([(bytes(32), 1 << 40)], [(one, b"") for one in parts])
    with pytest.raises(SeekTableError, match="size of the pack's content is too large"):
        core_pack(pack)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (varint(5000), "number of layers is too large"),
        (varint(2) + bytes(33), "truncated"),
        (varint(0) + varint(1 << 40), "number of frames is too large"),
        (varint(0) + varint(0) + b"more", "4 bytes after the end"),
        (b"\x80\x00", "invalid varint"),
        (b"", "truncated inside number of layers"),
    ],
)
def test_index_when_its_content_is_damaged_then_error(content, message):
    with pytest.raises(SeekTableError, match=message):
        _core.Pack(raw().index(content))


def test_index_when_a_count_lies_then_error():
    content = varint(1) + SIZES[0][0] + varint(SIZES[0][1]) + varint(1) + varint(9)
    content += varint(1 << 50)
    with pytest.raises(SeekTableError, match="truncated"):
        _core.Pack(RawPack(SIZES, [frame((0, 0, 512))]).index(content))


def test_index_when_it_is_a_bomb_then_refused_before_it_is_decompressed():
    stored = zstandard.ZstdCompressor().compress(bytes(9 << 20))
    lengths = len(stored).to_bytes(4, "little") + (9 << 20).to_bytes(4, "little")
    with pytest.raises(SeekTableError, match="content of the index is too large"):
        _core.Pack(b"TOCSINP1" + lengths + stored)


def test_index_when_cut_or_longer_then_error():
    index = some().index()
    for end in range(len(index)):
        with pytest.raises(SeekTableError):
            _core.Pack(index[:end])
    with pytest.raises(SeekTableError, match="1 bytes after the end"):
        _core.Pack(index + b"\0")


def test_index_when_bytes_change_at_random_then_error_or_another_index():
    index = some().index()
    chance = random.Random(9)  # noqa: S311 (damage)
    for _ in range(2000):
        damaged = bytearray(index)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            pack = _core.Pack(bytes(damaged))
        except SeekTableError:
            continue
        assert pack.content_size <= 256 * MIB
