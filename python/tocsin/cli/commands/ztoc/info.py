"""``tocsin ztoc info``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import words
from tocsin.cli.command import command
from tocsin.cli.commands.ztoc.reading import read_ztoc
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.layers.ztoc import Ztoc

_NOUNS = {
    "reg": ("file", ""),
    "dir": ("directory", "directories"),
    "symlink": ("symbolic link", ""),
    "hardlink": ("hard link", ""),
    "char": ("character device", ""),
    "block": ("block device", ""),
    "fifo": ("pipe", ""),
}


@command(summary="Show what a zTOC holds.")
@click.argument("file")
@output_options
def info(*, file: str, output: Output) -> None:
    """Show what the zTOC in FILE holds; - for stdin.

    JSON keys: digest, size, version, build_tool_identifier, compression_algorithm,
    compressed_archive_size, uncompressed_archive_size, span_size, span_count, entry_count,
    type_counts, multi_span_file_count, largest_span_size, reader_refusals.
    """
    from tocsin.cli.documents import ztoc_document  # noqa: PLC0415 (not for --help)

    ztoc = read_ztoc(file)
    counts = _type_counts(ztoc)
    spread = _multi_span_file_count(ztoc)
    largest = _largest_span_size(ztoc)
    if output.json:
        output.document(
            {
                **ztoc_document(ztoc),
                "type_counts": counts,
                "multi_span_file_count": spread,
                "largest_span_size": largest,
                "reader_refusals": [refusal.text for refusal in ztoc.reader_refusals()],
            }
        )
        return
    compressed, uncompressed = ztoc.compressed_archive_size, ztoc.uncompressed_archive_size
    output.facts(
        {
            "digest": ztoc.digest,
            "size": f"{words.size(ztoc.size)}, {words.percent(ztoc.size, compressed)} of the layer",
            "layer": f"{words.size(compressed)} {ztoc.compression_algorithm}, "
            f"{words.size(uncompressed)} as a tar",
            "spans": f"{ztoc.span_count:,} of at least {words.round_size(ztoc.span_size)}; "
            f"the largest has {words.size(largest)} compressed",
            "entries": _entries(counts),
            "spread": f"{words.count(spread, 'file')} in more than one span",
            "made by": f"{words.printable(ztoc.build_tool_identifier)}, version {ztoc.version}",
        }
    )
    for refusal in ztoc.reader_refusals():
        output.warn(f"soci-snapshotter refuses this zTOC: {refusal}")


def _type_counts(ztoc: Ztoc) -> dict[str, int]:
    from collections import Counter  # noqa: PLC0415 (not for --help)

    counts = Counter(kind.decode() for kind in ztoc.files["type"].tolist())
    return {kind: counts[kind] for kind in _NOUNS}


def _multi_span_file_count(ztoc: Ztoc) -> int:
    files = ztoc.files
    spans = files["end_span"].astype("i8") - files["first_span"].astype("i8")
    return int(((files["type"] == b"reg") & (spans > 1)).sum())


def _largest_span_size(ztoc: Ztoc) -> int:
    sizes = ztoc.spans["compressed_end"] - ztoc.spans["compressed_start"]
    return int(sizes.max(initial=0))


def _entries(counts: dict[str, int]) -> str:
    parts = [words.count(count, *_NOUNS[kind]) for kind, count in counts.items() if count]
    if len(parts) < 2:  # noqa: PLR2004 (one kind is the whole)
        return parts[0] if parts else "none"
    return f"{sum(counts.values()):,}: {', '.join(parts)}"
