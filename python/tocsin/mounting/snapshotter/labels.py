"""The labels with which containerd says which layer of which image a snapshot is for.

Source: containerd/containerd, pkg/snapshotters/annotations.go;
containerd/stargz-snapshotter, fs/source/source.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGET = "containerd.io/snapshot.ref"
"""Chain ID of the layer that is to be unpacked into a snapshot."""
REMOTE = "containerd.io/snapshot/remote"
"""Marks a snapshot that was not unpacked; its value is the snapshotter."""
LAZY = "dev.tocsin/lazy"
"""Whether a snapshot, or anything below it, is mounted lazily: ``true`` or ``false``."""
REASON = "dev.tocsin/reason"
"""Why a snapshot is not mounted lazily."""
UID_MAPPING = "containerd.io/snapshot/uidmapping"
GID_MAPPING = "containerd.io/snapshot/gidmapping"
SNAPSHOTTER = "tocsin"

_CRI = "containerd.io/snapshot/cri."
_STARGZ = "containerd.io/snapshot/remote/stargz."
_OWN = (LAZY, REASON, REMOTE)
_MAX_REASON_LEN = 500
"""Maximum characters of a reason; containerd allows 4096 for a label with its name."""
_MAX_LAYERS = 1000
_MAX_ID = (1 << 32) - 2
_MAX_MAPPINGS = 340
"""Maximum ranges in a mapping. Source: Linux man-pages, user_namespaces(7)."""


@dataclass(frozen=True, slots=True)
class Target:
    """The layer that a snapshot is prepared for.

    Attributes:
        chain_id: its chain ID.
        reference: reference of its image, as containerd was asked for it; empty if unknown.
        manifest: digest of the platform's manifest; ``None`` if unknown.
        layers: digests of this layer and of those above it, as far as they are known.
    """

    chain_id: str
    reference: str
    manifest: str | None
    layers: tuple[str, ...]


def target_of(labels: Mapping[str, str]) -> Target | None:
    """Return the layer that a snapshot is prepared for; ``None`` if it is for a container."""
    chain_id = labels.get(TARGET)
    if not chain_id:
        return None
    layers = labels.get(f"{_CRI}image-layers") or labels.get(f"{_STARGZ}layers") or ""
    layer = labels.get(f"{_CRI}layer-digest") or labels.get(f"{_STARGZ}digest") or ""
    digests = [digest for digest in layers.split(",", _MAX_LAYERS)[:_MAX_LAYERS] if digest]
    if layer and layer not in digests:
        digests.insert(0, layer)
    return Target(
        chain_id, reference_of(labels), labels.get(f"{_CRI}manifest-digest") or None, tuple(digests)
    )


def reference_of(labels: Mapping[str, str]) -> str:
    """Return the reference of the image that a layer was prepared for; empty if unknown."""
    return labels.get(f"{_CRI}image-ref") or labels.get(f"{_STARGZ}reference") or ""


def is_for_layer(key: str) -> bool:
    """Return whether a snapshot is for a layer, whose labels may be missing: as in containerd 1.6.

    Source: containerd/containerd, core/metadata/snapshot.go; containerd/containerd,
    core/snapshots/snapshotter.go. Keys are ``NAMESPACE/NUMBER/extract-… CHAIN-ID``.
    """
    return key.split("/", 2)[-1].startswith("extract-")


def with_origin(labels: Mapping[str, str], *, lazy: bool, reason: str = "") -> dict[str, str]:
    """Return labels together with those that say whether a snapshot is lazy, and why not."""
    added = {LAZY: "true" if lazy else "false", REASON: reason[:_MAX_REASON_LEN]}
    return {**without_own(labels), **added}


def without_own(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels without those that only this snapshotter sets."""
    return {name: value for name, value in labels.items() if name not in _OWN}


def kept(labels: Mapping[str, str], *, stub: bool) -> dict[str, str]:
    """Return the labels of a snapshot that no request may change.

    Those by which containerd finds a stub are among them.
    """
    names = (*_OWN, TARGET) if stub else _OWN
    return {name: labels[name] for name in names if name in labels}


def root_owner(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the user and group on the machine that are root in a container's user namespace.

    Returns:
        ``None`` if the labels have no mapping.

    Raises:
        ValueError: a mapping is missing, or not valid.
    """
    users, groups = labels.get(UID_MAPPING), labels.get(GID_MAPPING)
    if users is None and groups is None:
        return None
    return _root_of(users or ""), _root_of(groups or "")


def _root_of(mapping: str) -> int:
    """Parse ``container:host:size,…``. Source: containerd/containerd, internal/userns/idmap.go."""
    for text in mapping.split(",", _MAX_MAPPINGS)[:_MAX_MAPPINGS]:
        inside, outside, size = map(_number, text.split(":"))
        if inside == 0 and size > 0:
            return outside
    raise ValueError("no ID is mapped to root")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_ID))):
        raise ValueError("not a number")
    number = int(text)
    if number > _MAX_ID:
        raise ValueError("number too large")
    return number
