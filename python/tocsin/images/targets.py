"""Source and destination of a command: stores, tags, and protection of existing images."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin.errors import ConflictError, FormatError, NotFoundError, UnsupportedError
from tocsin.model.reference import (
    ContainerdReference,
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    Reference,
    RegistryReference,
)
from tocsin.stores.containerd.address import namespace_of
from tocsin.stores.discarding import DiscardingSink
from tocsin.stores.metering import Meter, MeteredSink, MeteredSource
from tocsin.stores.opening import open_sink, open_source
from tocsin.stores.places import destination_of, reference_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.reference import ReferenceLike
    from tocsin.stores.base import Sink, Source
    from tocsin.stores.registry import RegistryOptions

DEFAULT_TAG = "latest"
_OTHER_TAG = "Name another tag, or pass --force (force=True)."


@dataclass(frozen=True, slots=True)
class Pair:
    """Source and destination of an image.

    Attributes:
        source: reference of the source image.
        sink: reference of the destination.
        tag: tag of the result at the destination; ``None`` if no tag is written.
        carries: whether the sink is another store, so that layers must be copied too.
        overwrites_source: whether the destination has the same store and tag as the source.
    """

    source: Reference
    sink: Reference
    tag: str | None
    carries: bool
    overwrites_source: bool

    @property
    def named_sink(self) -> Reference:
        """Reference of the result."""
        if self.tag is None or isinstance(self.sink, DockerArchiveReference | ContainerdReference):
            return self.sink
        return replace(self.sink, tag=self.tag, digest=None)


def pair_of(
    source: ReferenceLike,
    destination: ReferenceLike | None,
    *,
    output: ReferenceLike | None = None,
) -> Pair:
    """Return the source and destination that the arguments of a command name.

    Args:
        source: reference of the source image.
        destination: destination of the image and the result; ``None`` for the source's store.
        output: destination of the result without the image; cannot be combined with `destination`.

    Raises:
        FormatError: an argument is not a reference.
        UnsupportedError: the destination cannot be written, or is given by digest.
    """
    read = reference_of(source)
    if output is not None:
        if destination is not None:
            raise ValueError("destination and output cannot be combined")
        into = destination_of(output)
        return Pair(read, into, tag=None, carries=False, overwrites_source=False)
    if destination is None:
        if isinstance(read, DockerArchiveReference):
            raise UnsupportedError(
                f"{read}: a docker archive cannot be written",
                hint="Name a destination such as oci:DIR:TAG.",
            )
        return Pair(read, read, tag=None, carries=False, overwrites_source=False)
    sink = destination_of(destination)
    if isinstance(sink, DockerArchiveReference):
        raise UnsupportedError(
            f"{sink}: a docker archive cannot be written",
            hint="Name an oci: or oci-archive: destination.",
        )
    if sink.digest is not None:
        raise UnsupportedError(
            f"{sink}: a destination cannot have a digest", hint="Name a tag instead."
        )
    source_tag = None if isinstance(read, DockerArchiveReference) else read.tag
    tag = sink.tag or source_tag or DEFAULT_TAG
    same_place = _same_place(read, sink)
    same_tag = tag == source_tag
    if isinstance(sink, ContainerdReference):
        # The tags of a namespace are the full names of its images.
        tag = sink.name
        same_tag = isinstance(read, ContainerdReference) and read.selector == tag
    return Pair(
        read,
        sink,
        tag=tag,
        carries=not same_place,
        overwrites_source=same_place and same_tag,
    )


def image_in_the_way(sink: Source, pair: Pair, *, force: bool) -> Descriptor | None:
    """Return the image that the destination's tag names, or ``None`` with `force`.

    If there is one, the caller may continue only if the result is the same image.

    Raises:
        ConflictError: the destination is the source image.
    """
    if force or pair.tag is None:
        return None
    if pair.overwrites_source:
        raise ConflictError(
            f"{pair.named_sink}: is the source image, whose digest would change",
            hint=_OTHER_TAG,
        )
    # Tags are not listed: a registry can have many of them, and may not allow listing.
    try:
        return sink.resolve(pair.tag)
    except NotFoundError:
        return None


def refuse_to_replace(pair: Pair, existing: Descriptor) -> ConflictError:
    """Return the error for a destination that already exists as a different image."""
    return ConflictError(
        f"{pair.named_sink}: already exists as a different image ({existing.digest})",
        hint=_OTHER_TAG,
    )


def _same_place(one: Reference, other: Reference) -> bool:
    if isinstance(one, LayoutReference) and isinstance(other, LayoutReference):
        return one.path.resolve() == other.path.resolve()
    if isinstance(one, OciArchiveReference) and isinstance(other, OciArchiveReference):
        return one.path.resolve() == other.path.resolve()
    if isinstance(one, RegistryReference) and isinstance(other, RegistryReference):
        return (one.host, one.repository) == (other.host, other.repository)
    if isinstance(one, ContainerdReference) and isinstance(other, ContainerdReference):
        return namespace_of(one) == namespace_of(other)
    return False


@contextmanager
def open_pair(
    pair: Pair,
    *,
    registry: RegistryOptions | None = None,
    dry_run: bool = False,
    jobs: int = 1,
) -> Iterator[tuple[Source, Sink, Meter]]:
    """Open source and sink with a meter for both; a normal exit commits what was written.

    Args:
        pair: source and destination.
        registry: options for access to registries.
        dry_run: open the sink only for reading, if it exists, and discard everything written to it.
        jobs: number of threads that use the stores at the same time.

    Raises:
        UnsupportedError: credentials were given, but there are two registries.
    """
    _check_credentials(pair, registry)
    registry = _with_jobs(pair, registry, jobs)
    meter = Meter()
    with open_source(pair.source, registry=registry) as source:
        if dry_run:
            inner = _open_if_exists(pair.sink, registry)
            try:
                discarding = DiscardingSink(str(pair.sink), inner)
                yield MeteredSource(source, meter), MeteredSink(discarding, meter), meter
            finally:
                if inner is not None:
                    inner.close()
        else:
            with open_sink(pair.sink, registry=registry) as sink:
                yield MeteredSource(source, meter), MeteredSink(sink, meter), meter


def _with_jobs(pair: Pair, registry: RegistryOptions | None, jobs: int) -> RegistryOptions | None:
    """Keep one connection per thread; import the registry module only for a registry."""
    if not any(isinstance(one, RegistryReference) for one in (pair.source, pair.sink)):
        return registry
    from tocsin.stores.registry import RegistryOptions  # noqa: PLC0415

    registry = registry or RegistryOptions()
    return replace(registry, jobs=max(registry.jobs, jobs))


def _open_if_exists(reference: Reference, registry: RegistryOptions | None) -> Source | None:
    if isinstance(reference, RegistryReference):
        # Without mirrors, to see the same contents as a push.
        from tocsin.stores.registry import open_repository  # noqa: PLC0415

        return open_repository(reference, registry)
    try:
        return open_source(reference, registry=registry)
    except (FileNotFoundError, NotFoundError, FormatError):
        return None


def _check_credentials(pair: Pair, registry: RegistryOptions | None) -> None:
    """Refuse to send the password for one registry to another."""
    if registry is None or registry.username is None:
        return
    hosts = {
        reference.host
        for reference in (pair.source, pair.sink)
        if isinstance(reference, RegistryReference)
    }
    if len(hosts) > 1:
        raise UnsupportedError(
            f"credentials: ambiguous for two registries ({' and '.join(sorted(hosts))})",
            hint="Log in to both with docker login or podman login, or set REGISTRY_AUTH_FILE to a "
            "file with both credentials.",
        )
