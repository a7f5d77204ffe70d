"""Images in OCI layouts, made of existing layers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tocsin.model.descriptor import Descriptor
from tocsin.model.go_json import encode
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def write_image(
    folder: Path, layers: Iterable[Path], *, tag: str, config: dict[str, Any] | None = None
) -> str:
    """Write a layout to `folder` with one image of the gzip layers; return its reference.

    Args:
        folder: the layout; made if it doesn't exist.
        layers: the compressed layers, the lowest first.
        tag: the image's tag.
        config: what its config has besides the platform; programs that unpack the image need
            `rootfs` with the digests of the layers' tars.
    """
    fields: dict[str, Any] = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}}
    data = encode(fields | (config or {}))
    with OciLayout(folder, write=True) as layout:
        blobs = tuple(layout.put_blob(_pieces(path), media_type=OCI_LAYER_GZIP) for path in layers)
        layout.put_blob(data)
        manifest = Manifest(Descriptor.of(data, OCI_CONFIG), blobs, media_type=OCI_MANIFEST)
        layout.put_manifest(manifest.to_json(), OCI_MANIFEST, tag=tag)
    return f"oci:{folder}:{tag}"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(partial(file.read, 1 << 20), b"")
