"""Checks that the pack of a seek table has the bytes of the layers.

Source: docs/pack.md#verifying-a-pack.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, SeekTableError, VerificationError
from tocsin.images.seek_tables import PROBLEMS, read_pack_index
from tocsin.layers.pack import PackIndex, read_extents
from tocsin.layers.seek_contents import CheckpointReader
from tocsin.model.compression import ZSTD
from tocsin.verifying.findings import warning
from tocsin.verifying.sample import sample
from tocsin.verifying.seek import DAMAGED
from tocsin.verifying.seek_sample import add_chunks
from tocsin.verifying.unreadable import missing, unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.layers.pack import Extent
    from tocsin.layers.seek_table import SeekParts
    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Source
    from tocsin.verifying.seek import SeekTableCheck

_FRAMES_AT_ONCE = 32
"""Frames whose content is compared together, since they may need the same spans; up to 32 MiB."""
_EXTENTS_PER_FRAME = 4
"""Number of parts that are compared, for each frame in a sample."""
_UNREADABLE = (FormatError, NotFoundError, SeekTableError, VerificationError)


def check_pack(store: Source, check: SeekTableCheck, layers: Sequence[SeekParts | None]) -> None:
    """Compare all frames of a pack with the layers.

    Args:
        store: store that contains the image.
        check: receives the findings.
        layers: the parts rebuilt from each layer; ``None`` for a layer that cannot be read.
    """
    pack = _open(store, check)
    if pack is None:
        return
    spans = [None if one is None else CheckpointReader.of_blob(one.seek) for one in layers]
    for first in range(0, pack.frame_count, _FRAMES_AT_ONCE):
        numbers = range(first, min(first + _FRAMES_AT_ONCE, pack.frame_count))
        _compare(store, check, pack, spans, {one: list(pack.extents(one)) for one in numbers})


def sample_pack(store: Source, check: SeekTableCheck, *, seed: int) -> None:
    """Compare some parts of some frames of a pack with the layers.

    Args:
        store: store that contains the image.
        check: receives the findings; its layers have been sampled.
        seed: seed of the random numbers; equal seeds give equal samples.
    """
    pack = _open(store, check)
    if pack is None:
        return
    spans = [check.readable_contents.spans(number) for number in range(len(check.layers))]
    wanted: dict[int, list[Extent]] = {}
    for frame in sample(pack.frame_count, seed=seed, name=f"pack of {check.digest}"):
        extents = list(pack.extents(frame))
        # random hashes a text seed the same way in every process, and the sample is not secret.
        chance = random.Random(f"{seed} pack {frame}")  # noqa: S311
        chosen = chance.sample(extents, min(_EXTENTS_PER_FRAME, len(extents)))
        wanted[frame] = [one for one in chosen if _has_checkpoints(store, check, one)]
    _compare(store, check, pack, spans, wanted)


def _open(store: Source, check: SeekTableCheck) -> PackIndex | None:
    """Return the index of the pack; ``None`` if there is none, or it cannot be used."""
    manifest, contents = check.manifest, check.contents
    if manifest is None or contents is None or manifest.pack_index is None:
        return None  # what is damaged has been reported
    assert manifest.pack is not None  # noqa: S101 (there are both or none)
    try:
        pack = PackIndex(read_pack_index(store, manifest.pack_index))
    except SeekTableError as error:
        check.add("pack.index", error.message)
        return None
    except PROBLEMS as error:
        check.findings.append(unreadable(error, "pack_index", str(manifest.pack_index.digest)))
        return None
    check.frame_count = pack.frame_count
    try:
        pack.check_layers((layer.digest, layer.uncompressed_size) for layer in contents.layers)
    except VerificationError as error:
        check.add("pack.image", error.message, expected=error.expected, actual=error.actual)
        return None
    return pack if _is_stored(store, check, manifest.pack, pack.size) else None


def _is_stored(store: Source, check: SeekTableCheck, frames: Descriptor, size: int) -> bool:
    if frames.size != size:
        check.add(
            "pack.size",
            f"size of the pack is {frames.size} in the manifest, but {size} in its index",
            expected=str(size),
            actual=str(frames.size),
        )
        return False
    if not store.has_blob(frames):
        check.findings.append(missing("pack", frames))
        return False
    return True


def _has_checkpoints(store: Source, check: SeekTableCheck, extent: Extent) -> bool:
    """Add the chunks with the checkpoints that a part of a layer needs."""
    layer = check.layers[extent.layer]
    spans = check.readable_contents.spans(extent.layer)
    if spans is None or not store.has_blob(layer.blob) or not store.has_blob(layer.layer):
        return False  # reported with the layer
    return all(
        add_chunks(store, layer, spans, span) for span in spans.span_ids(extent.start, extent.end)
    )


def _compare(
    store: Source,
    check: SeekTableCheck,
    pack: PackIndex,
    spans: Sequence[CheckpointReader | None],
    wanted: dict[int, list[Extent]],
) -> None:
    """Compare parts of frames with the layers."""
    assert check.manifest is not None  # noqa: S101 (the pack was opened)
    assert check.manifest.pack is not None  # noqa: S101 (as above)
    readable = _readable(spans)
    frames: dict[int, list[tuple[Extent, bytes]]] = {}
    unread = False
    for number, extents in wanted.items():
        try:
            stored = store.blob_range(check.manifest.pack, *pack.frame_range(number))
            content = pack.open_frame(number, stored)
        except DAMAGED as error:
            check.add("pack.frame", f"pack frame {number}: {error.message}")
            continue
        except PROBLEMS as error:
            check.findings.append(unreadable(error, "pack", str(check.manifest.pack.digest)))
            return
        check.checked_frames += 1
        unread |= any(extent.layer not in readable for extent in extents)
        frames[number] = _parts(pack, number, content, extents, readable)
    if unread and not any(finding.kind == "pack.uncompared" for finding in check.findings):
        # Layers that cannot be read have been reported.
        text = f"seek table {check.digest}: parts of the pack are of layers without checkpoints"
        check.findings.append(warning("pack.uncompared", f"{text}, and were not compared"))
    try:
        found = read_extents(
            [[extent for extent, _ in parts] for parts in frames.values()],
            spans,
            lambda layer, *range_: store.blob_range(check.layers[layer].layer, *range_),
        )
    except _UNREADABLE as error:
        check.add("pack.layer", f"the pack cannot be compared with the layers: {error.message}")
        return
    for (number, parts), expected in zip(frames.items(), found, strict=True):
        _differences(check, number, parts, expected)


def _readable(spans: Sequence[CheckpointReader | None]) -> set[int]:
    """Return the numbers of the layers that can be read span by span."""
    return {number for number, one in enumerate(spans) if one is not None and one.sizes[0] != ZSTD}


def _parts(
    pack: PackIndex, frame: int, content: bytes, wanted: list[Extent], readable: set[int]
) -> list[tuple[Extent, bytes]]:
    """Return parts of a frame with their bytes, without those that cannot be read."""
    at, parts = 0, []
    chosen = set(wanted)
    for extent in pack.extents(frame):
        size = extent.end - extent.start
        if extent in chosen and extent.layer in readable:
            parts.append((extent, content[at : at + size]))
        at += size
    return parts


def _differences(
    check: SeekTableCheck, frame: int, parts: list[tuple[Extent, bytes]], expected: bytearray
) -> None:
    at = 0
    for extent, data in parts:
        correct = expected[at : at + len(data)]
        at += len(data)
        if data != correct:
            first = next(i for i in range(len(data)) if data[i] != correct[i])
            check.add(
                "pack.content",
                f"pack frame {frame}: byte {extent.start + first} of layer {extent.layer} is "
                f"{data[first]:#04x} in the pack, {correct[first]:#04x} in the layer",
                expected=f"{correct[first]:#04x}",
                actual=f"{data[first]:#04x}",
            )
            return
