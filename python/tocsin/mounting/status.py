"""What a mount is doing: loaded completely or not, and why; what was fetched and read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocsin.model.document import Document
    from tocsin.mounting.registered import Registration

STARTING = "starting"
LAZY = "lazy"
COMPLETE = "complete"
DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountStatus:
    """The state of a mount.

    Sizes are in bytes as a registry stores them, that is, compressed. The counters of a mount whose
    process does not answer are 0.

    Attributes:
        directory: absolute path of the directory.
        image: reference of the image, as given.
        manifest: digest of the image's manifest; empty while the image is being opened.
        platform: platform of the image; empty if unknown.
        index: the index with which most of the image is read: ``seek`` for a seek table; ``v2``,
            ``v1`` or ``given`` for a SOCI index; ``made`` if layers were read in full; ``none`` for
            an image without layers; empty while the image is being opened.
        state: ``starting``; ``lazy`` if data is fetched when it is read; ``complete`` if all data
            is on this machine, so that no registry is needed; ``dead`` if the process of the mount
            has died, so that reads fail.
        reason: why the mount is in this state.
        pid: number of the mount's process.
        since: when the mount was requested, in seconds since 1970.
        cache_dir: directory of the cache.
        front: what the kernel mounts: ``fuse``, or ``erofs`` over the files of the layers.
        files: number of files and directories.
        background: whether the image is loaded in the background.
        bytes_total: size of all data of the image that can be fetched.
        bytes_fetched: bytes fetched by this mount.
        bytes_left: bytes that have not been fetched and are not in the cache.
        bytes_cached: bytes that an earlier mount, or another one, has left in the cache.
        fetches: requests for data.
        spans: number of spans of all layers.
        spans_here: number of spans that are on this machine.
        reads: reads by programs that reached the mount's process.
        reads_waiting: reads that are waiting for data now.
        hits: reads that did not wait for data.
        failures: fetches that failed; each was repeated, unless its reads had waited too long.
        last_error: why the last of them failed; ``None`` if none has.
        disk_error: why data is not kept on disk; ``None`` if it is.
        verified: in a snapshotter, whether the layers are those of the diff IDs in the image's
            config; ``None`` until all of them are on this machine.
        access_log: the access log whose files are loaded first: the path of a file, or the digest
            of a manifest that refers to the image; ``None`` if there is none.
        pack: the state of the image's pack; ``None`` without one. Its keys are ``size``,
            ``bytes_left``, ``reads`` (reads that were served from it), ``state`` and ``problem``.
    """

    directory: str
    image: str
    manifest: str
    platform: str
    index: str
    state: str
    reason: str
    pid: int
    since: float
    cache_dir: str
    front: str
    files: int = 0
    background: bool = False
    bytes_total: int = 0
    bytes_fetched: int = 0
    bytes_left: int = 0
    bytes_cached: int = 0
    fetches: int = 0
    spans: int = 0
    spans_here: int = 0
    reads: int = 0
    reads_waiting: int = 0
    hits: int = 0
    failures: int = 0
    last_error: str | None = None
    disk_error: str | None = None
    verified: bool | None = None
    access_log: str | None = None
    pack: Document | None = None

    @property
    def hit_rate(self) -> float | None:
        """Fraction of the reads that did not wait for data; ``None`` without reads."""
        return self.hits / self.reads if self.reads else None

    def to_dict(self) -> Document:
        """Return what ``tocsin status --json`` prints."""
        rate = self.hit_rate
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "hit_rate": None if rate is None else round(rate, 4)}

    @classmethod
    def from_dict(cls, document: Document) -> MountStatus:
        """Return the status that `to_dict` returned as a document.

        Raises:
            TypeError, KeyError: it is not one.
        """
        return cls(**{each.name: document[each.name] for each in fields(cls)})


def of_live(
    registration: Registration,
    counters: dict[str, Any],
    *,
    background: bool,
    access_log: str | None = None,
    verified: bool | None = None,
    problem: str | None = None,
) -> MountStatus:
    """Return the status of a mount, from the counters of the core.

    Args:
        registration: its description.
        counters: the counters.
        background: whether it is loaded in the background.
        access_log: the access log in use.
        verified: as in `MountStatus`.
        problem: why the layers are not those of the image's config; ``None`` if they are.
    """
    total, left = counters["bytes_total"], counters["bytes_left"]
    fetched = counters["bytes_fetched"]
    is_complete = counters["complete"]
    if problem is not None:
        reason = f"no other image may use its layers: {problem}"
    elif is_complete:
        reason = "all data is on this machine; the registry is no longer needed"
    elif not background:
        reason = "data is fetched when it is read; background loading is off"
    elif counters["disk_error"] is not None:
        reason = f"data is fetched when it is read: {counters['disk_error']}"
    elif counters["last_error"] is not None and counters["failures"]:
        reason = "loading in the background; a fetch failed"
    else:
        reason = "loading in the background"
    same = {
        name: counters[name]
        for name in (
            *("fetches", "spans", "spans_here", "reads", "reads_waiting", "hits", "failures"),
            *("last_error", "disk_error", "pack"),
        )
    }
    return MountStatus(
        **_described(registration),
        state=COMPLETE if is_complete else LAZY,
        reason=reason,
        background=background,
        access_log=access_log,
        verified=verified,
        bytes_total=total,
        bytes_fetched=fetched,
        bytes_left=left,
        bytes_cached=max(0, total - left - fetched),
        **same,
    )


def of_silent(registration: Registration) -> MountStatus:
    """Return the status of a mount whose process does not answer."""
    if registration.is_alive and not registration.needs_process:
        return MountStatus(
            **_described(registration),
            state=COMPLETE,
            reason="all data is on this machine; neither the registry nor a process is needed",
            bytes_total=registration.size,
            bytes_cached=registration.size,
            verified=registration.verified,
        )
    if not registration.is_alive:
        state = DEAD
        reason = "the process of the mount has died"
        if not registration.needs_process:
            reason = "the mount is gone"
    elif not registration.mounted:
        state, reason = STARTING, "the image is being opened"
    else:
        state, reason = LAZY, "the process of the mount does not answer"
    return MountStatus(**_described(registration), state=state, reason=reason)


def _described(registration: Registration) -> dict[str, Any]:
    names = (
        *("directory", "image", "manifest", "platform", "index", "pid", "since", "cache_dir"),
        *("front", "files"),
    )
    return {name: getattr(registration, name) for name in names}
