"""What ``docker save``, podman and skopeo write as ``docker-archive``; read only.

Newer ones hold an OCI layout, and that is what is read: the image's own manifest, whatever its
layers are. Older ones hold no manifest at all, only ``manifest.json``, a config and layers, mostly
plain tars. For these **a manifest is made here**, an OCI one: a plain tar of a layer has the digest
its config lists as diff id and the type ``application/vnd.oci.image.layer.v1.tar``, so it gets a
plain-tar zTOC, and what is converted from it is a valid OCI image. (skopeo would compress instead,
so digests differ from ``skopeo copy``.) A layer that is gzip or zstd inside keeps its bytes and is
named by their digest, which takes one reading when the archive is opened.

An archive may be compressed as a whole, with gzip or zstd, as nix and ``docker save | gzip`` leave
it. It is unpacked into a temporary file each time it is opened.
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
    """Return the source that a docker archive is, of the old or the new form.

    Raises:
        OSError: it cannot be read.
        FormatError: it is none; `what` is ``archive``, ``layout`` or ``config``.
        UnsupportedError: it is compressed with something else than gzip or zstd.
        VerificationError: a config is not what its name says.
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
    """A docker archive of the old form; see `Source` for what each method promises.

    Args:
        path: of the file.
        members: of the archive; closed with this.
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
        """The file, and what lies in it or was made of it."""
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
                f"{self._name}: is no docker archive, it has no member manifest.json", what=_WHAT
            )
        data = self._members.read("manifest.json", max_size=MAX_SIZE)
        # The document is a list; the reader of objects does its checks just as well around it.
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
                f"{place}: lists {len(diff_ids)} diff ids, manifest.json has "
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
