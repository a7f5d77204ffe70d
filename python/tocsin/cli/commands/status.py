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
    from tocsin.mounting.status import MountStatus


_COLUMNS = (
    Column("IMAGE", wraps=True),
    Column("LAZY"),
    Column("LAYERS", "right"),
    Column("REASON", wraps=True),
)


@command(summary="Show what a mount has fetched, or which images are lazy.")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--address",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Socket of the snapshotter.  [default: /run/tocsin-snapshotter/tocsin.sock]",
)
@output_options
def status(*, directory: Path | None, address: Path | None, output: Output) -> None:
    """Show what the mount in the directory DIR is doing, or the images of tocsin snapshotter.

    With DIR, the first line says whether data is fetched when it is read (lazy) or all of it is on
    this machine (complete), and why. Sizes are those of compressed data. Reads that the kernel
    answers from its memory are not counted.

    Without DIR, each line is an image whose layers the snapshotter has: whether it is mounted
    lazily, and if not, why containerd has unpacked it. A layer that several images have is counted
    for the first one.

    Examples:
      tocsin status
      tocsin status /mnt
      tocsin status /mnt --json | jq .bytes_left

    JSON keys with DIR: directory, image, manifest, platform, index, state, reason, pid, since,
    cache_dir, front, files, background, bytes_total, bytes_fetched, bytes_left, bytes_cached,
    fetches, spans, spans_here, reads, reads_waiting, hits, hit_rate, failures, last_error,
    disk_error. JSON keys without DIR: images[]: image, lazy, layers, reason.
    """
    from tocsin.mounting.unmounting import status_of  # noqa: PLC0415 (not for --help)

    if directory is None:
        _write_images(address, output)
        return
    found = status_of(directory)
    if output.json:
        output.document(found.to_dict())
    else:
        output.facts(_facts(found))


def _write_images(address: Path | None, output: Output) -> None:
    from tocsin.mounting.snapshotter.client import images_at  # noqa: PLC0415 (seldom needed)
    from tocsin.mounting.snapshotter.config import DEFAULT_ADDRESS  # noqa: PLC0415

    images = images_at((address or DEFAULT_ADDRESS).absolute())
    if output.json:
        output.document({"images": [image.to_dict() for image in images]})
    elif images:
        output.table(
            _COLUMNS,
            [
                (
                    image.image or "unknown",
                    "yes" if image.lazy else "no",
                    str(image.layers),
                    image.reason or words.NOTHING,
                )
                for image in images
            ],
        )
    else:
        output.note("the snapshotter has no images")


def _facts(found: MountStatus) -> dict[str, str]:
    facts = {
        "state": f"{found.state}: {found.reason}",
        "directory": found.directory,
        "image": found.image,
        "manifest": found.manifest or words.NOTHING,
        "platform": found.platform or words.NOTHING,
        "index": index_words(found.index) or words.NOTHING,
        "front": found.front,
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
    }
