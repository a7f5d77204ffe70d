"""``index.json`` of an OCI layout: which images are there, and under which tags.

Changing it keeps what other tools wrote into it. Source: OCI image-spec 1.1.1, image-layout.md.

**Referrers.** The specification does not say how a layout records them. We write what oras does
since 1.0: the referring manifest is an entry of ``index.json`` without a tag, so oras and our own
copy find it by its `subject`. An image index tagged ``sha256-<hex of the subject>``, the
distribution specification's fallback for registries (regclient writes it into layouts too), is
read but not written. The price: skopeo counts every entry, so ``oci:DIR`` without a tag stops
working for it once an untagged image got a v1 SOCI index; give such an image a tag.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tocsin.errors import FormatError, NotFoundError
from tocsin.model.descriptor import Descriptor, read_descriptor, write_descriptor
from tocsin.model.digest import Digest
from tocsin.model.fields import MAX_ENTRIES, Fields
from tocsin.model.go_json import decode_object
from tocsin.model.media_types import OCI_INDEX
from tocsin.model.reference import check_ref_name, parse_registry_name
from tocsin.quoting import quoted, shown

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUT_VERSION = "1.0.0"
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
"""Full name that containerd, nerdctl and ``docker save`` put beside a short `REF_NAME`."""

_WHAT = "layout"
_MAX_TAGS_SHOWN = 20
_MAX_TAG_LEN = 128
"""Characters of a tag that are shown; registries take no longer ones."""


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """The content of ``index.json``.

    Attributes:
        document: the JSON as it was read, unknown fields included.
        entries: its ``manifests``, in order.
    """

    document: dict[str, Any]
    entries: tuple[Descriptor, ...]

    @classmethod
    def empty(cls) -> Self:
        """Return the index of a layout without images."""
        return cls.from_document({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the index in `data`.

        Raises:
            FormatError: it is none; `what` is ``layout``.
            UnsupportedError: an entry has a digest other than sha256.
        """
        return cls.from_document(decode_object(data, what=_WHAT))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Return the index in a decoded document; errors as `from_json`."""
        fields = Fields(document, what=_WHAT, place="index.json")
        children = fields.children("manifests") or []
        return cls(document, tuple(map(read_descriptor, children)))

    def to_json(self) -> bytes:
        """Return the document as compact JSON."""
        return json.dumps(self.document, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def tags(self) -> list[str]:
        """The tags there are, sorted."""
        return sorted({tag for entry in self.entries if (tag := tag_of(entry))})

    def select(
        self, selector: str | Digest | None, *, place: str, is_image: Callable[[Descriptor], bool]
    ) -> Descriptor | None:
        """Return the entry that `selector` names; ``None`` when it is a digest not listed here.

        Args:
            selector: a tag (`REF_NAME`, else a full `IMAGE_NAME`), ``@N`` for the N-th image, a
                digest, or ``None`` for the only image.
            place: of the layout, for messages.
            is_image: tells entries that are images from referrers, asked only when needed.

        Raises:
            NotFoundError: no such tag, or no selector and not exactly one image.
        """
        if isinstance(selector, Digest):
            return next((e for e in self.entries if e.digest == selector), None)
        if selector is None:
            return self._only_image(place, is_image)
        if selector.startswith("@"):
            images = list({entry.digest: entry for entry in self.entries}.values())
            position = selector.removeprefix("@")
            if position.isdecimal() and int(position) < len(images):
                return images[int(position)]
        for found in (self._by(REF_NAME, selector), self._by_full_name(selector)):
            if found:
                return found
        raise NotFoundError(f"{place}: has no image {quoted(selector)}, {self._tags_there()}")

    def with_entry(self, descriptor: Descriptor, *, tag: str | None = None) -> Self:
        """Return the index with one more entry, in the place of one it replaces.

        Args:
            descriptor: of the manifest; any `REF_NAME` among its annotations is replaced by `tag`.
            tag: ``None`` adds an untagged entry, unless the digest is listed already.

        Raises:
            FormatError: no such tag can be, or there are too many entries.
        """
        if tag is None:
            if any(entry.digest == descriptor.digest for entry in self.entries):
                return self
            replaced = None
        else:
            check_ref_name(tag)
            replaced = next((i for i, e in enumerate(self.entries) if tag_of(e) == tag), None)
        struct = write_descriptor(descriptor)
        annotations = {k: v for k, v in descriptor.annotations.items() if k != REF_NAME}
        if tag is not None:
            annotations[REF_NAME] = tag
        struct.pop("annotations", None)
        if annotations:
            struct["annotations"] = dict(sorted(annotations.items()))
        manifests = list(_manifests_of(self.document))
        if replaced is None:
            manifests.append(struct)
        else:
            manifests[replaced] = struct
        if len(manifests) > MAX_ENTRIES:
            raise FormatError(
                f"layout: index.json would have {len(manifests)} entries, at most {MAX_ENTRIES}",
                what=_WHAT,
            )
        rest = {k: v for k, v in self.document.items() if k.lower() != "manifests"}
        return type(self).from_document({**rest, "manifests": manifests})

    def without(self, digest: Digest) -> Self:
        """Return the index without any entry of this digest."""
        kept = [
            struct
            for struct, entry in zip(_manifests_of(self.document), self.entries, strict=True)
            if entry.digest != digest
        ]
        rest = {k: v for k, v in self.document.items() if k.lower() != "manifests"}
        return type(self).from_document({**rest, "manifests": kept})

    def fallback(self, subject: Digest) -> Descriptor | None:
        """Return the entry of the referrers tag of `subject`."""
        return self._by(REF_NAME, f"sha256-{subject.hex}")

    def _only_image(self, place: str, is_image: Callable[[Descriptor], bool]) -> Descriptor:
        images = {entry.digest: entry for entry in self.entries}
        if len(images) > 1:
            images = {d: e for d, e in images.items() if is_image(e)}
        if len(images) == 1:
            return next(iter(images.values()))
        if not images:
            raise NotFoundError(f"{place}: holds no image")
        raise NotFoundError(
            f"{place}: holds {len(images)} images and none was named, {self._tags_there()}"
        )

    def _by(self, annotation: str, value: str) -> Descriptor | None:
        found = (entry for entry in self.entries if entry.annotations.get(annotation) == value)
        return next(found, None)

    def _by_full_name(self, selector: str) -> Descriptor | None:
        wanted = _full_name(selector)
        for entry in self.entries:
            name = entry.annotations.get(IMAGE_NAME)
            if name is not None and wanted is not None and _full_name(name) == wanted:
                return entry
        return None

    def _tags_there(self) -> str:
        tags = self.tags
        if not tags:
            digests = ", ".join(str(entry.digest) for entry in self.entries[:_MAX_TAGS_SHOWN])
            return f"it has no tags; digests there: {digests or 'none'}"
        more = f" and {len(tags) - _MAX_TAGS_SHOWN} more" if len(tags) > _MAX_TAGS_SHOWN else ""
        shown_tags = ", ".join(shown(tag, limit=_MAX_TAG_LEN) for tag in tags[:_MAX_TAGS_SHOWN])
        return f"tags there: {shown_tags}{more}"


def tag_of(entry: Descriptor) -> str:
    """Return the tag of an entry of ``index.json``; empty when it has none."""
    return entry.annotations.get(REF_NAME, "")


def check_layout_file(data: bytes, place: str) -> None:
    """Accept the content of the file ``oci-layout``.

    Raises:
        FormatError: it is not a layout's, or of a version not known; `what` is ``layout``.
    """
    fields = Fields(decode_object(data, what=_WHAT), what=_WHAT, place=f"{place}/oci-layout")
    version = fields.text("imageLayoutVersion")
    if version != LAYOUT_VERSION:
        raise fields.error("imageLayoutVersion", f"got {quoted(version)}, wanted {LAYOUT_VERSION}")


def _manifests_of(document: dict[str, Any]) -> list[Any]:
    found = (v for k, v in document.items() if k.lower() == "manifests" and v is not None)
    return next(found, [])


def _full_name(text: str) -> str | None:
    try:
        return parse_registry_name(text).name
    except FormatError:
        return None
