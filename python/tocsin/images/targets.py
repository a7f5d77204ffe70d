"""Source and destination of a run: which stores, which tags, and what must not be overwritten."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin.errors import ConflictError, FormatError, NotFoundError, UnsupportedError
from tocsin.model.reference import (
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    Reference,
    RegistryReference,
)
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
    """Where an image comes from and where it goes.

    Attributes:
        source: the image.
        sink: the place written to.
        tag: the name the result gets there; ``None`` when nothing is named.
        carries: whether the sink is another place, which needs the layers too.
        overwrites_source: whether place and tag are the source's own.
    """

    source: Reference
    sink: Reference
    tag: str | None
    carries: bool
    overwrites_source: bool

    @property
    def named_sink(self) -> Reference:
        """The result, as a reference."""
        if self.tag is None or isinstance(self.sink, DockerArchiveReference):
            return self.sink
        return replace(self.sink, tag=self.tag, digest=None)


def pair_of(
    source: ReferenceLike,
    destination: ReferenceLike | None,
    *,
    output: ReferenceLike | None = None,
) -> Pair:
    """Return what two references mean together.

    Args:
        source: the image.
        destination: where the image goes with what is made; ``None`` leaves the image where it is.
        output: where only what is made goes, without the image; not beside `destination`.

    Raises:
        FormatError: a text is no reference.
        UnsupportedError: the destination cannot be named so, or written.
    """
    read = reference_of(source)
    if output is not None:
        if destination is not None:
            raise ValueError("a destination and an output were given, wanted one of them")
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
            f"{sink}: the result's digest is not known yet", hint="Name a tag instead."
        )
    source_tag = None if isinstance(read, DockerArchiveReference) else read.tag
    tag = sink.tag or source_tag or DEFAULT_TAG
    same_place = _same_place(read, sink)
    return Pair(
        read,
        sink,
        tag=tag,
        carries=not same_place,
        overwrites_source=same_place and tag == source_tag,
    )


def image_in_the_way(sink: Source, pair: Pair, *, force: bool) -> Descriptor | None:
    """Return the image that the destination's tag names, if replacing it was not asked for.

    Whoever gets one goes on only if the result would be that very image.

    Raises:
        ConflictError: the destination is the source itself.
    """
    if force or pair.tag is None:
        return None
    if pair.overwrites_source:
        raise ConflictError(
            f"{pair.named_sink}: is the source image itself, whose digests would change",
            hint=_OTHER_TAG,
        )
    # Not by the list of tags: it is long in a registry, and not everyone may see it.
    try:
        return sink.resolve(pair.tag)
    except NotFoundError:
        return None


def refuse_to_replace(pair: Pair, existing: Descriptor) -> ConflictError:
    """Return the error for a destination that names another image."""
    return ConflictError(
        f"{pair.named_sink}: the destination names another image already, {existing.digest}",
        hint=_OTHER_TAG,
    )


def _same_place(one: Reference, other: Reference) -> bool:
    if isinstance(one, LayoutReference) and isinstance(other, LayoutReference):
        return one.path.resolve() == other.path.resolve()
    if isinstance(one, OciArchiveReference) and isinstance(other, OciArchiveReference):
        return one.path.resolve() == other.path.resolve()
    if isinstance(one, RegistryReference) and isinstance(other, RegistryReference):
        return (one.host, one.repository) == (other.host, other.repository)
    return False


@contextmanager
def open_pair(
    pair: Pair,
    *,
    registry: RegistryOptions | None = None,
    dry_run: bool = False,
    jobs: int = 1,
) -> Iterator[tuple[Source, Sink, Meter]]:
    """Open source and sink, and a meter of both; leaving normally commits what was put.

    Args:
        pair: which.
        registry: how to reach registries.
        dry_run: open the sink only for reading, if it is there at all, and throw away what is put.
        jobs: threads that will use them at once.

    Raises:
        UnsupportedError: explicit credentials, and two registries that could be meant.
    """
    _check_credentials(pair, registry)
    registry = _with_jobs(pair, registry, jobs)
    meter = Meter()
    with open_source(pair.source, registry=registry) as source:
        if dry_run:
            inner = _open_if_there(pair.sink, registry)
            try:
                nothing = DiscardingSink(str(pair.sink), inner)
                yield MeteredSource(source, meter), MeteredSink(nothing, meter), meter
            finally:
                if inner is not None:
                    inner.close()
        else:
            with open_sink(pair.sink, registry=registry) as sink:
                yield MeteredSource(source, meter), MeteredSink(sink, meter), meter


def _with_jobs(pair: Pair, registry: RegistryOptions | None, jobs: int) -> RegistryOptions | None:
    """Let connections be kept for all threads; only a registry needs its module imported."""
    if not any(isinstance(one, RegistryReference) for one in (pair.source, pair.sink)):
        return registry
    from tocsin.stores.registry import RegistryOptions  # noqa: PLC0415

    registry = registry or RegistryOptions()
    return replace(registry, jobs=max(registry.jobs, jobs))


def _open_if_there(reference: Reference, registry: RegistryOptions | None) -> Source | None:
    if isinstance(reference, RegistryReference):
        # Not from a mirror: what is asked is what a push would find.
        from tocsin.stores.registry import open_repository  # noqa: PLC0415

        return open_repository(reference, registry)
    try:
        return open_source(reference, registry=registry)
    except (FileNotFoundError, NotFoundError, FormatError):
        return None


def _check_credentials(pair: Pair, registry: RegistryOptions | None) -> None:
    """Refuse to show one registry the password of another."""
    if registry is None or registry.username is None:
        return
    hosts = {
        reference.host
        for reference in (pair.source, pair.sink)
        if isinstance(reference, RegistryReference)
    }
    if len(hosts) > 1:
        raise UnsupportedError(
            f"credentials: given for one registry, but {' and '.join(sorted(hosts))} are two",
            hint="Log in to both with docker login or podman login, or name a file with both in "
            "REGISTRY_AUTH_FILE.",
        )
