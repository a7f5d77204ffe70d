"""``index.json`` of an OCI layout: its images and their tags.

Changes keep everything that other tools wrote. Source: OCI image-spec 1.1.1, image-layout.md.

**Referrers.** The specification does not define how a layout records them. We follow oras 1.0: the
referring manifest is an entry of ``index.json`` without a tag, and is found by its `subject`. We
also read, but do not write, an image index tagged ``sha256-<hex of the subject>``: this is the
distribution specification's fallback for registries, and regclient uses it in layouts too. The
drawback of our choice: skopeo counts every entry, so it no longer accepts ``oci:DIR`` without a tag
after a v1 SOCI index is added to an untagged image. Tag such images.
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
"""Full name, which containerd, nerdctl and ``docker save`` write next to a short `REF_NAME`."""

_WHAT = "layout"
_MAX_TAGS_SHOWN = 20
_MAX_TAG_LEN = 128
"""Maximum characters of a tag in messages: registries reject longer tags."""


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """The content of ``index.json``.

    Attributes:
        document: the JSON document, with unknown fields.
        entries: entries of ``manifests``, in order.
    """

    document: dict[str, Any]
    entries: tuple[Descriptor, ...]

    @classmethod
    def empty(cls) -> Self:
        """Return the index of a layout without images."""
        return cls.from_document({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Parse an index.

        Raises:
            FormatError: not an index; `what` is ``layout``.
            UnsupportedError: an entry has a digest other than sha256.
        """
        return cls.from_document(decode_object(data, what=_WHAT))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Return the index in a decoded document; raises the same errors as `from_json`."""
        fields = Fields(document, what=_WHAT, place="index.json")
        children = fields.children("manifests") or []
        return cls(document, tuple(map(read_descriptor, children)))

    def to_json(self) -> bytes:
        """Return the document as compact JSON."""
        return json.dumps(self.document, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def tags(self) -> list[str]:
        """All tags, sorted."""
        return sorted({tag for entry in self.entries if (tag := tag_of(entry))})

    def select(
        self, selector: str | Digest | None, *, place: str, is_image: Callable[[Descriptor], bool]
    ) -> Descriptor | None:
        """Return the entry that `selector` names; ``None`` if it is a digest that is not listed.

        Args:
            selector: a tag (a `REF_NAME`, otherwise a full `IMAGE_NAME`), ``@N`` for entry N, a
                digest, or ``None`` for the only image.
            place: name of the layout in messages.
            is_image: returns whether an entry is an image, not a referrer; called only if needed.

        Raises:
            NotFoundError: the tag does not exist; or no selector was given, and the number of
                images is not 1.
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
        raise NotFoundError(f"{place}: image {quoted(selector)} not found{self._found_tags()}")

    def with_entry(self, descriptor: Descriptor, *, tag: str | None = None) -> Self:
        """Return the index with an entry added, or replaced if the tag exists.

        Args:
            descriptor: descriptor of the manifest; `tag` replaces a `REF_NAME` in its annotations.
            tag: tag of the entry; ``None`` adds an untagged entry if the digest is not listed yet.

        Raises:
            FormatError: the tag is invalid, or the index has too many entries.
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
                f"layout: index.json would have too many entries (found {len(manifests)}, "
                f"expected at most {MAX_ENTRIES})",
                what=_WHAT,
            )
        rest = {k: v for k, v in self.document.items() if k.lower() != "manifests"}
        return type(self).from_document({**rest, "manifests": manifests})

    def without(self, digest: Digest) -> Self:
        """Return the index without the entries that have this digest."""
        kept = [
            struct
            for struct, entry in zip(_manifests_of(self.document), self.entries, strict=True)
            if entry.digest != digest
        ]
        rest = {k: v for k, v in self.document.items() if k.lower() != "manifests"}
        return type(self).from_document({**rest, "manifests": kept})

    def fallback(self, subject: Digest) -> Descriptor | None:
        """Return the entry with the referrers tag of `subject`."""
        return self._by(REF_NAME, f"sha256-{subject.hex}")

    def _only_image(self, place: str, is_image: Callable[[Descriptor], bool]) -> Descriptor:
        images = {entry.digest: entry for entry in self.entries}
        if len(images) > 1:
            images = {d: e for d, e in images.items() if is_image(e)}
        if len(images) == 1:
            return next(iter(images.values()))
        if not images:
            raise NotFoundError(f"{place}: contains no images")
        raise NotFoundError(
            f"{place}: contains {len(images)} images, but no tag or digest was given"
            f"{self._found_tags()}"
        )

    def _by(self, annotation: str, value: str) -> Descriptor | None:
        found = (entry for entry in self.entries if entry.annotations.get(annotation) == value)
        return next(found, None)

    def _by_full_name(self, selector: str) -> Descriptor | None:
        full_name = _full_name(selector)
        for entry in self.entries:
            name = entry.annotations.get(IMAGE_NAME)
            if name is not None and full_name is not None and _full_name(name) == full_name:
                return entry
        return None

    def _found_tags(self) -> str:
        """Return the end of a message: the tags, or the digests if there are none."""
        tags = self.tags
        if not tags:
            digests = ", ".join(str(entry.digest) for entry in self.entries[:_MAX_TAGS_SHOWN])
            return f" (found no tags; digests: {digests or 'none'})"
        more = f" and {len(tags) - _MAX_TAGS_SHOWN} more" if len(tags) > _MAX_TAGS_SHOWN else ""
        shown_tags = ", ".join(shown(tag, limit=_MAX_TAG_LEN) for tag in tags[:_MAX_TAGS_SHOWN])
        return f" (found tags: {shown_tags}{more})"


def tag_of(entry: Descriptor) -> str:
    """Return the tag of an entry of ``index.json``; empty if it has none."""
    return entry.annotations.get(REF_NAME, "")


def check_layout_file(data: bytes, place: str) -> None:
    """Check the content of the file ``oci-layout``.

    Raises:
        FormatError: the content is invalid or the version unknown; `what` is ``layout``.
    """
    fields = Fields(decode_object(data, what=_WHAT), what=_WHAT, place=f"{place}/oci-layout")
    version = fields.text("imageLayoutVersion")
    if version != LAYOUT_VERSION:
        raise fields.error(
            "imageLayoutVersion", f"found {quoted(version)}, expected {LAYOUT_VERSION}"
        )


def _manifests_of(document: dict[str, Any]) -> list[Any]:
    found = (v for k, v in document.items() if k.lower() == "manifests" and v is not None)
    return next(found, [])


def _full_name(text: str) -> str | None:
    try:
        return parse_registry_name(text).name
    except FormatError:
        return None
