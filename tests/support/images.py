"""Small generated images that can be put into any store."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from tocsin.model.platform import Platform, write_platform

if TYPE_CHECKING:
    from tocsin.stores.base import Sink


def layer_tar(files: dict[str, bytes]) -> bytes:
    """Return a tar of `files`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@dataclass(frozen=True)
class Image:
    """The blobs of one platform's image."""

    layers: tuple[bytes, ...]
    layer_descriptors: tuple[Descriptor, ...]
    config: bytes
    manifest: bytes
    media_type: str = OCI_MANIFEST

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor.of(self.manifest, self.media_type)

    def put(self, store: Sink, tag: str | None = None) -> Descriptor:
        """Put blobs, then the manifest."""
        for layer, descriptor in zip(self.layers, self.layer_descriptors, strict=True):
            store.put_blob(layer, digest=descriptor.digest, size=descriptor.size)
        store.put_blob(self.config)
        return store.put_manifest(self.manifest, self.media_type, tag=tag)


def make_image(
    *contents: dict[str, bytes], platform: str = "linux/amd64", compress: bool = True
) -> Image:
    """Return an image with one layer for each of `contents`."""
    parsed = Platform.parse(platform)
    tars = [layer_tar(files) for files in contents or ({"a": b"hello"},)]
    layers = tuple(gzip.compress(t, mtime=0) if compress else t for t in tars)
    media_type = OCI_LAYER_GZIP if compress else OCI_LAYER
    descriptors = tuple(Descriptor.of(layer, media_type) for layer in layers)
    config = json.dumps(
        {
            **write_platform(parsed),
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(t)) for t in tars]},
            "config": {},
        }
    ).encode()
    manifest = Manifest(Descriptor.of(config, OCI_CONFIG), descriptors, media_type=OCI_MANIFEST)
    return Image(layers, descriptors, config, manifest.to_json())


def image_of(
    *layers: tuple[bytes, str], platform: str = "linux/amd64", docker: bool = False
) -> Image:
    """Return an image with arbitrary layers, each given as bytes and media type."""
    parsed = Platform.parse(platform)
    descriptors = tuple(Descriptor.of(layer, media_type) for layer, media_type in layers)
    # The diff IDs are not checked here, but their number must match the layers.
    diff_ids = [str(descriptor.digest) for descriptor in descriptors]
    config = json.dumps(
        {**write_platform(parsed), "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    config_type, media_type = (
        (DOCKER_CONFIG, DOCKER_MANIFEST) if docker else (OCI_CONFIG, OCI_MANIFEST)
    )
    manifest = Manifest(Descriptor.of(config, config_type), descriptors, media_type=media_type)
    blobs = tuple(layer for layer, _ in layers)
    return Image(blobs, descriptors, config, manifest.to_json(), media_type)


def put_index(
    store: Sink,
    images: dict[str, Image],
    tag: str | None = None,
    *,
    more: tuple[Descriptor, ...] = (),
    docker: bool = False,
) -> Descriptor:
    """Put a multi-platform image: one entry per platform and image, then the entries `more`."""
    entries = []
    for platform, image in images.items():
        put = image.put(store)
        entries.append(
            Descriptor(put.media_type, put.digest, put.size, platform=Platform.parse(platform))
        )
    media_type = DOCKER_INDEX if docker else OCI_INDEX
    index = ImageIndex((*entries, *more), media_type)
    return store.put_manifest(index.to_json(), media_type, tag=tag)


def referrer_to(subject: Descriptor, artifact_type: str) -> bytes:
    """Return a manifest that refers to `subject`; its only blob is ``{}``."""
    return Manifest(
        Descriptor.of(b"{}", artifact_type),
        (),
        media_type=OCI_MANIFEST,
        subject=subject,
        annotations={"made-by": "test"},
    ).to_json()
