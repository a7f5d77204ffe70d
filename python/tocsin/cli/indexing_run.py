"""What ``create`` and ``convert`` have in common: progress while they run, a report at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.cli import indexing_report, words
from tocsin.cli.failures import HINT
from tocsin.cli.progress import display_for, shown_on, ztoc_line
from tocsin.errors import UnsupportedError
from tocsin.indexing.results import ConvertResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.output import Output
    from tocsin.indexing.options import IndexingOptions
    from tocsin.indexing.results import CreateResult
    from tocsin.model.events import LayerFinished, Progress
    from tocsin.model.layer_result import LayerResult


def run(
    work: Callable[[Progress], CreateResult], *, options: IndexingOptions, output: Output
) -> None:
    """Do `work`, which is given the progress callback, and tell what came of it.

    Raises:
        UnsupportedError: no layer got a zTOC.
    """
    seen: list[LayerResult] = []

    def line(event: LayerFinished) -> str:
        assert event.result is not None  # noqa: S101 (indexing gives one)
        seen.append(event.result)
        return _layer_line(event.result, options.min_layer_size)

    with display_for(output) as display:
        try:
            result = work(shown_on(display, line=line))
        except UnsupportedError as error:
            if seen and all(layer.ztoc is None for layer in seen):
                raise _nothing_made(error, seen, options.min_layer_size) from error
            raise
    if output.json:
        output.document(result.to_dict())
    elif output.quiet:
        for digest in _digests(result):
            output.line(digest)
    else:
        indexing_report.tell(result, output, min_layer_size=options.min_layer_size)


def _layer_line(result: LayerResult, min_layer_size: int) -> str:
    name = f"{words.short_digest(result.layer.digest)} {words.size(result.layer.size)}"
    if result.ztoc is None:
        return f"{name} skipped: {indexing_report.skip_reason(result, min_layer_size)}"
    seconds = None if result.reused else result.seconds
    return f"{name} → {ztoc_line(result.ztoc.size, result.span_count, seconds)}"


def _nothing_made(
    error: UnsupportedError, skipped: list[LayerResult], min_layer_size: int
) -> UnsupportedError:
    """Return `error` with advice, and in fewer words when all layers are just small."""
    small = [result for result in skipped if result.layer.size < min_layer_size]
    message = str(error)
    if len(small) == len(skipped):
        place = message.partition(": ")[0]
        which = f"all {len(small)} layers are" if len(small) > 1 else "the only layer is"
        message = f"no zTOC was made, {which} smaller than {words.round_size(min_layer_size)}"
        message += f" · {place}"
    better = UnsupportedError(message)
    better.add_note(HINT + ("--min-layer-size 0 indexes small layers too" if small else ""))
    return better


def _digests(result: CreateResult) -> list[str]:
    if isinstance(result, ConvertResult):
        return [str(result.image.digest)]
    return [str(made.soci_index.digest) for made in result.platforms if made.soci_index is not None]
