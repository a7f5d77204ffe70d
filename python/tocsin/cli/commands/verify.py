"""``tocsin verify``: verify SOCI indexes and seek tables against their image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tocsin.cli import exit_codes, parameters
from tocsin.cli.command import command
from tocsin.cli.options import (
    jobs_option,
    output_options,
    platforms_option,
    registry_options,
    threads_option,
)

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions


@command(summary="Verify the indexes of an image.")
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@click.option(
    "--quick",
    is_flag=True,
    help="Check a random sample of each layer's spans instead of whole layers.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Seed of the sample, to repeat a previous run; implies --quick.  [default: random]",
)
@platforms_option
@jobs_option
@threads_option
@registry_options
@output_options
def verify(
    *,
    image: Reference,
    quick: bool,
    seed: int | None,
    platforms: tuple[Any, ...],
    jobs: int | None,
    threads: int | None,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Verify all SOCI indexes and seek tables of IMAGE against its layers.

    Each layer that has a zTOC or seek blob is read once, without storing it on disk. Both are
    rebuilt and compared, and so is the file list of a seek table. Digests, diff IDs, media types,
    the links between image, index and zTOC, and the restrictions of soci-snapshotter are also
    checked. Layers without a zTOC or seek blob are not read.

    --quick fetches only a few spans of each layer, and checks their digests, windows and tar
    headers, and parts of the file list. It does not verify the other spans, layer digests or diff
    IDs, so it does not detect a deliberately manipulated index.

    The exit code is 1 if an index is wrong or incomplete, or if soci-snapshotter cannot read it.
    zTOCs of other tools may differ in layout, as long as their contents are correct.

    Examples:
      tocsin verify ghcr.io/team/app:1-soci
      tocsin verify ghcr.io/team/app:1-soci --quick
      tocsin verify oci:images:app --platform linux/arm64
      tocsin verify oci:images:app --json | jq '.errors, .warnings'

    With --quiet, only errors are printed. JSON keys: image, manifest, ok, quick, seed, seconds,
    errors, warnings, findings[], platforms[]: platform, manifest, ok, findings[], soci_indexes[]:
    digest, media_type, size, version, ok, findings[], layers[]: digest, media_type, size, ztoc,
    span_count, checked_spans, ok, findings[]: kind, severity, message, expected, actual. Severity
    is error, warning or note. Platforms also have seek_tables[]: digest, bound, span_size,
    entry_count, checked_entries, pack_frames, checked_frames, ok, findings[], layers[]: digest,
    media_type, size, seek_blob, span_count, checked_spans, ok, findings[].
    """
    from tocsin.cli.progress import display_for, shown_on  # noqa: PLC0415 (not for --help)
    from tocsin.cli.verify_report import layer_line, write_report  # noqa: PLC0415
    from tocsin.verifying.verify import verify as check  # noqa: PLC0415

    with display_for(output) as display:
        result = check(
            image,
            platforms=platforms or None,
            quick=quick,
            seed=seed,
            jobs=jobs,
            threads=threads,
            registry=registry,
            progress=shown_on(display, line=layer_line),
        )
    if output.json:
        output.document(result.to_dict())
    else:
        write_report(result, output)
    if not result.ok:
        raise click.exceptions.Exit(exit_codes.FAILED)
