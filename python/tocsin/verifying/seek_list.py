"""Differences between the root and file list of a seek table and those rebuilt from the layers.

Source: docs/seek-table.md#parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.layers.seek_contents import STAT_FIELDS
from tocsin.model.finding import Finding
from tocsin.quoting import shown
from tocsin.verifying.findings import note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.layers.seek_contents import ListedEntry, RootLayer, SeekTableContents

_PLACE_FIELDS = (
    "layer of the data",
    "offset",
    "stored size",
    "number of header blocks",
    "path in the layer",
    "has-owner flag",
)
_MAX_VALUE_LEN = 200


def list_differences(
    name: str, stored: SeekTableContents, rebuilt: SeekTableContents
) -> Iterator[Finding]:
    """Yield the differences between two seek tables; all chunks of their file lists were added.

    Args:
        name: digest of the stored seek table.
        stored: the stored seek table.
        rebuilt: the seek table rebuilt from the layers, with the same span size.
    """
    listed = {entry.path: entry for entry in stored.entries()}
    found = {entry.path: entry for entry in rebuilt.entries()}
    names = _first_names(listed), _first_names(found)
    wrong: list[tuple[str, str, str | None, str | None]] = []
    for path in sorted(listed.keys() | found.keys()):
        one, other = listed.get(path), found.get(path)
        if one is None:
            wrong.append((path, "is in the layers but not in the file list", path, None))
        elif other is None:
            wrong.append((path, "is in the file list but not in the layers", None, path))
        else:
            links = names[0][one.first_name], names[1][other.first_name]
            wrong += [(path, *difference) for difference in _differences(one, other, links)][:1]
    if wrong:
        path, what, expected, actual = wrong[0]
        more = f"; {len(wrong) - 1} more entries differ" if len(wrong) > 1 else ""
        yield Finding(
            "file_list.entry",
            f"seek table {name}: entry {shown(path)}: {what}{more}",
            expected=expected,
            actual=actual,
        )


def root_differences(
    name: str, number: int, stored: RootLayer, rebuilt: RootLayer
) -> Iterator[Finding]:
    """Yield the differences between what two roots say about a layer.

    Args:
        name: digest of the stored seek table.
        number: number of the layer.
        stored: the layer in the stored root.
        rebuilt: the layer in the rebuilt root.
    """
    for what in ("compression", "size", "uncompressed_size"):
        actual, expected = str(getattr(stored, what)), str(getattr(rebuilt, what))
        if actual != expected:
            yield Finding(
                "seek.root",
                f"seek table {name}: {what} of layer {number} is {actual} in the root, {expected} "
                "in the layer",
                expected=expected,
                actual=actual,
            )


def encoding_note(name: str) -> Finding:
    """Return the finding for a seek table that differs only in its encoding."""
    return note(
        "seek.encoding",
        f"seek table {name}: matches the image but is encoded differently",
    )


def _first_names(entries: dict[str, ListedEntry]) -> dict[int, str]:
    """Return the first path of each file; several paths are hard links to the same file."""
    names: dict[int, str] = {}
    for path in sorted(entries):
        names.setdefault(entries[path].first_name, path)
    return names


def _differences(
    listed: ListedEntry, found: ListedEntry, links: tuple[str, str]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield a description, the value in the layers and the value in the file list."""
    pairs = [
        *zip(STAT_FIELDS, listed.metadata, found.metadata, strict=True),
        ("layer", listed.layer, found.layer),
        *zip(_PLACE_FIELDS, listed.place or (), found.place or (), strict=False),
        ("target", listed.target, found.target),
        ("first hard link", *links),
        ("implied flag", listed.is_implied, found.is_implied),
    ]
    for what, actual, expected in pairs:
        if actual != expected:
            texts = [
                f"{value:#o}" if what == "mode" else str(value) for value in (actual, expected)
            ]
            one, other = (text[:_MAX_VALUE_LEN] for text in texts)
            yield (
                f"{what} is {shown(one)} in the file list, {shown(other)} in the layers",
                other,
                one,
            )
