"""Checks that the seek tables of an image match the image.

First the parts that belong to the whole table are read: manifest, root, position map and file list.
Then each layer's seek blob is compared with the layer (`verifying.layers`), and finally the file
list is compared with that of the rebuilt table.

Source: docs/seek-table.md#parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tocsin.errors import SeekTableError, VerificationError
from tocsin.images.seek_tables import PROBLEMS, bound_seek_table, referring_seek_tables
from tocsin.layers.seek_contents import CheckpointReader, SeekTableContents
from tocsin.layers.seek_table import SeekBlob, make_seek_table
from tocsin.model.finding import Finding
from tocsin.model.manifest import Manifest
from tocsin.model.seek_manifest import SEEK_IMAGE_DIGEST, SEEK_TABLE_DIGEST, is_seek_entry
from tocsin.quoting import shown
from tocsin.stores.base import read_blob
from tocsin.verifying.findings import warning
from tocsin.verifying.seek_layer import layer_differences
from tocsin.verifying.seek_list import encoding_note, list_differences, root_differences
from tocsin.verifying.unreadable import bad_annotation, missing, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tocsin.images.selection import PlatformImage
    from tocsin.layers.seek_table import SeekParts
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.seek_manifest import SeekManifest
    from tocsin.stores.base import Source

MAX_SEEK_BLOB_SIZE = 1 << 30
"""Maximum bytes of a seek blob or file list; the blob of a 10 GiB layer has about 150 MiB."""
DAMAGED = (SeekTableError, VerificationError)
"""Errors of a part whose digest differs, or that cannot be parsed."""


@dataclass(slots=True)
class SeekLayerCheck:
    """The result of checking a layer's part of a seek table.

    Attributes:
        layer: descriptor in the image's manifest.
        number: number of the layer, 0 for the lowest.
        blob: descriptor of the seek blob.
        table: the seek table.
        span_count: number of spans according to the root.
        checked_spans: number of spans compared with the layer.
        findings: findings about the seek blob.
    """

    layer: Descriptor
    number: int
    blob: Descriptor
    table: SeekTableCheck
    span_count: int = 0
    checked_spans: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def span_size(self) -> int:
        """Uncompressed bytes between two checkpoints."""
        return self.table.readable_contents.span_size


@dataclass(slots=True)
class SeekTableCheck:
    """The result of checking one seek table.

    Attributes:
        digest: digest of its manifest.
        is_bound: whether the image's manifest names it.
        manifest: the parsed manifest; ``None`` if it cannot be read.
        root: bytes of the root; ``None`` if it cannot be read.
        contents: the decoded root; ``None`` if it cannot be read or belongs to another image.
        layers: results for the layers; empty without `contents`.
        checked_entries: number of entries of the file list compared with the image.
        frame_count: number of frames of its pack; ``None`` without a pack that can be read.
        checked_frames: number of frames compared with the layers, in full or in part.
        findings: findings about the table and its file list.
    """

    digest: Digest
    is_bound: bool
    manifest: SeekManifest | None = None
    root: bytes | None = field(default=None, repr=False)
    contents: SeekTableContents | None = None
    layers: list[SeekLayerCheck] = field(default_factory=list)
    checked_entries: int = 0
    frame_count: int | None = None
    checked_frames: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def readable_contents(self) -> SeekTableContents:
        """The decoded root of a table that has `layers`."""
        assert self.contents is not None  # noqa: S101 (as documented)
        return self.contents

    def add(
        self, kind: str, message: str, *, expected: str | None = None, actual: str | None = None
    ) -> None:
        """Add a finding."""
        text = f"seek table {self.digest}: {message}"
        self.findings.append(Finding(kind, text, expected=expected, actual=actual))


# The table


def seek_table_checks(
    store: Source, image: PlatformImage, entries: Sequence[Descriptor]
) -> tuple[list[SeekTableCheck], list[Finding]]:
    """Return the seek tables of one platform's image, and findings about the image's manifest.

    Args:
        store: store that contains the image.
        image: the image.
        entries: entries of the image index that lists the image; empty for a single manifest.
    """
    annotation = bad_annotation(image, SEEK_TABLE_DIGEST, "seek")
    findings = [] if annotation is None else [annotation]
    checks = []
    bound = bound_seek_table(store, image.manifest)
    for found in (bound, *referring_seek_tables(store, image.descriptor)):
        if found is None:
            continue
        check = SeekTableCheck(found.digest, found.is_bound, found.manifest, found.root)
        checks.append(check)
        if found.error is not None:
            check.findings.append(unreadable(found.error, "seek", str(found.digest)))
            continue
        _check_links(store, check, image, entries)
        _open(check, image)
    return checks, findings


def stray_seek_entries(
    store: Source, entries: Sequence[Descriptor], tables: Iterable[SeekTableCheck]
) -> Iterator[Finding]:
    """Yield the seek tables in an image index that are missing or not named by a manifest."""
    manifests = {str(entry.digest) for entry in entries}
    named = {table.digest for table in tables}
    for entry in entries:
        if not is_seek_entry(entry) or entry.digest in named:
            continue
        owner = entry.annotations.get(SEEK_IMAGE_DIGEST)
        if owner in manifests and store.has_blob(entry):
            continue  # it belongs to a platform that is not verified
        yield warning(
            "seek.stray",
            f"seek table {entry.digest}: listed in the image index for manifest "
            f"{shown(owner or 'none')}, which does not name it",
        )


def _check_links(
    store: Source, check: SeekTableCheck, image: PlatformImage, entries: Sequence[Descriptor]
) -> None:
    manifest = image.descriptor
    try:
        subject = Manifest.from_json(store.manifest(store.resolve(check.digest))).subject
    except PROBLEMS as error:
        check.findings.append(unreadable(error, "seek", str(check.digest)))
        return
    if not check.is_bound:
        found = "missing" if subject is None else f"{subject.digest} ({subject.size} bytes)"
        expected = f"{manifest.digest} ({manifest.size} bytes)"
        if found != expected:
            message = f"subject is {found}, expected {expected}"
            check.add("seek.subject", message, expected=expected, actual=found)
        return
    if subject is not None:
        check.findings.append(
            warning(
                "seek.subject",
                f"seek table {check.digest}: subject is {subject.digest}, but a table that the "
                "image's manifest names must not have a subject",
            )
        )
    listed = [entry for entry in entries if entry.digest == check.digest]
    if not listed:
        check.findings.append(
            warning(
                "seek.unlisted",
                f"seek table {check.digest}: not listed in an image index, so a registry may "
                "delete it",
            )
        )
        return
    owners = [entry.annotations.get(SEEK_IMAGE_DIGEST) for entry in listed]
    if str(manifest.digest) not in owners:
        owner = shown(owners[0]) if owners[0] else "none"
        message = f"listed in the image index for manifest {owner}, but named by {manifest.digest}"
        check.add(
            "seek.annotation", message, expected=str(manifest.digest), actual=owners[0] or "none"
        )


def _open(check: SeekTableCheck, image: PlatformImage) -> None:
    """Decode the root, and check that it belongs to this image."""
    assert check.manifest is not None  # noqa: S101 (the table could be read)
    assert check.root is not None  # noqa: S101 (the same)
    try:
        contents = SeekTableContents(check.root)
    except SeekTableError as error:
        check.add("seek.root", error.message)
        return
    layers = image.manifest.layers or ()
    expected = [str(layer.digest) for layer in layers]
    listed = [layer.digest for layer in contents.layers]
    if listed != expected:
        same = sum(one == other for one, other in zip(listed, expected, strict=False))
        message = (
            f"made for another image ({same} of {len(expected)} layers are the same, and "
            f"{len(listed)} are listed)"
        )
        check.add("seek.image", message, expected=", ".join(expected), actual=", ".join(listed))
        return
    if len(check.manifest.layers) != len(layers):
        check.add(
            "seek.layers",
            f"the manifest lists {len(check.manifest.layers)} seek blobs, expected {len(layers)}",
            expected=str(len(layers)),
            actual=str(len(check.manifest.layers)),
        )
        return
    sizes = [("the file list", "", contents.list_size, check.manifest.file_list.size)]
    rows = zip(layers, check.manifest.layers, contents.layers, strict=True)
    for number, (layer, blob, row) in enumerate(rows):
        sizes += [
            ("layer", f" {number}", row.size, layer.size),
            ("the seek blob", f" of layer {number}", row.blob_size, blob.size),
        ]
    for what, which, actual, size in sizes:
        if actual != size:
            check.add(
                "seek.root",
                f"size of {what}{which} is {actual} in the root, but {size} in the manifest",
                expected=str(size),
                actual=str(actual),
            )
            return
    check.contents = contents
    pairs = zip(layers, check.manifest.layers, contents.layers, strict=True)
    for number, (layer, blob, listed_layer) in enumerate(pairs):
        check.layers.append(
            SeekLayerCheck(layer, number, blob, check, span_count=listed_layer.span_count)
        )


def add_positions(store: Source, check: SeekTableCheck) -> None:
    """Read the position map, which the checks of layers need."""
    contents, manifest = check.contents, check.manifest
    if contents is None or manifest is None:
        return
    if not store.has_blob(manifest.file_list):
        check.findings.append(missing("file_list", manifest.file_list))
        return
    try:
        data = store.blob_range(manifest.file_list, *contents.positions_range)
        contents.add_positions(data)
    except PROBLEMS as error:
        check.findings.append(_part_finding(error, check, "position map", "file_list.positions"))


def _part_finding(error: Exception, check: SeekTableCheck, part: str, kind: str) -> Finding:
    assert check.manifest is not None  # noqa: S101 (the table could be read)
    if isinstance(error, DAMAGED):
        return Finding(kind, f"seek table {check.digest}: {part}: {error.message}")
    return unreadable(error, "file_list", str(check.manifest.file_list.digest))


# A layer's seek blob


def check_layers(
    store: Source,
    checks: Sequence[SeekLayerCheck],
    rebuilt: Mapping[int, SeekParts],
    compressed_bytes: Callable[[int, int], bytes],
) -> None:
    """Compare the seek blobs of one layer with the layer.

    Args:
        store: store that contains the image.
        checks: receive the findings.
        rebuilt: the parts rebuilt from the layer, by span size.
        compressed_bytes: returns a range of the layer as stored.
    """
    blobs: dict[Digest, SeekBlob | Finding] = {}
    compared: dict[tuple[Digest, int], list[Finding]] = {}
    for check in checks:
        name = check.blob.digest
        if name not in blobs:
            blobs[name] = _load(store, check.blob)
        found = blobs[name]
        if isinstance(found, Finding):
            check.findings.append(found)
            continue
        check.findings += _root_findings(check, found)
        parts = rebuilt[check.span_size]
        key = name, check.span_size
        if key not in compared:
            compared[key] = layer_differences(str(name), found, parts.seek, compressed_bytes)
        check.findings += compared[key]
        check.checked_spans = check.span_count


def _load(store: Source, descriptor: Descriptor) -> SeekBlob | Finding:
    try:
        return SeekBlob.parse(read_blob(store, descriptor, max_size=MAX_SEEK_BLOB_SIZE))
    except PROBLEMS as error:
        return unreadable(error, "seek_layer", str(descriptor.digest))


def _root_findings(check: SeekLayerCheck, blob: SeekBlob) -> Iterator[Finding]:
    """Compare what the root and the position map say about a layer with its seek blob.

    Readers take checkpoints from the blob, but their positions and digests from the table.
    """
    table, number = check.table, check.number
    place = f"seek table {table.digest}: layer {number}"
    contents = table.readable_contents
    listed = contents.layers[number]
    own = CheckpointReader.of_head(blob)
    for what, actual, expected in (
        ("span size", contents.span_size, blob.span_size),
        ("number of spans", listed.span_count, own.span_count),
        ("size of the seek blob", listed.blob_size, len(blob.blob)),
    ):
        if actual != expected:
            yield Finding(
                "seek.root",
                f"{place}: {what} is {actual} in the root, {expected} in seek blob "
                f"{check.blob.digest}",
                expected=str(expected),
                actual=str(actual),
            )
            return
    spans = contents.spans(number)
    if spans is None:  # already reported with the position map
        return
    for span_id in range(spans.span_count):
        places = spans.position(span_id), own.position(span_id)
        if places[0] != places[1]:
            listed_at, own_at = (
                f"uncompressed byte {offset}, compressed bit {bit}" for offset, bit in places
            )
            yield Finding(
                "file_list.positions",
                f"{place}: checkpoint {span_id} is at {listed_at} in the position map, at {own_at} "
                f"in seek blob {check.blob.digest}",
                expected=own_at,
                actual=listed_at,
            )
            return
    for chunk in range(spans.chunk_count):
        start, end = contents.seek_chunk_range(number, chunk)
        try:
            spans.add_chunk(chunk, blob.blob[start:end])
        except DAMAGED as error:
            yield Finding("seek.root", f"{place}: seek chunk {chunk}: {error.message}")
            return


# The file list


def check_list(store: Source, check: SeekTableCheck, layers: Sequence[SeekParts | None]) -> None:
    """Compare the file list and the root with those rebuilt from the layers.

    Args:
        store: store that contains the image.
        check: receives the findings.
        layers: the parts rebuilt from each layer with the table's span size; ``None`` for a layer
            that cannot be read.
    """
    contents, manifest = check.contents, check.manifest
    if contents is None or manifest is None or not store.has_blob(manifest.file_list):
        return  # reported when the table was opened
    try:
        blob = read_blob(store, manifest.file_list, max_size=MAX_SEEK_BLOB_SIZE)
    except PROBLEMS as error:
        check.findings.append(unreadable(error, "file_list", str(manifest.file_list.digest)))
        return
    present = [layer for layer in layers if layer is not None]
    if not _add_chunks(check, contents, blob) or len(present) < len(layers):
        return  # already reported
    try:
        made = make_seek_table(present)
    except SeekTableError as error:
        check.add("seek.root", f"cannot be rebuilt: {error.message}")
        return
    check.checked_entries = contents.entry_count
    if (made.root, made.file_list) == (check.root, blob):
        return
    rebuilt = SeekTableContents(made.root)
    _add_all(rebuilt, made.file_list)
    name = str(check.digest)
    findings: list[Finding] = []
    for number, pair in enumerate(zip(contents.layers, rebuilt.layers, strict=True)):
        findings += root_differences(name, number, *pair)
    findings += list_differences(name, contents, rebuilt)
    before = (*check.findings, *(found for layer in check.layers for found in layer.findings))
    if not findings and not before:
        findings.append(encoding_note(name))
    check.findings += findings


def _add_chunks(check: SeekTableCheck, contents: SeekTableContents, blob: bytes) -> bool:
    if len(blob) != contents.list_size:
        message = f"the file list has {len(blob)} bytes, but {contents.list_size} in the root"
        check.add("seek.root", message, expected=str(len(blob)), actual=str(contents.list_size))
        return False
    for chunk in range(contents.list_chunk_count):
        start, end = contents.list_chunk_range(chunk)
        try:
            contents.add_list_chunk(chunk, blob[start:end])
        except DAMAGED as error:
            check.add("file_list.chunk", f"file list chunk {chunk}: {error.message}")
            return False
    return True


def _add_all(contents: SeekTableContents, blob: bytes) -> None:
    for chunk in range(contents.list_chunk_count):
        start, end = contents.list_chunk_range(chunk)
        contents.add_list_chunk(chunk, blob[start:end])
