"""Registries filled with images that share layers, and what a fleet made of them."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from support.images import make_image
from support.registry import Registry, digest_of
from tocsin.model.reference import parse_registry_name
from tocsin.stores.registry import open_repository

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.images import Image


def _content(name: str, size: int) -> dict[str, bytes]:
    """Return one file of `size` bytes that do not compress, the same each time."""
    return {name: random.Random(name).randbytes(size)}  # noqa: S311 (not a secret)


@cache
def layer(name: str, size: int = 20_000) -> bytes:
    """Return the layer with a name."""
    return make_image(_content(name, size)).layers[0]


def image(*layers: str, size: int = 20_000) -> Image:
    """Return an image with the named layers."""
    return make_image(*(_content(name, size) for name in layers))


def put(host: str, repository: str, *layers: str, tag: str = "1", size: int = 20_000) -> str:
    """Push an image and return its digest."""
    made = image(*layers, size=size)
    with open_repository(parse_registry_name(f"{host}/{repository}"), write=True) as store:
        return str(made.put(store, tag).digest)


def blobs_read(registry: Registry) -> Counter[str]:
    """Return how often each blob was read in full."""
    read: Counter[str] = Counter()
    for request in registry.asked("GET", r"/blobs/sha256:"):
        if request.status == 200:
            read[request.path.rpartition("/")[2]] += 1
    return read


def layer_digests(names: Iterable[str], size: int = 20_000) -> list[str]:
    """Return the digests of layers."""
    return [digest_of(layer(name, size)) for name in names]


def soci_indexes(registry: Registry, repository: str) -> dict[str, list[str]]:
    """Return, for each subject, the digests of the layers with a zTOC in its SOCI index."""
    found: dict[str, list[str]] = {}
    for _, data in registry.repository(repository).manifests.values():
        document = json.loads(data)
        kind = document.get("config", {}).get("mediaType", "")
        if kind == "application/vnd.amazon.soci.index.v1+json":
            subject = document["subject"]["digest"]
            assert subject not in found, "more than one index"
            found[subject] = [
                entry["annotations"]["com.amazon.soci.image-layer-digest"]
                for entry in document["layers"]
            ]
    return found
