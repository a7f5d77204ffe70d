"""Docker archives, as written by ``docker save``, podman and skopeo; read-only.

Newer archives contain an OCI layout, which is read with the image's own manifest. Older ones
contain only ``manifest.json``, a config and layers, usually as plain tars. For these **an OCI
manifest is created**. The digest of a plain-tar layer is the diff id in the config, and its media
type is ``application/vnd.oci.image.layer.v1.tar``; so it gets a plain-tar zTOC, and the converted
image is a valid OCI image. (``skopeo copy`` compresses layers, so its digests differ.) A layer
compressed with gzip or zstd is not decompressed. Its digest is not in the config, so the layer is
read once to compute it when the archive is opened.

The whole archive may be compressed with gzip or zstd, as nix and ``docker save | gzip``
produce it. It is unpacked into a temporary file each time it is opened.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import FormatError
from tocsin.model.compression import GZIP, HEAD_SIZE, ZSTD, compression_of
from tocsin.model.descriptor import Descriptor, write_descriptor
from tocsin.model.digest import Digest
from tocsin.model.fields import Fields
from tocsin.model.go_json import MAX_SIZE, decode_object
from tocsin.model.image_config import MAX_CONFIG_SIZE, ImageConfig
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from tocsin.quoting import shown
from tocsin.stores.archive import OciArchive
from tocsin.stores.file_store import FileSource
from tocsin.stores.layout_index import IMAGE_NAME, REF_NAME, LayoutIndex
from tocsin.stores.origins import ArchiveOrigin
from tocsin.stores.tar_members import TarMembers
from tocsin.stores.verification import check
from tocsin.stores.window import MemoryWindow

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.stores.window import Window

_WHAT = "archive"
_NAMED_BY_DIGEST = re.compile(r"(?:.*[/:])?([0-9a-f]{64})(?:\.json)?")


def open_docker_archive(path: Path) -> FileSource:
    """Open a docker archive in the old or the new format.

    Raises:
        OSError: the file cannot be read.
        FormatError: not a docker archive; `what` is ``archive``, ``layout`` or ``config``.
        UnsupportedError: the archive is compressed, but not with gzip or zstd.
        VerificationError: a config does not match the digest in its name.
    """
    members = TarMembers(path, unpack=True)
    if "index.json" in members and "oci-layout" in members:
        return OciArchive(path, name=f"docker-archive:{path}", members=members)
    try:
        return DockerArchive(path, members)
    except BaseException:
        members.close()
        raise


class DockerArchive(FileSource):
    """A docker archive in the old format; see `Source` for the contract of each method.

    Args:
        path: path of the file.
        members: members of the archive; `close` closes them.
    """

    def __init__(self, path: Path, members: TarMembers) -> None:
        super().__init__(f"docker-archive:{path}")
        self._path = path
        self._members = members
        self._blobs: dict[Digest, Window] = {}
        entries = []
        for image in self._read_images():
            descriptor = self._make_manifest(image)
            for tag in image.tags or [""]:
                names = {REF_NAME: tag, IMAGE_NAME: tag} if tag else {}
                struct = write_descriptor(descriptor)
                entries.append({**struct, "annotations": names} if names else struct)
        self._made_index = LayoutIndex.from_document(
            {**LayoutIndex.empty().document, "manifests": entries}
        )

    @property
    def origin(self) -> ArchiveOrigin:
        """The file, and the position of each blob in it or in memory."""
        return ArchiveOrigin(self._path, self._window)

    def close(self) -> None:
        """Close the file."""
        self._members.close()

    def _window(self, digest: Digest) -> Window:
        try:
            return self._blobs[digest]
        except KeyError:
            raise FileNotFoundError(str(digest)) from None

    def _index(self) -> LayoutIndex:
        return self._made_index

    def _read_images(self) -> list[_SavedImage]:
        if "manifest.json" not in self._members:
            raise FormatError(
                f"{self._name}: not a docker archive: manifest.json is missing", what=_WHAT
            )
        data = self._members.read("manifest.json", max_size=MAX_SIZE)
        # The document is a list, but the decoder and its checks expect an object.
        document = decode_object(b'{"images":' + data + b"}", what=_WHAT, max_size=MAX_SIZE + 11)
        fields = Fields(document, what=_WHAT, place=f"{self._name}: manifest.json")
        return [
            _SavedImage(f.text("Config"), f.texts("RepoTags"), f.texts("Layers"))
            for f in fields.children("images") or ()
        ]

    def _make_manifest(self, image: _SavedImage) -> Descriptor:
        config = self._members.read(image.config, max_size=MAX_CONFIG_SIZE)
        place = f"{self._name}: config {shown(image.config)}"
        named = _NAMED_BY_DIGEST.fullmatch(image.config)
        check(config, place=place, digest=Digest(named[1]) if named else None, size=None)
        diff_ids = ImageConfig.from_json(config).diff_ids
        if len(diff_ids) != len(image.layers):
            raise FormatError(
                f"{place}: lists {len(diff_ids)} diff ids, but manifest.json lists "
                f"{len(image.layers)} layers",
                what=_WHAT,
            )
        layers = tuple(map(self._add_layer, image.layers, diff_ids))
        manifest = Manifest(Descriptor.of(config, OCI_CONFIG), layers, media_type=OCI_MANIFEST)
        data = manifest.to_json()
        self._blobs[manifest.config.digest] = MemoryWindow.of(config)
        self._blobs[Digest.of(data)] = MemoryWindow.of(data)
        return Descriptor.of(data, OCI_MANIFEST)

    def _add_layer(self, name: str, diff_id: Digest) -> Descriptor:
        window = self._members.window(name)
        compression = compression_of(window.read(0, HEAD_SIZE))
        suffix = f"+{compression}" if compression in (GZIP, ZSTD) else ""
        digest = _digest_of(window) if suffix else diff_id
        self._blobs[digest] = window
        return Descriptor(OCI_LAYER + suffix, digest, window.size)


@dataclass(frozen=True, slots=True)
class _SavedImage:
    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]


def _digest_of(window: Window) -> Digest:
    hasher = hashlib.sha256()
    for piece in window.pieces():
        hasher.update(piece)
    return Digest(hasher.hexdigest())
