"""The labels by which containerd's garbage collector finds what a blob needs.

Source: containerd/containerd, docs/garbage-collection.md; containerd/containerd,
core/images/mediatypes.go.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tocsin.errors import FormatError
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import DOCKER_CONFIG, OCI_CONFIG, is_layer, is_manifest

if TYPE_CHECKING:
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.manifest import Manifest

_REFERENCE = "containerd.io/gc.ref.content."
EXPIRY = "containerd.io/gc.expire"
"""Label of a lease: the time after which it protects nothing."""
_REFERRER = f"{_REFERENCE}tocsin."
"""Prefix of the label of an image's manifest that keeps one of its indexes."""
SOCI_INDEXES = f'labels."{_REFERENCE}ztoc.0"'
"""Filter for version 1 indexes that ``soci create`` stored, by a label that it sets.

Source: awslabs/soci-snapshotter, soci/soci_index.go.
"""


def child_labels(document: Manifest | ImageIndex) -> dict[str, str]:
    """Return the labels that keep everything a manifest or image index lists.

    For images, containerd sets the same labels when it pulls them. For blobs of other types, it
    sets labels that ``ctr content prune references`` takes for those of layers and removes.
    """
    if isinstance(document, ImageIndex):
        children = document.manifests or ()
    else:
        children = (document.config, *(document.layers or ()))
    counts: Counter[str] = Counter()
    labels = {}
    for child in children:
        kind = _kind(child)
        labels[f"{_REFERENCE}{kind}" + _number(kind, counts[kind])] = str(child.digest)
        counts[kind] += 1
    return labels


def referrer_label(referrer: Digest) -> str:
    """Return the name of the label of an image's manifest that keeps one of its indexes."""
    return f"{_REFERRER}{referrer.hex}"


def referrer_in(label: str) -> Digest | None:
    """Return the digest in the name of a label that `referrer_label` made; ``None`` for others."""
    if not label.startswith(_REFERRER):
        return None
    try:
        return Digest.parse(f"sha256:{label.removeprefix(_REFERRER)}")
    except FormatError:
        return None


def _kind(child: Descriptor) -> str:
    if child.media_type in (OCI_CONFIG, DOCKER_CONFIG):
        return "config"
    if is_manifest(child.media_type):
        return "m."
    return "l." if is_layer(child.media_type) else "blob."


def _number(kind: str, count: int) -> str:
    return "" if kind == "config" and not count else str(count)
