"""Indexes an image for a build system, and decides whether this must be repeated."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError
from tocsin.images.info import resolve
from tocsin.indexing.convert import convert
from tocsin.indexing.create import create
from tocsin.indexing.options import IndexingOptions
from tocsin.integrations.progress import log_progress
from tocsin.model.access_log import AccessLog
from tocsin.model.digest import Digest
from tocsin.model.reference import DockerArchiveReference
from tocsin.regular_file import read_regular
from tocsin.staged_file import StagedFile, remove_abandoned
from tocsin.stores.places import destination_of, reference_of

if TYPE_CHECKING:
    from os import PathLike

    from tocsin.indexing.results import CreateResult
    from tocsin.model.document import Document
    from tocsin.model.events import Progress
    from tocsin.model.reference import Reference, ReferenceLike
    from tocsin.stores.registry import RegistryOptions

_MAX_STAMP_SIZE = 1 << 20
"""Maximum bytes of a stamp. Each platform adds one digest, so real stamps are below 10 KB."""
_NO_EFFECT = {"jobs", "threads", "rebuild"}
"""Options that do not change what is made."""


def index_image(
    image: ReferenceLike,
    destination: ReferenceLike | None = None,
    *,
    stamp: str | PathLike[str],
    options: IndexingOptions | None = None,
    registry: RegistryOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> CreateResult:
    """Index an image and write a stamp for `is_up_to_date`.

    With a destination, this is ``convert``; without one, ``create``. The destination is replaced if
    it still is the image that the stamp records, as after a new build of the source. Any other
    image there is replaced only with `force`.

    Args:
        image: reference of the image, such as ``ghcr.io/team/app:1``.
        destination: reference of the converted image; ``None`` for version 1 indexes beside the
            image.
        stamp: the file to write, only after everything else has succeeded.
        options: indexing options; ``None`` for the defaults.
        registry: options for access to registries.
        force: replace a different image at `destination`.
        progress: called with progress events; ``None`` for `log_progress`.

    Raises:
        ConflictError: `destination` is an image that the stamp does not record.
        TocsinError: as for ``tocsin.convert`` and ``tocsin.create``.
        OSError: a local file cannot be read or written.
    """
    options = options or IndexingOptions()
    path = Path(stamp)
    # Before the work: if a tag moves meanwhile, the stamp is out of date, and the step is repeated.
    source = resolve(image, registry=registry)
    result: CreateResult
    if destination is None:
        result = create(
            image, options=options, registry=registry, progress=progress or log_progress()
        )
        made = [each.soci_index.digest for each in result.platforms if each.soci_index is not None]
    else:
        recorded = _read(path)
        result = convert(
            image,
            destination,
            options=options,
            registry=registry,
            force=force or _is_recorded(recorded, destination, registry),
            progress=progress or log_progress(),
        )
        made = [result.image.digest]
    document = {
        **_step(image, destination, options),
        "image_digest": str(source.digest),
        "made": [str(digest) for digest in made],
        "result": result.to_dict(),
    }
    _write(path, document)
    return result


def is_up_to_date(
    image: ReferenceLike,
    destination: ReferenceLike | None = None,
    *,
    stamp: str | PathLike[str],
    options: IndexingOptions | None = None,
    registry: RegistryOptions | None = None,
) -> bool:
    """Return whether `index_image` with the same arguments need not run again.

    It need not if the image and everything that was made from it still have the digests in the
    stamp, and the options are the same. In a registry, this takes a HEAD request for the image and
    one for each thing that was made. A missing or damaged stamp is out of date.

    Args:
        image: as for `index_image`.
        destination: as for `index_image`.
        stamp: the file that `index_image` wrote.
        options: as for `index_image`.
        registry: options for access to registries.

    Raises:
        NotFoundError: `image` does not exist.
        RegistryError: the registry rejected a request or could not be reached.
        OSError: a local file cannot be read.
    """
    recorded = _read(Path(stamp))
    step = _step(image, destination, options or IndexingOptions())
    if recorded is None or any(recorded.get(key) != value for key, value in step.items()):
        return False
    if recorded.get("image_digest") != str(resolve(image, registry=registry).digest):
        return False
    made = recorded.get("made")
    if not isinstance(made, list):
        return False
    if destination is not None:
        return _is_recorded(recorded, destination, registry)
    place = reference_of(image)
    return all(_exists(place, digest, registry) for digest in made)


def image_signature(
    image: ReferenceLike,
    destination: ReferenceLike | None = None,
    *,
    stamp: str | PathLike[str],
    options: IndexingOptions | None = None,
    registry: RegistryOptions | None = None,
) -> str:
    """Return a text that changes when `index_image` must run again.

    This is for build systems that compare a value with that of the last run, such as Snakemake. It
    contains the digest of the image and the options, and says so if what the stamp records is
    missing or was replaced.

    Args:
        image: as for `index_image`.
        destination: as for `index_image`.
        stamp: the file that `index_image` wrote; it may be missing.
        options: as for `index_image`.
        registry: options for access to registries.

    Raises:
        NotFoundError: `image` does not exist.
        RegistryError: the registry rejected a request or could not be reached.
        OSError: a local file cannot be read.
    """
    digest = resolve(image, registry=registry).digest
    step = _step(image, destination, options or IndexingOptions())
    text = f"{digest} {sha256(json.dumps(step, sort_keys=True).encode()).hexdigest()[:16]}"
    recorded = _read(Path(stamp))
    if recorded is None or recorded.get("image_digest") != str(digest):
        return text
    lasting = is_up_to_date(image, destination, stamp=stamp, options=options, registry=registry)
    return text if lasting else f"{text} missing"


def _step(
    image: ReferenceLike, destination: ReferenceLike | None, options: IndexingOptions
) -> Document:
    """Return what identifies a step, as in its stamp."""
    return {
        "image": str(reference_of(image)),
        "destination": None if destination is None else str(destination_of(destination)),
        "options": {
            field.name: _value(getattr(options, field.name))
            for field in fields(options)
            if field.name not in _NO_EFFECT
        },
    }


def _value(option: object) -> object:
    if option is None or isinstance(option, bool | int):
        return option
    if isinstance(option, tuple | frozenset):
        return sorted(map(str, option))
    if isinstance(option, AccessLog):
        return sha256(option.to_bytes()).hexdigest()
    raise AssertionError(f"option of an unknown type: {type(option).__name__}")


def _is_recorded(
    recorded: Document | None, destination: ReferenceLike, registry: RegistryOptions | None
) -> bool:
    """Return whether `destination` still is the image in the stamp."""
    place = destination_of(destination)
    if recorded is None or recorded.get("destination") != str(place):
        return False
    try:
        return recorded.get("made") == [str(resolve(place, registry=registry).digest)]
    except (NotFoundError, FileNotFoundError):
        return False


def _exists(place: Reference, digest: object, registry: RegistryOptions | None) -> bool:
    """Return whether a manifest exists where `place` is."""
    if isinstance(place, DockerArchiveReference) or not isinstance(digest, str):
        return False
    try:
        # Only the digest is taken from the stamp: a stamp must not name hosts to connect to.
        return bool(resolve(replace(place, digest=Digest.parse(digest)), registry=registry))
    except (FormatError, NotFoundError, FileNotFoundError):
        return False


def _read(path: Path) -> Document | None:
    """Return the content of a stamp, or ``None`` if it is missing or damaged."""
    try:
        document = json.loads(read_regular(path, max_size=_MAX_STAMP_SIZE))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _write(path: Path, document: Document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    with StagedFile(path.parent) as file:
        file.write(json.dumps(document, indent=2).encode() + b"\n")
        file.publish(path)
