"""``tocsin status``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import words
from tocsin.cli.command import command
from tocsin.cli.mount_options import index_words
from tocsin.cli.options import output_options
from tocsin.cli.output import Column

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.model.document import Document
    from tocsin.mounting.status import MountStatus


_COLUMNS = (Column("IMAGE", wraps=True), Column("STATE"), Column("REASON", wraps=True))


@command(summary="Show what a mount, or the snapshotter, is doing.", on_linux_only=True)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the snapshotter, without DIR.  [default: /var/lib/tocsin-snapshotter]",
)
@click.option(
    "--address",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Socket of the snapshotter.  [default: /run/tocsin-snapshotter/tocsin.sock]",
)
@output_options
def status(
    *, directory: Path | None, root: Path | None, address: Path | None, output: Output
) -> None:
    """Show what the mount in the directory DIR is doing, or the images of the snapshotter.

    The first line says whether data is fetched when it is read (lazy) or all of it is on this
    machine (complete), and why. Sizes are those of compressed data. Reads that the kernel answers
    from its memory are not counted.

    Without DIR, the images that containerd has pulled for tocsin snapshotter are listed, and why
    those that containerd unpacked are not mounted lazily.

    Examples:
      tocsin status
      tocsin status /mnt
      tocsin status /mnt --json | jq .bytes_left

    JSON keys: directory, image, manifest, platform, index, state, reason, pid, since, cache_dir,
    front, files, background, bytes_total, bytes_fetched, bytes_left, bytes_cached, fetches, spans,
    spans_here, reads, reads_waiting, hits, hit_rate, failures, last_error, disk_error, access_log,
    pack. Without DIR: images[]: image, manifest, chain_id, lazy, state, reason.
    """
    from tocsin.mounting.unmounting import status_of  # noqa: PLC0415 (not for --help)

    if directory is None:
        _show_images(root, address, output)
        return
    found = status_of(directory)
    if output.json:
        output.document(found.to_dict())
    else:
        output.facts(_facts(found))


def _show_images(root: Path | None, address: Path | None, output: Output) -> None:
    from tocsin.mounting.snapshotter.config import SnapshotterConfig  # noqa: PLC0415
    from tocsin.mounting.snapshotter.pulled import pulled_images  # noqa: PLC0415

    settings = SnapshotterConfig.current().with_values(root=root, address=address)
    found = pulled_images(settings.address.absolute(), settings.root.absolute())
    if output.json:
        output.document({"images": [each.to_dict() for each in found]})
    elif found:
        rows = [(each.image or each.chain_id, each.state, each.reason) for each in found]
        output.table(_COLUMNS, rows)
    else:
        output.note("no image is pulled")


def _facts(found: MountStatus) -> dict[str, str]:
    facts = {
        "state": f"{found.state}: {found.reason}",
        "directory": found.directory,
        "image": found.image,
        "manifest": found.manifest or words.NOTHING,
        "platform": found.platform or words.NOTHING,
        "index": index_words(found.index) or words.NOTHING,
        "front": found.front,
        "access log": words.printable(found.access_log or words.NOTHING),
        "process": str(found.pid),
        "cache": found.cache_dir,
    }
    if found.bytes_total == 0:
        return facts
    rate = found.hit_rate
    return {
        **facts,
        "size": words.size(found.bytes_total),
        "fetched": f"{words.size(found.bytes_fetched)} in {words.count(found.fetches, 'request')}",
        "from cache": words.size(found.bytes_cached),
        "left": words.size(found.bytes_left),
        "spans": f"{found.spans_here:,} of {found.spans:,}",
        "reads": f"{found.reads:,}, {found.reads_waiting:,} waiting",
        "hit rate": words.NOTHING if rate is None else words.percent(found.hits, found.reads),
        "failures": f"{found.failures:,}",
        "last error": found.last_error or words.NOTHING,
        "disk": found.disk_error or "data is kept in the cache",
        "pack": _pack(found.pack),
    }


def _pack(pack: Document | None) -> str:
    if pack is None:
        return words.NOTHING
    served = f"{words.size(pack['size'])}, {words.count(pack['reads'], 'read')} served"
    return f"{pack['state']}: {pack['problem'] or served}"
