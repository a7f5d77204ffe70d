"""Opening the store that a reference names, for reading or writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError
from tocsin.model.reference import (
    ContainerdReference,
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    Reference,
    RegistryReference,
)
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from tocsin.stores.base import Sink, Source
    from tocsin.stores.registry import RegistryOptions


def open_source(reference: Reference, *, registry: RegistryOptions | None = None) -> Source:
    """Open the store that `reference` names for reading; `reference.selector` names the image.

    Args:
        reference: a reference, as `parse_reference` returns it.
        registry: options for a registry. Opening a registry does not send a request.

    Raises:
        UnsupportedError: the archive is compressed, or the packages for containerd are missing.
        AuthError: only one of user name and password is given.
        FormatError: the file or directory does not have the format that the reference states.
        ContainerdError: containerd cannot be reached.
        OSError: the file or directory is missing or cannot be read.
    """
    match reference:
        case LayoutReference():
            return OciLayout(reference.path)
        case OciArchiveReference():
            from tocsin.stores.archive import OciArchive  # noqa: PLC0415 (as below)

            return OciArchive(reference.path)
        case DockerArchiveReference():
            from tocsin.stores.docker_archive import open_docker_archive  # noqa: PLC0415 (as below)

            return open_docker_archive(reference.path)
        case ContainerdReference():
            # Importing gRPC takes longer than opening a layout, and it may not be installed.
            from tocsin.stores.containerd import open_containerd  # noqa: PLC0415

            return open_containerd(reference)
        case RegistryReference():
            # Importing the requests library takes longer than opening a layout.
            from tocsin.stores.registry import open_for_reading  # noqa: PLC0415

            return open_for_reading(reference, registry)


def open_sink(reference: Reference, *, registry: RegistryOptions | None = None) -> Sink:
    """Open the store that `reference` names for writing; a missing layout or archive is created.

    Args:
        reference: a reference, as `parse_reference` returns it.
        registry: options for a registry. Opening a registry does not send a request.

    Raises:
        UnsupportedError: a docker archive; an OCI archive that is compressed or has members that
            do not belong to a layout; or the packages for containerd are missing.
        AuthError: only one of user name and password is given.
        FormatError: the file or directory does not have the format that the reference states.
        ContainerdError: containerd cannot be reached.
        OSError: the file or directory cannot be read.
    """
    match reference:
        case LayoutReference():
            return OciLayout(reference.path, write=True)
        case OciArchiveReference():
            from tocsin.stores.archive import OciArchive  # noqa: PLC0415 (as below)

            return OciArchive(reference.path, write=True)
        case DockerArchiveReference():
            raise UnsupportedError(
                f"docker-archive:{reference.path}: writing docker archives is not supported",
                hint="Write to oci-archive: or oci: and convert the result with skopeo copy.",
            )
        case ContainerdReference():
            from tocsin.stores.containerd import open_containerd  # noqa: PLC0415 (as above)

            return open_containerd(reference, write=True)
        case RegistryReference():
            # Importing the requests library takes longer than opening a layout.
            from tocsin.stores.registry import open_repository  # noqa: PLC0415

            return open_repository(reference, registry, write=True)
