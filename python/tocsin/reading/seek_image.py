"""Opening an image with the best of its indexes: a seek table, or the zTOCs of SOCI indexes.

Source: docs/seek-table.md#parts; docs/format.md#how-an-index-is-found.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tocsin import _core
from tocsin.errors import (
    FormatError,
    NotFoundError,
    SeekTableError,
    TocsinError,
    UnsupportedError,
    VerificationError,
)
from tocsin.images.seek_tables import (
    bound_seek_table,
    referring_seek_tables,
    requested_seek_table,
)
from tocsin.layers.seek import SeekSpanTable
from tocsin.layers.seek_parts import BlobParts
from tocsin.layers.spans import LayerSpans
from tocsin.model.index_choice import IndexChoice, IndexKind
from tocsin.reading.blob_ranges import BlobRanges
from tocsin.reading.merged import MergedLayers
from tocsin.reading.pack import ImagePack
from tocsin.reading.seek_layer import SeekLayer
from tocsin.reading.seek_tree import FileList, SeekTree
from tocsin.reading.unreadable import UnreadableLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.images.seek_tables import FoundSeekTable
    from tocsin.images.soci_indexes import FoundIndex
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.manifest import Manifest
    from tocsin.model.seek_manifest import SeekManifest
    from tocsin.reading.opening import LayerOpener

_PROBLEMS = (FormatError, NotFoundError, SeekTableError, UnsupportedError, VerificationError)
"""Errors of a seek table after which zTOCs are used instead."""
_ZSTD = "zstd"


def open_merged(
    opener: LayerOpener,
    image: Descriptor,
    manifest: Manifest,
    layers: list[Descriptor],
    choice: IndexChoice,
    *,
    pinned: bool,
) -> MergedLayers:
    """Return the layers of an image and their tree.

    Args:
        opener: opens layers.
        image: descriptor of the image's manifest.
        manifest: the manifest.
        layers: descriptors of its layers, from the lowest up.
        choice: the indexes to use. ``auto`` means the first of: the seek table that the manifest
            names; the SOCI index that it names; and, unless `pinned`, seek tables and then SOCI
            indexes that refer to it.
        pinned: whether the reference of the image has a digest.

    Raises:
        NotFoundError, FormatError, SeekTableError, VerificationError: the requested index is
            missing or cannot be used.
    """
    tables = _SeekTables(opener, layers, required=choice.kind is IndexKind.SEEK)
    if choice.kind in (IndexKind.AUTO, IndexKind.SEEK):
        opened = tables.open_first(bound_seek_table(opener.store(), manifest))
        if opened is not None:
            return opened
    indexes = []
    if choice.kind is IndexKind.SEEK or (choice.kind is IndexKind.AUTO and not pinned):
        if choice.kind is IndexKind.AUTO:
            indexes = opener.indexes(image, manifest, IndexChoice(IndexKind.V2), pinned=False)
        if not indexes:
            opened = tables.open_first(*referring_seek_tables(opener.store(), image))
            if opened is not None:
                return opened
            if choice.kind is IndexKind.SEEK:
                raise tables.error(image)
            indexes = opener.indexes(image, manifest, IndexChoice(IndexKind.V1), pinned=False)
    else:
        try:
            indexes = opener.indexes(image, manifest, choice, pinned=pinned)
        except FormatError:
            opened = tables.open_requested(choice)
            if opened is None:
                raise
            return opened
    return MergedLayers(opener.open(layers, indexes), opener.notes)


def open_lowest(
    opener: LayerOpener,
    image: Descriptor,
    manifest: Manifest,
    layers: list[Descriptor],
    choice: IndexChoice,
    *,
    pinned: bool,
) -> MergedLayers:
    """Return the lowest layers of an image, and the tree of these layers alone.

    Files that the layers above hide or replace are in the zTOCs of these layers, but not in the
    file list of a seek table. So layers without a zTOC are read in full.

    Args:
        opener: opens layers.
        image: descriptor of the image's manifest.
        manifest: the manifest.
        layers: descriptors of these layers, from the lowest up.
        choice: the indexes to use, as for `open_merged`.
        pinned: whether the reference of the image has a digest.

    Raises:
        NotFoundError, FormatError, VerificationError: the requested index is missing or cannot be
            used.
    """
    kinds = [choice]
    if choice.kind is IndexKind.SEEK:
        kinds = []
    elif choice.kind is IndexKind.AUTO:
        kinds = [IndexChoice(kind) for kind in (IndexKind.V2, IndexKind.V1)[: 1 if pinned else 2]]
    indexes: list[FoundIndex] = []
    for kind in kinds:
        try:
            indexes = indexes or opener.indexes(image, manifest, kind, pinned=pinned)
        except FormatError:
            if choice.digest is None or requested_seek_table(opener.store(), choice.digest) is None:
                raise
    return MergedLayers(opener.open(layers, indexes), opener.notes)


def seek_table_problem(found: FoundSeekTable, layers: list[Descriptor]) -> TocsinError | None:
    """Return why a seek table cannot be used for an image; ``None`` if nothing is known.

    Args:
        found: the seek table.
        layers: descriptors of all layers of the image.
    """
    if found.error is not None or found.root is None:
        return found.error
    try:
        _check(found, _core.SeekRoot(found.root), layers)
    except _PROBLEMS as error:
        return error
    return None


def _check(found: FoundSeekTable, root: _core.SeekRoot, layers: list[Descriptor]) -> None:
    """Check that a seek table belongs to an image."""
    assert found.manifest is not None  # noqa: S101 (a table without an error has one)
    expected = [str(layer.digest) for layer in layers]
    listed = [root.layer(number)[0] for number in range(root.layer_count)]
    if listed != expected:
        same = sum(a == b for a, b in zip(listed, expected, strict=False))
        raise VerificationError(
            f"seek table {found.digest}: made for another image ({same} of {len(expected)} "
            f"layers are the same, and {len(listed)} are listed)",
            expected=", ".join(expected),
            actual=", ".join(listed),
        )
    if len(found.manifest.layers) != len(expected):
        raise VerificationError(
            f"seek table {found.digest}: the manifest lists the wrong number of layers (found "
            f"{len(found.manifest.layers)}, expected {len(expected)})",
            expected=str(len(expected)),
            actual=str(len(found.manifest.layers)),
        )
    for number, layer in enumerate(layers):
        if (size := root.layer(number)[2]) != layer.size:
            raise VerificationError(
                f"seek table {found.digest}: the size of layer {layer.digest} differs from the "
                f"image (found {size}, expected {layer.size})",
                expected=str(layer.size),
                actual=str(size),
            )


class _SeekTables:
    """Opens an image with a seek table.

    Args:
        opener: opens layers.
        layers: descriptors of the image's layers.
        required: whether seek tables were requested, so that zTOCs are not used instead.
    """

    def __init__(self, opener: LayerOpener, layers: list[Descriptor], *, required: bool) -> None:
        self._opener = opener
        self._layers = layers
        self._required = required
        self._first_error: TocsinError | None = None

    def open_first(self, *tables: FoundSeekTable | None) -> MergedLayers | None:
        """Return the image with the first seek table that can be used; note why others cannot."""
        for found in tables:
            if found is None:
                continue
            try:
                return self._open(found)
            except _PROBLEMS as error:
                self._first_error = self._first_error or error
                if not self._required:
                    self._opener.notes.warn(
                        f"seek table {found.digest} is not used: {error.message}"
                    )
        return None

    def open_requested(self, choice: IndexChoice) -> MergedLayers | None:
        """Return the image with the seek table given by digest; ``None`` if that is anything else.

        Raises:
            FormatError, SeekTableError, VerificationError: the seek table cannot be used.
        """
        if choice.digest is None:
            return None
        found = requested_seek_table(self._opener.store(), choice.digest)
        return None if found is None else self._open(found)

    def error(self, image: Descriptor) -> TocsinError:
        """Return the error for an image without a seek table that can be used."""
        if self._first_error is not None:
            return self._first_error
        return NotFoundError(
            f"{self._opener.store().name}: image {image.digest}: seek table not found",
            hint="Make one with tocsin create --seek, or read with zTOCs (--index auto).",
        )

    def _open(self, found: FoundSeekTable) -> MergedLayers:
        if found.error is not None:
            raise found.error
        assert found.manifest is not None  # noqa: S101 (without an error, both are known)
        assert found.root is not None  # noqa: S101 (as above)
        root = _core.SeekRoot(found.root)
        _check(found, root, self._layers)
        files = FileList(root, self._parts(found.manifest.file_list), self._opener.fetchers)
        tree = SeekTree(files)
        layers = [
            self._layer(number, files, tree, blob, is_bound=found.is_bound)
            for number, blob in enumerate(found.manifest.layers)
        ]
        pack = self._pack(found.manifest, root)
        return MergedLayers(layers, self._opener.notes, tree=tree, pack=pack)

    def _pack(self, manifest: SeekManifest, root: _core.SeekRoot) -> ImagePack | None:
        if manifest.pack_index is None or manifest.pack is None:
            return None
        rows = (root.layer(number) for number in range(root.layer_count))
        layers = tuple((row[0], row[3]) for row in rows)
        parts = self._parts(manifest.pack)
        return ImagePack(self._opener.store, manifest.pack_index, manifest.pack, parts, layers)

    def _parts(self, blob: Descriptor) -> BlobParts:
        disk = self._opener.disk
        return BlobParts(
            BlobRanges(self._opener.store, blob, "seek table blob"),
            blob.size,
            None if disk is None else disk.parts_of(blob.digest),
        )

    def _layer(
        self, number: int, files: FileList, tree: SeekTree, blob: Descriptor, *, is_bound: bool
    ) -> SeekLayer:
        layer = self._layers[number]
        _, compression, size, uncompressed_size, *_ = files.root.layer(number)
        spans: Callable[[], LayerSpans]
        if compression == _ZSTD:
            spans = partial(self._whole, layer)
            is_bound = True  # the layer's own digest is verified before its bytes are returned
        else:
            table = SeekSpanTable(
                compressed_size=size,
                spans=partial(files.spans, number),
                chunk_range=partial(files.root.seek_chunk_range, number),
                parts=self._parts(blob),
                blob=blob.digest,
            )
            spans = partial(self._spans, layer, blob, table)
        return SeekLayer(layer, number, tree, spans, size=uncompressed_size, is_bound=is_bound)

    def _spans(self, layer: Descriptor, blob: Descriptor, table: SeekSpanTable) -> LayerSpans:
        opener = self._opener
        disk = opener.disk
        return LayerSpans(
            table,
            source=BlobRanges(opener.store, layer),
            cache=opener.cache,
            fetchers=opener.fetchers,
            # Keyed by the layer's blob and not the root, since several images may share the blob.
            kept=None if disk is None else disk.spans_of(layer.digest, str(blob.digest)),
            inflated=opener.inflated_spans(layer, lambda: blob.digest.hex),
        )

    def _whole(self, layer: Descriptor) -> LayerSpans:
        """Return the bytes of a layer without checkpoints, which is read in full."""
        (opened,) = self._opener.open([layer], [])
        if isinstance(opened, UnreadableLayer):
            raise opened.error
        return opened.spans
