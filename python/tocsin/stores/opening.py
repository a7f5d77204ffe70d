"""From a reference to the place it names: to read from, or to write to."""

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
    from tocsin.stores.base import Sink, Source
    from tocsin.stores.registry import RegistryOptions


def open_source(reference: Reference, *, registry: RegistryOptions | None = None) -> Source:
    """Return the source that `reference` names; which image is meant is `reference.selector`.

    Args:
        reference: as `parse_reference` gives it.
        registry: how to reach a registry, if it is one; no request is sent yet.

    Raises:
        UnsupportedError: a compressed archive.
        AuthError: only one of user name and password is given.
        FormatError: the file or directory is not what the reference says.
        OSError: it is missing or cannot be read.
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
        case RegistryReference():
            # requests takes longer to import than a layout to be opened.
            from tocsin.stores.registry import open_for_reading  # noqa: PLC0415

            return open_for_reading(reference, registry)


def open_sink(reference: Reference, *, registry: RegistryOptions | None = None) -> Sink:
    """Return the sink that `reference` names; a layout or archive is made if it is missing.

    Args:
        reference: as `parse_reference` gives it.
        registry: how to reach a registry, if it is one; no request is sent yet.

    Raises:
        UnsupportedError: a docker archive; an archive that is compressed or holds other things.
        AuthError: only one of user name and password is given.
        FormatError: the file or directory is not what the reference says.
        OSError: it cannot be read.
    """
    match reference:
        case LayoutReference():
            return OciLayout(reference.path, write=True)
        case OciArchiveReference():
            from tocsin.stores.archive import OciArchive  # noqa: PLC0415 (as below)

            return OciArchive(reference.path, write=True)
        case DockerArchiveReference():
            raise UnsupportedError(
                f"docker-archive:{reference.path}: cannot be written",
                hint="Write to oci-archive: or oci: and convert that with skopeo copy.",
            )
        case RegistryReference():
            # requests takes longer to import than a layout to be opened.
            from tocsin.stores.registry import open_repository  # noqa: PLC0415

            return open_repository(reference, registry, write=True)
