"""``tocsin copy``: copy an image with its indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.options import force_option, output_options, registry_options

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions


@command(summary="Copy an image with its indexes.")
@click.argument("source", metavar="SOURCE", type=parameters.reference)
@click.argument("destination", metavar="DEST", type=parameters.reference)
@force_option
@registry_options
@output_options
def copy(
    *,
    source: Reference,
    destination: Reference,
    force: bool,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Copy the image SOURCE with its SOCI indexes, seek tables and access logs to DEST.

    All platforms are copied, and all digests stay the same. Other tools also copy version 2
    indexes and the seek tables of converted images, which are part of the image, but not version 1
    indexes, seek tables and access logs that only refer to it.

    Examples:
      tocsin copy ghcr.io/team/app:1 quay.io/team/app:1
      tocsin copy oci:images:app ghcr.io/team/app:1

    With --quiet, only the digest of the image is printed. JSON keys: source, destination, image,
    soci_indexes[], seek_tables[], access_logs[], seconds, traffic: read, pushed, ztocs, manifests,
    blobs, mounted.
    """
    from tocsin.cli.indexing_report import traffic_line  # noqa: PLC0415 (not for --help)
    from tocsin.images.copy import copy as make  # noqa: PLC0415

    result = make(source, destination, force=force, registry=registry)
    if output.json:
        output.document(result.to_dict())
        return
    if output.quiet:
        output.line(str(result.image.digest))
        return
    output.line(f"image {result.image.digest}")
    for index in result.soci_indexes:
        output.line(f"index {index.digest}")
    for table in result.seek_tables:
        output.line(f"seek {table.digest}")
    for log in result.access_logs:
        output.line(f"access log {log.digest}")
    output.note(traffic_line(result.traffic))
    output.note(f"copied in {words.duration(result.seconds)} → {result.destination}")
