"""Runs ``create`` and ``convert`` with progress, and prints a report at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.cli import indexing_report, words
from tocsin.cli.progress import display_for, seek_blob_line, shown_on, ztoc_line
from tocsin.errors import UnsupportedError
from tocsin.indexing.results import ConvertResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.output import Output
    from tocsin.indexing.options import IndexingOptions
    from tocsin.indexing.results import CreateResult
    from tocsin.model.events import LayerFinished, Progress
    from tocsin.model.layer_result import LayerResult
    from tocsin.model.reference import Reference


def run(
    work: Callable[[Progress], CreateResult],
    *,
    source: Reference,
    options: IndexingOptions,
    output: Output,
) -> None:
    """Call `work` with a progress callback, and print its result.

    Args:
        work: function that indexes the image.
        source: the image to index.
        options: indexing options.
        output: where to write.

    Raises:
        UnsupportedError: no layer has a zTOC.
    """
    seen: list[LayerResult] = []

    def line(event: LayerFinished) -> str:
        assert event.result is not None  # noqa: S101 (indexing always sets it)
        seen.append(event.result)
        return _layer_line(event.result, options.min_layer_size)

    with display_for(output) as display:
        try:
            result = work(shown_on(display, line=line))
        except UnsupportedError as error:
            if seen and all(layer.layer.size < options.min_layer_size for layer in seen):
                raise _all_small(source, len(seen), options.min_layer_size, error.hint) from error
            raise
    if output.json:
        output.document(result.to_dict())
    elif output.quiet:
        for digest in _digests(result):
            output.line(digest)
    else:
        indexing_report.write_report(result, output, min_layer_size=options.min_layer_size)


def _layer_line(result: LayerResult, min_layer_size: int) -> str:
    name = f"{words.short_digest(result.layer.digest)} {words.size(result.layer.size)}"
    seconds = None if result.reused else result.seconds
    if result.ztoc is None and result.seek_blob is not None:
        return f"{name} → {seek_blob_line(result.seek_blob.size, seconds)}"
    if result.ztoc is None:
        return f"{name} skipped: {indexing_report.skip_reason(result, min_layer_size)}"
    return f"{name} → {ztoc_line(result.ztoc.size, result.span_count, seconds)}"


def _all_small(
    source: Reference, count: int, min_layer_size: int, hint: str | None
) -> UnsupportedError:
    """Return a shorter error, with a readable size."""
    subject = f"all {count} layers are" if count > 1 else "the only layer is"
    smaller = f"smaller than {words.round_size(min_layer_size)}"
    return UnsupportedError(f"{source}: nothing to index: {subject} {smaller}", hint=hint)


def _digests(result: CreateResult) -> list[str]:
    if isinstance(result, ConvertResult):
        return [str(result.image.digest)]
    made = ((platform.soci_index, platform.seek_table) for platform in result.platforms)
    return [str(index.digest) for pair in made for index in pair if index is not None]
