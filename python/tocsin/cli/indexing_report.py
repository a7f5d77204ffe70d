"""Prints the results of ``create`` and ``convert`` for users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.cli import words
from tocsin.cli.output import Column
from tocsin.indexing.results import ConvertResult

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.indexing.results import CreateResult, PlatformResult
    from tocsin.model.digest import Digest
    from tocsin.model.layer_result import LayerResult
    from tocsin.stores.metering import Traffic

_LAYER = (Column("LAYER"), Column("SIZE", "right"))
_ZTOC = (Column("ZTOC"), Column("SIZE", "right"), Column("OVERHEAD", "right"))
_SPANS = (Column("SPANS", "right"),)
_SEEK = (Column("SEEK", "right"),)
_TIME = (Column("TIME", "right"),)


def write_report(result: CreateResult, output: Output, *, min_layer_size: int) -> None:
    """Write a table for each platform, then a summary."""
    for platform in result.platforms:
        _write_platform(platform, output, min_layer_size)
    if isinstance(result, ConvertResult):
        output.line(f"image {result.image.digest}")
    for platform in result.platforms:
        if platform.existing_indexes and not platform.skipped:
            output.warn(_existing(platform))
    for path in result.missing_prefetch:
        output.warn(f"{path} is not in any indexed layer, so it is not prefetched")
    if isinstance(result, ConvertResult) and result.destination.startswith("docker://"):
        output.note(
            "the tag now names an image index with new digests; for services that require a "
            "single manifest, such as AWS Lambda, use tocsin create instead"
        )
    if all(platform.skipped for platform in result.platforms):
        output.line("nothing was written")
        return
    has_ztocs = any(platform.soci_index is not None for platform in result.platforms)
    has_seek = any(platform.seek_table is not None for platform in result.platforms)
    made = [name for name, has in (("zTOCs", has_ztocs), ("seek tables", has_seek)) if has]
    output.line(
        traffic_line(
            result.traffic, dry_run=result.dry_run, index_blobs=" and ".join(made) or "zTOCs"
        )
    )
    if isinstance(result, ConvertResult) and result.unchanged:
        output.line(
            words.printable(f"{result.destination} is already up to date: nothing was written")
        )
        return
    if result.dry_run:
        output.line("dry run: nothing was written")
    output.line(words.printable(f"{_summary(result)} → {result.destination}"))


def traffic_line(traffic: Traffic, *, dry_run: bool = False, index_blobs: str = "zTOCs") -> str:
    """Return ``read 81.2 MiB, pushed 1.3 MiB (zTOCs 1.3 MiB, manifests 2.1 KiB)``.

    Args:
        traffic: bytes read and written.
        dry_run: whether nothing was written.
        index_blobs: what the blobs are that were made.
    """
    parts = [
        f"{name} {words.size(byte_count)}"
        for name, byte_count in (
            (index_blobs, traffic.ztocs),
            ("indexes and manifests", traffic.manifests),
            ("layers and configs", traffic.blobs),
        )
        if byte_count
    ]
    line = f"read {words.size(traffic.read)}"
    line += f", {'would push' if dry_run else 'pushed'} {words.size(traffic.pushed)}"
    if parts:
        line += f" ({', '.join(parts)})"
    if traffic.mounted:
        line += f", reused {words.size(traffic.mounted)} without sending"
    return line


def skip_reason(result: LayerResult, min_layer_size: int) -> str:
    """Return why a layer has no zTOC, with readable sizes."""
    if result.layer.size < min_layer_size:
        return f"smaller than {words.round_size(min_layer_size)}"
    return result.skipped or ""


def _layers(result: CreateResult) -> list[LayerResult]:
    """Return all layers of all platforms without duplicates."""
    layers = {
        (layer.layer.digest, layer.layer.media_type): layer
        for platform in result.platforms
        for layer in platform.layers
    }
    return list(layers.values())


def _summary(result: CreateResult) -> str:
    """Return the totals as one line; a layer of several platforms counts once."""
    layers = _layers(result)
    table_count = sum(platform.seek_table is not None for platform in result.platforms)
    seek_size, total = _seek_size(result), sum(layer.layer.size for layer in layers)
    if table_count and not any(platform.soci_index for platform in result.platforms):
        return (
            f"{words.count(table_count, 'seek table')} for {words.count(len(layers), 'layer')}, "
            f"{words.size(seek_size)} for {words.size(total)} ({words.percent(seek_size, total)}), "
            f"in {words.duration(result.seconds)}"
        )
    seek = ""
    if table_count:
        seek = (
            f"{words.count(table_count, 'seek table')}, {words.size(seek_size)} for "
            f"{words.size(total)} ({words.percent(seek_size, total)}), "
        )
    made = [(layer.layer.size, layer.ztoc.size) for layer in layers if layer.ztoc is not None]
    layer_size = sum(size for size, _ in made)
    ztoc_size = sum(size for _, size in made)
    return (
        f"{words.count(len(made), 'zTOC')} for {words.count(len(layers), 'layer')}, "
        f"{words.size(ztoc_size)} for {words.size(layer_size)} "
        f"({words.percent(ztoc_size, layer_size)}), {seek}in {words.duration(result.seconds)}"
    )


def _seek_size(result: CreateResult) -> int:
    """Return the bytes of all seek tables; the blob of a layer of several platforms counts once."""
    shared: dict[Digest, int] = {}
    other = 0
    for platform in result.platforms:
        blobs = {
            layer.seek_blob.digest: layer.seek_blob.size
            for layer in platform.layers
            if layer.seek_blob is not None
        }
        if platform.seek_table is not None:
            shared |= blobs
            other += platform.seek_size - sum(blobs.values())
    return other + sum(shared.values())


def _write_platform(result: PlatformResult, output: Output, min_layer_size: int) -> None:
    name = str(result.platform) if result.platform is not None else "image"
    output.heading(f"{name} · manifest {words.short_digest(result.manifest.digest)}")
    if result.skipped:
        digests = ", ".join(str(index.digest) for index in result.existing_indexes)
        output.line(f"skipped: indexes already refer to it: {digests}")
        output.line()
        return
    # With --seek-only, layers of a seek table have no reason why they are skipped.
    is_soci = result.seek_table is None or any(layer.skipped for layer in result.layers)
    has_ztocs = result.soci_index is not None or is_soci
    has_seek = result.seek_table is not None
    # With the spans, the table would be wider than 80 columns; tocsin info shows them.
    columns = (
        *_LAYER,
        *(_ZTOC if has_ztocs else ()),
        *(_SEEK if has_seek else _SPANS),
        *_TIME,
    )
    rows = [_row(layer, has_ztocs=has_ztocs, has_seek=has_seek) for layer in result.layers]
    output.table(columns, rows)
    for remark in _remarks(result, min_layer_size):
        output.line(words.printable(remark))
    if result.soci_index is not None:
        output.line(f"index {result.soci_index.digest}")
    elif is_soci:
        output.line("no index: no layer has a zTOC")
    if result.seek_table is not None:
        total = sum(layer.layer.size for layer in result.layers)
        output.line(f"seek {result.seek_table.digest}")
        output.line(words.seek_table(result.seek_size, total))
        if result.pack_size:
            output.line(words.pack(result.pack_size, total))
    for note in result.pack_notes:
        output.warn(words.printable(note))
    if result.seek_problem is not None:
        output.warn(words.printable(f"no seek table: {result.seek_problem}"))
    output.line()


def _existing(result: PlatformResult) -> str:
    digests = ", ".join(str(index.digest) for index in result.existing_indexes)
    return (
        f"{result.platform or 'image'}: other indexes also refer to the image, and which one is "
        f"used depends on the registry: {digests}"
    )


def _remarks(result: PlatformResult, min_layer_size: int) -> dict[str, None]:
    """Return why layers were skipped, and notes on the others, in order without duplicates."""
    remarks: dict[str, None] = {}
    for layer in result.layers:
        name = words.short(layer.layer.digest)
        if layer.skipped is not None:
            # Small layers share one remark.
            subject = "skipped" if layer.layer.size < min_layer_size else f"{name} skipped"
            remarks[f"{subject}: {skip_reason(layer, min_layer_size)}"] = None
        for note in layer.notes:
            remarks[f"{name}: {note}"] = None
    return remarks


def _row(result: LayerResult, *, has_ztocs: bool, has_seek: bool) -> tuple[str, ...]:
    layer, ztoc, seek = result.layer, result.ztoc, result.seek_blob
    cells = [words.short(layer.digest), words.size(layer.size)]
    if has_ztocs and ztoc is None:
        cells += ["skipped", *[words.NOTHING] * 2]
    elif ztoc is not None:
        cells += [
            words.short(ztoc.digest),
            words.size(ztoc.size),
            words.percent(ztoc.size, layer.size),
        ]
    if has_seek:
        cells.append(words.NOTHING if seek is None else words.size(seek.size))
    else:
        cells.append(words.NOTHING if ztoc is None else f"{result.span_count:,}")
    if ztoc is None and seek is None:
        return (*cells, words.NOTHING)
    return (*cells, "reused" if result.reused else words.duration(result.seconds))
