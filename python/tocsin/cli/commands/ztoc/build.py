"""``tocsin ztoc build``."""

from __future__ import annotations

import io
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from tocsin.cli import words
from tocsin.cli.command import command
from tocsin.cli.options import (
    output_options,
    reference_identical_option,
    span_size_option,
    threads_option,
)
from tocsin.cli.output_file import STDOUT, output_file
from tocsin.cli.progress import display_for, shown_on, ztoc_line
from tocsin.errors import GzipError
from tocsin.regular_file import open_regular_or_pipe

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tocsin.cli.output import Output
    from tocsin.cli.progress import Display
    from tocsin.layers.indexer import IndexedLayerBytes

_STDIN = "-"
_MAX_WARNINGS = 10
"""Number of hazards that are listed individually; a layer can have one per entry."""
_DAMAGE = ("deflate.", "gzip.truncated", "gzip.crc", "gzip.isize")
"""Prefixes of error codes for damaged layers; other errors come from the tool that built them."""


@command(summary="Build the zTOC of a layer.")
@click.argument("layer")
@span_size_option
@reference_identical_option
@threads_option
@click.option("-o", "--output", "target", metavar="FILE", help="File for the zTOC; - for stdout.")
@output_options
def build(
    *,
    layer: str,
    span_size: int,
    reference_identical: bool,
    threads: int | None,
    target: str | None,
    output: Output,
) -> None:
    """Build the zTOC of a layer.

    LAYER is a tar file, compressed with gzip or uncompressed; - for stdin. Prints the digest of the
    zTOC and its size in bytes. Without -o, the zTOC itself is not stored.

    Examples:
      tocsin ztoc build layer.tar.gz -o layer.ztoc
      curl -sL "$URL" | tocsin ztoc build - --span-size 1MiB -o layer.ztoc

    JSON keys: layer: digest, size, format, diff_id, uncompressed_size, needs_xattrs; ztoc: the
    first ten keys of ztoc info; hazards[]: entry_index, name, kind, reason;
    dropped_checkpoint_count, output, seconds.
    """
    if output.json and target == STDOUT:
        raise click.UsageError("--json and -o - both write to stdout")
    started = time.monotonic()
    with ExitStack() as stack:
        write = None if target is None else stack.enter_context(output_file(target))
        indexed = _index(
            layer,
            span_size,
            display_for(output),
            reference_identical=reference_identical,
            threads=threads,
        )
        if write is not None:
            write(indexed.ztoc.to_bytes())
    seconds = time.monotonic() - started
    ztoc = indexed.ztoc
    output.note(
        f"{_name(layer)} {words.size(indexed.size)} → "
        f"{ztoc_line(ztoc.size, ztoc.span_count, seconds)}"
    )
    _warn(indexed, output)
    if output.json:
        rest = {"output": target, "seconds": round(seconds, 3)}
        output.document({**indexed.to_dict(), **rest})
    elif target == STDOUT:
        output.note(f"{ztoc.digest} {ztoc.size}")
    else:
        output.line(f"{ztoc.digest} {ztoc.size}")


def _index(
    layer: str,
    span_size: int,
    display: Display,
    *,
    reference_identical: bool,
    threads: int | None,
) -> IndexedLayerBytes:
    from tocsin.layers.indexer import index_layer  # noqa: PLC0415 (numpy is not for --help)

    with _opened(layer) as file, display:
        try:
            return index_layer(
                file,
                span_size=span_size,
                reference_identical=reference_identical,
                threads=threads,
                progress=shown_on(display, name=_name(layer)),
            )
        except Exception as error:
            error.add_note("stdin" if layer == _STDIN else layer)
            if isinstance(error, GzipError) and error.what.startswith(_DAMAGE):
                error.hint = "Download or build the layer again: it is damaged or truncated."
            raise


def _name(layer: str) -> str:
    return "stdin" if layer == _STDIN else Path(layer).name


def _opened(layer: str) -> AbstractContextManager[io.RawIOBase | IO[bytes]]:
    if layer == _STDIN:
        return nullcontext(sys.stdin.buffer)
    return io.FileIO(open_regular_or_pipe(layer))


def _warn(indexed: IndexedLayerBytes, output: Output) -> None:
    ztoc = indexed.ztoc
    hazards = () if output.json else indexed.hazards  # the document lists them
    for hazard in hazards[:_MAX_WARNINGS]:
        name = words.escaped(ztoc.entries[hazard.entry_index].name)
        output.warn(f"soci-snapshotter cannot read {name}: {hazard.reason}")
    if len(hazards) > _MAX_WARNINGS:
        output.warn(f"and {len(hazards) - _MAX_WARNINGS:,} more entries; --json lists all")
    if indexed.dropped_checkpoint_count and not output.json:
        output.warn(
            f"removed {words.count(indexed.dropped_checkpoint_count, 'checkpoint')} that soci would"
            " keep but soci-snapshotter rejects; --reference-identical keeps them"
        )
    # Hazards also cause refusals, which would repeat the same reason in other words.
    for refusal in () if indexed.hazards else ztoc.reader_refusals():
        output.warn(f"soci-snapshotter rejects this zTOC: {refusal}")
