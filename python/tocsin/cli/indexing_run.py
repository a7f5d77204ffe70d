"""What ``create`` and ``convert`` have in common: progress while they run, a report at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.cli import indexing_report, words
from tocsin.cli.failures import HINT
from tocsin.cli.progress import display_for, ztoc_line
from tocsin.errors import UnsupportedError
from tocsin.indexing.results import ConvertResult, LayerFinished
from tocsin.model.events import LayerAdvanced, LayerStarted, Planned

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.output import Output
    from tocsin.cli.progress import Display
    from tocsin.indexing.options import IndexingOptions
    from tocsin.indexing.results import CreateResult, Event, LayerResult, Progress


def run(
    work: Callable[[Progress], CreateResult], *, options: IndexingOptions, output: Output
) -> None:
    """Do `work`, which is given the progress callback, and tell what came of it.

    Raises:
        UnsupportedError: no layer got a zTOC.
    """
    seen: list[LayerResult] = []
    with display_for(output) as display:
        try:
            result = work(_following(display, seen, options.min_layer_size))
        except UnsupportedError as error:
            if seen and all(layer.ztoc is None for layer in seen):
                raise _nothing_made(error, seen, options.min_layer_size) from error
            raise
    if output.json:
        output.document(_document(result))
    elif output.quiet:
        for digest in _digests(result):
            output.line(digest)
    else:
        indexing_report.tell(result, output, min_layer_size=options.min_layer_size)


def _following(display: Display, seen: list[LayerResult], min_layer_size: int) -> Progress:
    def follow(event: Event) -> None:
        match event:
            case LayerFinished(result):
                seen.append(result)
                line = _layer_line(result, min_layer_size)
                display.finish(words.short_digest(result.layer.digest), line)
            case _:
                show_reading(display, event)

    return follow


def show_reading(display: Display, event: Planned | LayerStarted | LayerAdvanced) -> None:
    """Show how far the reading of layers is, whatever it is for."""
    match event:
        case Planned(layers):
            display.plan(len(layers), sum(layer.size for layer in layers))
        case LayerStarted(layer):
            display.start(words.short_digest(layer.digest), layer.size)
        case LayerAdvanced(layer, done):
            display.move(words.short_digest(layer.digest), done)


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


def _document(result: CreateResult) -> dict[str, object]:
    from tocsin.cli import documents  # noqa: PLC0415 (most runs print none)

    document = documents.result_document(result)
    if isinstance(result, ConvertResult):
        document["image"] = documents.descriptor_document(result.image)
        document["unchanged"] = result.unchanged
    return document


def _digests(result: CreateResult) -> list[str]:
    if isinstance(result, ConvertResult):
        return [str(result.image.digest)]
    return [str(made.soci_index.digest) for made in result.platforms if made.soci_index is not None]
