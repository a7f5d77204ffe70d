"""Conversion of an image argument (text, a path or a reference) to a reference."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import FormatError
from tocsin.model.reference import (
    ContainerdReference,
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    RegistryReference,
    parse_reference,
)

if TYPE_CHECKING:
    from tocsin.model.reference import Reference, ReferenceLike

_ARCHIVE_SUFFIX = ".tar"
_REFERENCES = (
    RegistryReference
    | LayoutReference
    | OciArchiveReference
    | DockerArchiveReference
    | ContainerdReference
)


def reference_of(image: ReferenceLike) -> Reference:
    """Return the reference of an existing image.

    Text is parsed with `parse_reference`. A path object names a store without a tag: a directory is
    an OCI layout; a file is an OCI archive if it contains a layout, otherwise a docker archive.
    Only a docker archive may be compressed.

    Raises:
        FormatError: the text is not a reference, or the file is not a tar archive.
        UnsupportedError: a skopeo transport that is not supported, or a compressed OCI archive.
        OSError: the path is missing or cannot be read.
    """
    if isinstance(image, str):
        return parse_reference(image)
    if isinstance(image, os.PathLike):
        return _reference_at(_path(image))
    return _checked(image)


def destination_of(image: ReferenceLike) -> Reference:
    """Return the reference of an image to be written.

    Like `reference_of`, but the path may be missing: a name that ends in ``.tar`` is a new OCI
    archive, any other name a new OCI layout.
    """
    if isinstance(image, os.PathLike):
        path = _path(image)
        if not path.exists() or (path.is_file() and not path.stat().st_size):
            kind = OciArchiveReference if path.suffix == _ARCHIVE_SUFFIX else LayoutReference
            return kind(path)
    return reference_of(image)


def _reference_at(path: Path) -> Reference:
    if path.is_dir():
        return LayoutReference(path)
    # Importing the code for archives takes longer than opening a layout.
    from tocsin.stores.tar_members import TarMembers  # noqa: PLC0415

    members = TarMembers(path, unpack=True)
    try:
        is_docker = "manifest.json" in members
        if members.is_compressed and is_docker:
            return DockerArchiveReference(path)
        is_layout = "oci-layout" in members and "index.json" in members
        if is_layout and members.is_compressed:
            TarMembers(path).close()  # raises an error with a hint
        if not is_layout and not is_docker:
            raise FormatError(
                f"{path}: not an image archive: found neither oci-layout and index.json (OCI) nor "
                "manifest.json (docker save)",
                what="archive",
            )
    finally:
        members.close()
    return OciArchiveReference(path) if is_layout else DockerArchiveReference(path)


def _path(image: os.PathLike[str]) -> Path:
    text = os.fspath(image)
    if not isinstance(text, str):
        raise TypeError(f"image: wrong type of path (found {type(text).__name__}, expected str)")
    return Path(text)


def _checked(image: Reference) -> Reference:
    if not isinstance(image, _REFERENCES):
        raise TypeError(
            f"image: wrong type (found {type(image).__name__}, expected text such as "
            "'oci:DIR:TAG', a pathlib.Path or a reference)"
        )
    return image
