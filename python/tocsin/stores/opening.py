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
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from tocsin.stores.base import Store
    from tocsin.stores.registry import RegistryOptions


def open_store(
    reference: Reference, *, write: bool = False, registry: RegistryOptions | None = None
) -> Store:
    """Return the Store that `reference` names; which image is meant is `reference.selector`.

    Args:
        reference: as `parse_reference` gives it.
        write: whether anything is to be put; a layout or OCI archive is then made if missing.
        registry: how to reach a registry, if it is one; nothing is asked of it yet.

    Raises:
        UnsupportedError: a docker archive to be written; a compressed archive.
        AuthError: only one of user name and password is given.
        FormatError: the file or directory is not what the reference says.
        OSError: it is missing or cannot be read.
    """
    match reference:
        case LayoutReference():
            return OciLayout(reference.path, write=write)
        case OciArchiveReference():
            from tocsin.stores.archive import OciArchive  # noqa: PLC0415 (as below)

            return OciArchive(reference.path, write=write)
        case DockerArchiveReference():
            if write:
                raise UnsupportedError(
                    f"docker-archive:{reference.path}: cannot be written",
                    hint="Write to oci-archive: or oci: and convert that with skopeo copy.",
                )
            from tocsin.stores.docker_archive import open_docker_archive  # noqa: PLC0415 (as below)

            return open_docker_archive(reference.path)
        case RegistryReference():
            # requests takes longer to import than a layout to be opened.
            from tocsin.stores.registry import open_repository  # noqa: PLC0415

            return open_repository(reference, registry, write=write)
