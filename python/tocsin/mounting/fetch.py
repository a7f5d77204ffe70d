"""Downloading a whole image into the cache, as a mount does in the background."""

from __future__ import annotations

import errno
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.errors import NotFoundError, RegistryError
from tocsin.layers.cache_contents import prune_cache
from tocsin.layers.cache_space import disk_size
from tocsin.layers.inflated_layers import DATA
from tocsin.model.document import seconds_of, text_of
from tocsin.model.events import Advanced
from tocsin.mounting.engine import Engine
from tocsin.mounting.opening import open_for_mount

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.model.events import Progress
    from tocsin.model.platform import Platform
    from tocsin.mounting.opening import OpenedImage
    from tocsin.mounting.options import MountOptions

_POLL_INTERVAL = 0.02
"""Seconds between two checks of the progress; short, since a cached image takes no longer."""
_MAX_FAILURES = 12
"""Number of requests that may fail since data arrived last; each was repeated by the transport."""


@dataclass(frozen=True, slots=True)
class FetchedLayer:
    """A layer that is in the cache.

    Attributes:
        descriptor: descriptor of the layer in the image's manifest.
        index: the index with which it was read, as in ``ImageLayer``.
        disk_size: bytes on the disk.
    """

    descriptor: Descriptor
    index: str
    disk_size: int

    def to_dict(self) -> Document:
        """Return the document; see docs/json.md."""
        return {**self.descriptor.to_dict(), "index": self.index, "disk_size": self.disk_size}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    """The result of downloading an image into the cache.

    Attributes:
        image: reference of the image.
        manifest: digest of the manifest.
        platform: platform of the image; ``None`` if unknown.
        cache_dir: the cache directory.
        layers: the layers, from the lowest up.
        bytes_total: size of all data of the image, as the registry stores it.
        bytes_fetched: bytes that were fetched.
        fetches: number of requests for data.
        seconds: wall time.
        notes: messages for the user.
    """

    image: str
    manifest: Digest
    platform: Platform | None
    cache_dir: Path
    layers: tuple[FetchedLayer, ...]
    bytes_total: int
    bytes_fetched: int
    fetches: int
    seconds: float
    notes: tuple[str, ...]

    def to_dict(self) -> Document:
        """Return the document that ``tocsin fetch --json`` prints; see docs/json.md."""
        return {
            "image": self.image,
            "manifest": str(self.manifest),
            "platform": text_of(self.platform),
            "cache_dir": str(self.cache_dir),
            "layers": [layer.to_dict() for layer in self.layers],
            "bytes_total": self.bytes_total,
            "bytes_fetched": self.bytes_fetched,
            "fetches": self.fetches,
            "seconds": seconds_of(self.seconds),
            "notes": list(self.notes),
        }


def fetch_image(
    options: MountOptions,
    *,
    note: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> FetchResult:
    """Download an image into the cache, and return when all of it is verified and inflated.

    What is in the cache already is not fetched again. If this fails, what was fetched stays there.
    Other images that were used least recently are removed if the cache is larger than its limit.

    Args:
        options: options of a mount of the image.
        note: called with messages for the user.
        progress: called while data arrives.

    Raises:
        NotFoundError: the image, platform or index is missing.
        FormatError, UnsupportedError, VerificationError: a layer or an index is damaged or is not
            supported.
        RegistryError, OSError: data cannot be fetched, or the cache cannot be written to.
    """
    begun = time.monotonic()
    notes: dict[str, None] = {}

    def keep(text: str) -> None:
        if text not in notes and note is not None:
            note(text)
        notes[text] = None

    with ExitStack() as stack:
        # A pack would only be downloaded in addition to the layers.
        opened = open_for_mount(options, note=keep, progress=progress, with_pack=False)
        stack.callback(opened.close)
        if any(layer.directory is None for layer in opened.layers):
            raise _cache_error("cannot be written to", options)
        engine = Engine(opened, options, keep)
        stack.callback(engine.close)
        # The layers of this image are pinned now.
        with suppress(OSError):
            prune_cache(options.cache_dir, max_size=options.cache_size)
        engine.start()
        status = _wait_until_complete(engine, options, progress)
        return FetchResult(
            image=str(options.reference),
            manifest=opened.image.descriptor.digest,
            platform=opened.image.platform,
            cache_dir=options.cache_dir,
            layers=_layers(opened),
            bytes_total=status["bytes_total"],
            bytes_fetched=status["bytes_fetched"],
            fetches=status["fetches"],
            seconds=time.monotonic() - begun,
            notes=tuple(notes),
        )


def _wait_until_complete(
    engine: Engine, options: MountOptions, progress: Progress | None
) -> dict[str, Any]:
    arrived, failures, changed = -1, 0, 0.0
    while True:
        status = engine.status()
        total = status["bytes_total"]
        here = total - status["bytes_left"]
        if here != arrived:
            arrived, failures, changed = here, status["failures"], time.monotonic()
            if progress is not None:
                progress(Advanced(here, total))
        # First, since an image that fits into memory is complete even if the disk is full.
        if status["disk_error"] is not None:
            raise _cache_error(status["disk_error"], options)
        if status["complete"]:
            return status
        failure = engine.failure
        if failure is not None and _is_final(failure):
            raise failure
        is_slow = time.monotonic() - changed > options.read_timeout
        if is_slow or status["failures"] - failures > _MAX_FAILURES:
            raise failure or RegistryError(
                f"{options.reference}: the rest of the image cannot be fetched: "
                f"{status['last_error'] or 'no data arrives'}",
                temporary=True,
            )
        time.sleep(_POLL_INTERVAL)


def _is_final(failure: Exception) -> bool:
    """Return whether the same request would fail again."""
    if isinstance(failure, RegistryError):
        return not failure.temporary
    return isinstance(failure, NotFoundError | OSError)


def _cache_error(reason: str, options: MountOptions) -> OSError:
    return OSError(errno.EIO, f"the cache cannot hold the image: {reason}", str(options.cache_dir))


def _layers(opened: OpenedImage) -> tuple[FetchedLayer, ...]:
    return tuple(
        FetchedLayer(layer.descriptor, layer.index_origin, _size_of(source.directory))
        for layer, source in zip(opened.image.layers, opened.layers, strict=True)
    )


def _size_of(directory: str | None) -> int:
    return 0 if directory is None else disk_size((Path(directory) / DATA).stat())
