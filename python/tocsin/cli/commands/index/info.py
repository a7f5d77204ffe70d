"""``tocsin index info``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.options import output_options, registry_options
from tocsin.cli.output import Column, Output
from tocsin.errors import FormatError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.cli.access_log_report import ShownAccessLog
    from tocsin.images.prefetches import PrefetchInfo
    from tocsin.images.seek_tables import FoundSeekTable
    from tocsin.layers.pack import PackIndex
    from tocsin.model.platform import Platform
    from tocsin.model.reference import Reference
    from tocsin.model.soci_index import SociIndex
    from tocsin.stores.base import Source
    from tocsin.stores.registry import RegistryOptions

_STDIN = "-"
_COLUMNS = (
    Column("ZTOC"),
    Column("SIZE", "right"),
    Column("LAYER"),
    Column("TYPE"),
    Column("SPAN SIZE", "right"),
    Column("XATTRS"),
)


@dataclass(frozen=True, slots=True)
class _FoundPack:
    """A pack in a seek table of an image, with its origin."""

    place: str
    table: FoundSeekTable
    pack: PackIndex


@dataclass(frozen=True, slots=True)
class _Found:
    """A SOCI index as bytes, with its origin and its prefetch artifacts."""

    data: bytes
    place: str
    prefetches: tuple[PrefetchInfo, ...] = ()


@command(summary="Show the contents of SOCI indexes and access logs.")
@click.argument("place", metavar="REFERENCE|FILE")
@click.option(
    "-p",
    "--platform",
    type=parameters.platform,
    metavar="OS/ARCH",
    help="Platform whose indexes to show.  [default: all]",
)
@registry_options
@output_options
@click.pass_context
def info(
    context: click.Context,
    *,
    place: str,
    platform: Platform | None,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Show the contents of SOCI indexes and access logs.

    The contents of a SOCI index are its subject, its zTOCs with their layers, and its prefetch
    artifacts; those of an access log are the files that a program used. REFERENCE is an image, or
    one of them given by its digest. FILE is a SOCI index as JSON; - for stdin.

    Examples:
      tocsin index info ghcr.io/team/app:1-soci
      tocsin index info oci:images:app-soci
      tocsin index info oci:images@sha256:0123... --json

    Prefetch artifacts are shown with their spans and the files that are completely in these spans.
    The packs of seek tables are shown too.
    --json prints the SOCI index itself, indented, and requires that there is only one. If it lists
    prefetch artifacts, prefetches[] is added, with the same keys as in tocsin info. For an access
    log given by its digest, the keys are digest, media_type, manifest_size, size, created, problem,
    taken, reason, image, platform, tool, files[]: time, path, ranges[].
    """
    packs: list[_FoundPack] = []
    logs: list[ShownAccessLog] = []
    if place == _STDIN or Path(place).is_file():
        from tocsin.model.go_json import MAX_SIZE  # noqa: PLC0415 (not for --help)
        from tocsin.regular_file import read_regular  # noqa: PLC0415 (as above)

        data = (
            sys.stdin.buffer.read() if place == _STDIN else read_regular(place, max_size=MAX_SIZE)
        )
        found = [_with_prefetches(None, data, place)]
    else:
        found, packs, logs = _found_at(parameters.reference(place), platform, registry)
    if not output.json:
        _write_all(found, packs, logs, output)
        return
    if not found and not logs:
        raise _no_index(place, platform)
    kind, count = ("SOCI index", len(found)) if found else ("access log", len(logs))
    if count > 1:
        raise click.UsageError(
            f"--json prints only one {kind}, but {place} has {count}: choose one with --platform "
            "or by digest",
            context,
        )
    if not found:
        output.document(logs[0].to_dict())
        return
    _parse(found[0])
    document = json.loads(found[0].data)
    if found[0].prefetches:
        document["prefetches"] = [prefetch.to_dict() for prefetch in found[0].prefetches]
    output.document(document)


def _write_all(
    found: list[_Found], packs: list[_FoundPack], logs: list[ShownAccessLog], output: Output
) -> None:
    from tocsin.cli.access_log_report import write_access_log  # noqa: PLC0415 (not for --help)

    parts: list[Callable[[], None]] = [
        *(partial(_write, each, output) for each in found),
        *(partial(_write_pack, each, output) for each in packs),
        *(partial(write_access_log, each, output) for each in logs),
    ]
    for at, write in enumerate(parts):
        if at:
            output.line()
        write()


def _found_at(
    reference: Reference, platform: Platform | None, registry: RegistryOptions | None
) -> tuple[list[_Found], list[_FoundPack], list[ShownAccessLog]]:
    from tocsin.stores.opening import open_source  # noqa: PLC0415 (not for --help)

    found: list[_Found] = []
    packs: list[_FoundPack] = []
    logs: list[ShownAccessLog] = []
    with open_source(reference, registry=registry) as store:
        for one in _find(store, reference, platform):
            if isinstance(one, _FoundPack):
                packs.append(one)
            elif isinstance(one, _Found):
                found.append(one)
            else:
                logs.append(one)
    if not found and not packs and not logs:
        raise _no_index(str(reference), platform)
    return found, packs, logs


def _no_index(place: str, platform: Platform | None) -> NotFoundError:
    suffix = f" for {platform}" if platform is not None else ""
    return NotFoundError(
        f"{place}: has no SOCI index or access log{suffix}",
        hint="Create a SOCI index with tocsin create.",
    )


def _find(
    store: Source, reference: Reference, platform: Platform | None
) -> Iterator[_Found | _FoundPack | ShownAccessLog]:
    from tocsin.cli.access_log_report import access_log_at  # noqa: PLC0415 (not for --help)
    from tocsin.images.access_logs import access_logs_of  # noqa: PLC0415 (as above)
    from tocsin.images.coverage import image_coverage  # noqa: PLC0415 (as above)
    from tocsin.model.access_log_manifest import is_access_log  # noqa: PLC0415 (as above)
    from tocsin.model.media_types import is_manifest  # noqa: PLC0415 (as above)

    named = store.resolve(reference.selector)
    if is_manifest(named.media_type):
        data = store.manifest(named)
        if is_access_log(data):
            yield access_log_at(store, named, str(reference))
            return
        if _is_soci_index(data):
            yield _with_prefetches(store, data, str(reference))
            return
    for image in image_coverage(store, named).platforms:
        if platform is not None and (
            image.platform is None or not platform.matches(image.platform)
        ):
            continue
        for index in image.soci_indexes:
            name = f"{image.platform or 'image'} · SOCI index, version {index.version}"
            if index.descriptor is None:
                raise NotFoundError(index.problem or f"SOCI index {index.digest}: not found")
            prefetches = tuple(each for each in image.prefetches if each.index == index.digest)
            yield _Found(store.manifest(index.descriptor), name, prefetches)
        for table in image.seek_tables:
            if (pack := _pack_of(store, table)) is not None:
                yield _FoundPack(f"{image.platform or 'image'} · pack", table, pack)
        for log in access_logs_of(store, image.manifest.digest):
            if log.error is None:
                place = f"{image.platform or 'image'} · access log"
                yield access_log_at(store, log.descriptor, place)


def _pack_of(store: Source, table: FoundSeekTable) -> PackIndex | None:
    from tocsin.images.seek_tables import read_pack_index  # noqa: PLC0415 (not for --help)
    from tocsin.layers.pack import PackIndex  # noqa: PLC0415

    if table.manifest is None or table.manifest.pack_index is None:
        return None
    return PackIndex(read_pack_index(store, table.manifest.pack_index))


def _with_prefetches(store: Source | None, data: bytes, place: str) -> _Found:
    from tocsin.images.prefetches import prefetches_of  # noqa: PLC0415 (not for --help)
    from tocsin.model.digest import Digest  # noqa: PLC0415

    found = _Found(data, place)
    index = _parse(found)
    return replace(found, prefetches=prefetches_of(store, Digest.of(data), index))


def _is_soci_index(data: bytes) -> bool:
    from tocsin.model.soci_index import SociIndex  # noqa: PLC0415 (not for --help)

    try:
        SociIndex.from_json(data)
    except FormatError as error:
        if error.what != "soci_index":
            raise
        return False
    return True


def _parse(found: _Found) -> SociIndex:
    from tocsin.model.soci_index import SociIndex  # noqa: PLC0415 (not for --help)

    try:
        return SociIndex.from_json(found.data)
    except FormatError as error:
        error.add_note(found.place)
        raise


def _write(found: _Found, output: Output) -> None:
    from tocsin.cli.commands.info import short_media_type  # noqa: PLC0415 (not for --help)
    from tocsin.cli.prefetch_report import write_prefetches  # noqa: PLC0415
    from tocsin.model import soci_index as names  # noqa: PLC0415
    from tocsin.model.digest import Digest  # noqa: PLC0415

    index = _parse(found)
    output.heading(words.printable(found.place))
    facts = {
        "digest": str(Digest.of(found.data)),
        "version": str(index.version),
        "zTOCs": f"{len(index.ztocs)}, {words.size(sum(ztoc.size for ztoc in index.ztocs))}",
    }
    if index.subject is not None:
        facts["subject"] = str(index.subject.digest)
    facts["made by"] = words.printable(
        index.annotations.get(names.BUILD_TOOL_IDENTIFIER, "unknown")
    )
    output.facts(facts)
    rows = []
    for ztoc in index.ztocs:
        annotations = ztoc.annotations
        rows.append(
            (
                words.short(ztoc.digest),
                words.size(ztoc.size),
                words.short(annotations.get(names.IMAGE_LAYER_DIGEST, words.NOTHING)),
                short_media_type(annotations.get(names.IMAGE_LAYER_MEDIA_TYPE, "")),
                _span_size(annotations.get(names.SPAN_SIZE, "")),
                "off" if annotations.get(names.DISABLE_XATTRS) == "true" else "on",
            )
        )
    output.table(_COLUMNS, rows)
    write_prefetches(found.prefetches, output)
    if not names.is_go_exact(found.data):
        output.warn(
            "soci-snapshotter cannot store this index: its JSON differs from the output of Go's"
            " encoder"
        )


def _write_pack(found: _FoundPack, output: Output) -> None:
    table, pack = found.table, found.pack
    output.heading(words.printable(found.place))
    binding = "the image names it" if table.is_bound else "it refers to the image"
    output.facts(
        {
            "seek table": f"{table.digest}, {binding}",
            "size": words.size(table.pack_size),
            "content": words.size(pack.content_size),
            "frames": f"{pack.frame_count:,}",
            "parts": f"{pack.extent_count:,}",
        }
    )


def _span_size(text: str) -> str:
    return words.round_size(int(text)) if text.isascii() and text.isdecimal() else words.NOTHING
