"""From a reference to the Store it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError
from tocsin.model.reference import (
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    Reference,
    RegistryReference,
)
from tocsin.stores.archive import OciArchive
from tocsin.stores.docker_archive import open_docker_archive
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from tocsin.stores.base import Store


def open_store(reference: Reference, *, write: bool = False) -> Store:
    """Return the Store that `reference` names; which image is meant is `reference.selector`.

    Args:
        reference: as `parse_reference` gives it.
        write: whether anything is to be put; a layout or OCI archive is then made if missing.

    Raises:
        UnsupportedError: a registry, which comes with a later release; a docker archive to be
            written; a compressed archive.
        FormatError: the file or directory is not what the reference says.
        OSError: it is missing or cannot be read.
    """
    match reference:
        case LayoutReference():
            return OciLayout(reference.path, write=write)
        case OciArchiveReference():
            return OciArchive(reference.path, write=write)
        case DockerArchiveReference():
            if write:
                raise UnsupportedError(
                    f"docker-archive:{reference.path}: cannot be written; write to oci-archive: or "
                    "oci: and convert with skopeo copy"
                )
            return open_docker_archive(reference.path)
        case RegistryReference():
            raise UnsupportedError(
                f"{reference}: registries come with a later release; copy the image to a directory "
                f"first: skopeo copy --all {reference} oci:DIR:tag"
            )
