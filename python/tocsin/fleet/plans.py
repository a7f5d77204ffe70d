"""A plan: images pinned by digest, their unique layers, and what need not be read.

A plan is immutable. It is written to a file as JSON, which the command ``tocsin fleet run`` reads;
its fingerprint connects it to the journal of a run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.errors import FormatError, TocsinError
from tocsin.indexing.options import IndexingOptions
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.document import document_of
from tocsin.model.reference import parse_registry_name
from tocsin.staged_file import StagedFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.model.document import Document
    from tocsin.model.entry_path import StrPath

_FORMAT = "tocsin-fleet-plan"
_VERSION = 1
MAX_PLAN_SIZE = 1 << 30
"""Maximum bytes of a plan file; a plan of 10,000 images has about 5 MiB."""
_MAX_TEXT_LEN = 4096


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer of one or more planned images.

    Attributes:
        layer: media type, digest and size.
        ztoc: zTOC that a planned repository already has; ``None`` if the layer must be read.
        repository: ``HOST/REPO`` that has this zTOC; empty without one.
        skipped: why the layer gets no zTOC; ``None`` if its bytes decide.
    """

    layer: Descriptor
    ztoc: Descriptor | None = None
    repository: str = ""
    skipped: str | None = None

    @property
    def is_read(self) -> bool:
        """Whether the layer must be read."""
        return self.ztoc is None and self.skipped is None

    def to_dict(self) -> Document:
        """Return the layer as in the plan file."""
        return {
            **self.layer.to_dict(),
            "ztoc": document_of(self.ztoc),
            "repository": self.repository,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image to index.

    Attributes:
        repository: ``HOST/REPO``.
        digest: digest of its manifest or image index; empty if `skipped`, and it is unknown.
        tags: tags that named it when it was planned; empty if it was given by digest.
        destination: ``HOST/REPO:TAG`` of the converted image; empty if indexes are created next to
            the image.
        layers: positions of its layers in `Plan.layers`, without duplicates.
        skipped: why nothing will be done; ``None`` if the image will be indexed.
    """

    repository: str
    digest: str
    tags: tuple[str, ...] = ()
    destination: str = ""
    layers: tuple[int, ...] = ()
    skipped: str | None = None

    @property
    def name(self) -> str:
        """The image as text: with its first tag, or else with its digest."""
        return (
            f"{self.repository}:{self.tags[0]}" if self.tags else f"{self.repository}@{self.digest}"
        )

    @property
    def host(self) -> str:
        """The registry."""
        return self.repository.partition("/")[0]

    def to_dict(self) -> Document:
        """Return the image as in the plan file."""
        return {
            "repository": self.repository,
            "digest": self.digest,
            "tags": list(self.tags),
            "destination": self.destination,
            "layers": list(self.layers),
            "skipped": self.skipped,
        }


@dataclass(frozen=True)
class Plan:
    """Images, their unique layers, and how they are indexed; made by ``tocsin.fleet.plan``.

    Attributes:
        images: the images, in the order of the sources.
        layers: the layers of all images that will be indexed, without duplicates.
        span_size: as in `IndexingOptions`.
        min_layer_size: as in `IndexingOptions`.
        platforms: platforms to index; empty for all.
        optimizations: as in `IndexingOptions`.
        force: replace different images at the destinations of converted images.
    """

    images: tuple[PlannedImage, ...]
    layers: tuple[PlannedLayer, ...]
    span_size: int
    min_layer_size: int
    platforms: tuple[str, ...] = ()
    optimizations: tuple[str, ...] = ()
    force: bool = False

    def options(self, *, threads: int | None = 1) -> IndexingOptions:
        """Return the options for one task.

        Args:
            threads: number of CPU threads of a task.
        """
        return IndexingOptions(
            span_size=self.span_size,
            min_layer_size=self.min_layer_size,
            platforms=self.platforms or None,
            optimizations=self.optimizations,
            jobs=1,
            threads=threads,
        )

    @property
    def read_size(self) -> int:
        """Compressed bytes of the layers to read, each counted once."""
        return sum(layer.layer.size for layer in self.layers if layer.is_read)

    @property
    def shared_size(self) -> int:
        """Compressed bytes that would be read if every image were indexed alone."""
        return sum(
            self.layers[at].layer.size
            for image in self.images
            if image.skipped is None
            for at in image.layers
            if self.layers[at].is_read
        )

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the plan, which a journal records."""
        document = {**self._document(), "fingerprint": ""}
        data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    def _document(self) -> Document:
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "span_size": self.span_size,
            "min_layer_size": self.min_layer_size,
            "platforms": list(self.platforms),
            "optimizations": list(self.optimizations),
            "force": self.force,
            "read_size": self.read_size,
            "shared_size": self.shared_size,
            "images": [image.to_dict() for image in self.images],
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def to_dict(self) -> Document:
        """Return the plan as JSON: the content of the plan file, and what ``--json`` prints."""
        return {**self._document(), "fingerprint": self.fingerprint}

    def write(self, path: StrPath) -> None:
        """Write the plan file, replacing an existing file atomically.

        Raises:
            OSError: the file cannot be written.
        """
        target = Path(path)
        with StagedFile(target.parent) as staged:
            staged.write(json.dumps(self.to_dict(), separators=(",", ":")).encode())
            staged.publish(target)

    @classmethod
    def read(cls, path: StrPath) -> Plan:
        """Read a plan file.

        Raises:
            FormatError: not a plan, or a plan that was changed; `what` is ``plan``.
            OSError: the file cannot be read.
        """
        place = Path(path)
        with place.open("rb") as file:
            data = file.read(MAX_PLAN_SIZE + 1)
        if len(data) > MAX_PLAN_SIZE:
            raise FormatError(
                f"{place}: plan too large (expected at most {MAX_PLAN_SIZE} bytes)", what="plan"
            )
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            raise FormatError(f"{place}: not a plan: not JSON", what="plan") from None
        return cls.from_dict(values, place=str(place))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, place: str = "plan") -> Plan:
        """Return the plan that `to_dict` returned.

        Args:
            values: the document.
            place: name of the plan in messages.

        Raises:
            FormatError: not a plan, or a plan that was changed; `what` is ``plan``.
        """
        try:
            plan = _parsed(values)
        except (KeyError, TypeError, AttributeError, ValueError, TocsinError):
            raise FormatError(
                f"{place}: not a plan of this version of tocsin (expected the output of tocsin "
                "fleet plan)",
                what="plan",
            ) from None
        if values.get("fingerprint") != plan.fingerprint:
            raise FormatError(f"{place}: the plan was changed or cut off", what="plan")
        return plan


def _parsed(values: Mapping[str, Any]) -> Plan:
    """Return the plan in a document; any of several exceptions means that it is not one."""
    if values["format"] != _FORMAT or values["version"] != _VERSION:
        raise ValueError
    layers = tuple(_layer(each) for each in values["layers"])
    images = tuple(_image(each, len(layers)) for each in values["images"])
    plan = Plan(
        images,
        layers,
        _size(values["span_size"]),
        _size(values["min_layer_size"]),
        tuple(map(_text, values["platforms"])),
        tuple(map(_text, values["optimizations"])),
        values["force"] is True,
    )
    plan.options()  # checks them
    return plan


def _layer(values: Mapping[str, Any]) -> PlannedLayer:
    ztoc = values["ztoc"]
    repository = _text(values["repository"])
    if ztoc is not None:
        parse_registry_name(repository)
    skipped = values["skipped"]
    return PlannedLayer(
        _descriptor(values),
        None if ztoc is None else _descriptor(ztoc),
        repository,
        None if skipped is None else _text(skipped),
    )


def _image(values: Mapping[str, Any], layer_count: int) -> PlannedImage:
    layers = tuple(map(_size, values["layers"]))
    if any(at >= layer_count for at in layers):
        raise ValueError
    skipped = values["skipped"]
    image = PlannedImage(
        _text(values["repository"]),
        _text(values["digest"]),
        tuple(map(_text, values["tags"])),
        _text(values["destination"]),
        layers,
        None if skipped is None else _text(skipped),
    )
    if skipped is None:
        parse_registry_name(f"{image.repository}@{image.digest}")
        for tag in image.tags:
            parse_registry_name(f"{image.repository}:{tag}")
        if image.destination:
            parse_registry_name(image.destination)
    return image


def _descriptor(values: Mapping[str, Any]) -> Descriptor:
    digest = Digest.parse(_text(values["digest"]))
    return Descriptor(_text(values["media_type"]), digest, _size(values["size"]))


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT_LEN:
        raise TypeError
    return value


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise TypeError
    return value
