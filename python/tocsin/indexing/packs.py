"""Makes the pack of an image: what a recorded program read from it.

Source: docs/pack.md#making-a-pack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.layers.pack import PackPlan
from tocsin.model.seek_manifest import PACK_FRAMES, PACK_INDEX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.images.selection import PlatformImage
    from tocsin.layers.seek_table import SeekParts, SeekTableBlobs
    from tocsin.model.access_log import AccessLog
    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.base import Sink, Source


@dataclass(frozen=True, slots=True)
class MadePack:
    """A pack whose blobs are stored, or why there is none.

    Attributes:
        index: descriptor of its index; ``None`` if there is no pack.
        frames: descriptor of its frames; ``None`` if there is no pack.
        notes: what is not in it, and why.
    """

    index: Descriptor | None = None
    frames: Descriptor | None = None
    notes: tuple[str, ...] = ()


def make_pack(
    source: Source,
    sink: Sink,
    image: PlatformImage,
    log: AccessLog,
    *,
    table: SeekTableBlobs,
    layers: Sequence[SeekParts],
    descriptors: Sequence[Descriptor],
) -> MadePack:
    """Make the pack of an image and store its blobs.

    Args:
        source: store with the image.
        sink: destination of the blobs.
        image: the image.
        log: what was recorded.
        table: the seek table of the image.
        layers: the parts of its layers, from the lowest up.
        descriptors: the descriptors of the same layers.

    Raises:
        VerificationError, FormatError, SeekTableError: a layer differs from its seek table.
        NotFoundError, RegistryError, OSError: a layer cannot be read.
    """
    wanted, own = log.platform, image.platform
    if wanted is not None and own is not None and not wanted.matches(own):
        return MadePack(notes=(f"no pack: the list was recorded on {wanted}",))
    plan = PackPlan(table, layers, log.reads)
    notes = []
    if plan.unknown:
        notes.append(
            f"pack: {plan.unknown} of {len(log.reads)} reads are of files not in the image"
        )
    if plan.unusable:
        notes.append(
            f"pack: {plan.unusable} of {len(log.reads)} reads are of zstd layers, which mounts "
            "read in full"
        )
    if plan.left_out:
        notes.append(f"pack: {plan.left_out} bytes do not fit")
    if not plan.frames:
        return MadePack(notes=(*notes, "no pack: no file in the list can be packed"))
    pack = plan.make(lambda layer, start, end: source.blob_range(descriptors[layer], start, end))
    sink.put_blob(pack.index, media_type=PACK_INDEX)
    sink.put_blob(pack.frames, media_type=PACK_FRAMES)
    return MadePack(pack.index_descriptor, pack.frames_descriptor, tuple(notes))
