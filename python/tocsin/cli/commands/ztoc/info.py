"""``tocsin ztoc info``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import words
from tocsin.cli.command import command
from tocsin.cli.commands.ztoc.reading import read_ztoc
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.cli.output import Output

_NOUNS = {
    "reg": ("file", ""),
    "dir": ("directory", "directories"),
    "symlink": ("symbolic link", ""),
    "hardlink": ("hard link", ""),
    "char": ("character device", ""),
    "block": ("block device", ""),
    "fifo": ("pipe", ""),
}


@command(summary="Show the properties of a zTOC.")
@click.argument("file")
@output_options
def info(*, file: str, output: Output) -> None:
    """Show the properties of the zTOC in FILE; - for stdin.

    JSON keys: digest, size, version, build_tool_identifier, compression_algorithm,
    compressed_archive_size, uncompressed_archive_size, span_size, span_count, entry_count,
    type_counts, multi_span_file_count, largest_span_size, reader_refusals.
    """
    ztoc = read_ztoc(file)
    found = ztoc.info()
    if output.json:
        output.document(found.to_dict())
        return
    compressed, uncompressed = ztoc.compressed_archive_size, ztoc.uncompressed_archive_size
    output.facts(
        {
            "digest": ztoc.digest,
            "size": f"{words.size(ztoc.size)}, {words.percent(ztoc.size, compressed)} of the layer",
            "layer": f"{words.size(compressed)} {ztoc.compression_algorithm}, "
            f"{words.size(uncompressed)} uncompressed",
            "spans": f"{ztoc.span_count:,} of at least {words.round_size(ztoc.span_size)}, "
            f"largest {words.size(found.largest_span_size)} compressed",
            "entries": _entries(found.type_counts),
            "spread": f"{words.count(found.multi_span_file_count, 'file')} in more than one span",
            "made by": f"{words.printable(ztoc.build_tool_identifier)}, version {ztoc.version}",
        }
    )
    for refusal in found.reader_refusals:
        output.warn(f"soci-snapshotter rejects this zTOC: {refusal}")


def _entries(counts: Mapping[str, int]) -> str:
    parts = [words.count(count, *_NOUNS[kind]) for kind, count in counts.items() if count]
    if len(parts) < 2:  # noqa: PLR2004 (no total for a single kind)
        return parts[0] if parts else "none"
    return f"{sum(counts.values()):,}: {', '.join(parts)}"
