"""Source and destination of a run: which stores, which tags, and what must not be overwritten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin.errors import ConflictError, UnsupportedError
from tocsin.model.reference import (
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    Reference,
    parse_reference,
)

if TYPE_CHECKING:
    from tocsin.stores.base import Store

DEFAULT_TAG = "latest"


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


def open_pair(source: str | Reference, destination: str | Reference | None) -> Pair:
    """Return what two references mean together.

    Raises:
        FormatError: a text is no reference.
        UnsupportedError: the destination cannot be named so, or written.
    """
    read = parse_reference(source) if isinstance(source, str) else source
    if destination is None:
        if isinstance(read, DockerArchiveReference):
            raise UnsupportedError(
                f"{read}: a docker archive cannot be written, name a destination such as "
                "oci:DIR:TAG"
            )
        return Pair(read, read, tag=None, carries=False, overwrites_source=False)
    sink = parse_reference(destination) if isinstance(destination, str) else destination
    if isinstance(sink, DockerArchiveReference):
        raise UnsupportedError(
            f"{sink}: a docker archive cannot be written, name an oci: or oci-archive: destination"
        )
    if sink.digest is not None:
        raise UnsupportedError(f"{sink}: the result's digest is not known yet, name a tag")
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


def check_free(sink: Store, pair: Pair, *, force: bool) -> None:
    """Refuse, before any work, to replace an image unless forced.

    Raises:
        ConflictError: the destination's tag names an image already.
    """
    if force or pair.tag is None:
        return
    if pair.overwrites_source:
        raise ConflictError(
            f"{pair.named_sink}: is the source image itself, whose digests would change; "
            "name another tag, or pass --force (force=True)"
        )
    if pair.tag in sink.tags():
        raise ConflictError(
            f"{pair.named_sink}: names an image already; name another tag, "
            "or pass --force (force=True)"
        )


def _same_place(one: Reference, other: Reference) -> bool:
    if isinstance(one, LayoutReference) and isinstance(other, LayoutReference):
        return one.path.resolve() == other.path.resolve()
    if isinstance(one, OciArchiveReference) and isinstance(other, OciArchiveReference):
        return one.path.resolve() == other.path.resolve()
    return False
