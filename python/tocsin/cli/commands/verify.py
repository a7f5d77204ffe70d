"""``tocsin verify``: whether SOCI indexes tell the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tocsin.cli import exit_codes, parameters
from tocsin.cli.command import command
from tocsin.cli.options import (
    output_options,
    platforms_option,
    registry_options,
    threads_option,
)

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.model.reference import Reference
    from tocsin.stores.registry import RegistryOptions


@command(summary="Prove that an image's SOCI indexes tell the truth.")
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@click.option(
    "--quick",
    is_flag=True,
    help="Read a random sample of each layer's spans, not whole layers.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Repeat the sample of another run; implies --quick.",
)
@platforms_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Layers read at once.  [default: the processors, at most 4]",
)
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
    """Check that all SOCI indexes of IMAGE say what is true of it.

    Each layer with a zTOC streams through once, nothing is kept on disk. Its zTOC is made anew and
    compared; digests and diff ids, media types, the links between image, index and zTOC, and what
    readers accept are checked too. --quick fetches a few spans of each layer instead and checks
    their digests, windows and tar headers. It proves nothing about other spans, and neither layer
    digests nor diff ids: an index made to deceive passes it easily.

    An error makes the exit code 1: something is untrue, missing or refused by readers. A zTOC that
    another tool made in its own way but truthfully is fine. Layers without a zTOC are not read.

    Examples:
      tocsin verify ghcr.io/team/app:1-soci
      tocsin verify ghcr.io/team/app:1-soci --quick
      tocsin verify oci:images:app --platform linux/arm64
      tocsin verify oci:images:app --json | jq '.errors, .warnings'

    With --quiet only errors are printed. JSON keys: image, manifest, ok, quick, seed, seconds,
    errors, warnings, findings[], platforms[]: platform, manifest, ok, findings[], soci_indexes[]:
    digest, media_type, size, version, ok, findings[], layers[]: digest, media_type, size, ztoc,
    span_count, checked_spans, ok, findings[]: kind, severity, message, expected, actual. Severity
    is error, warning or note.
    """
    from tocsin.cli.progress import display_for, shown_on  # noqa: PLC0415 (not for --help)
    from tocsin.cli.verify_report import layer_line, tell  # noqa: PLC0415
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
        tell(result, output)
    if not result.ok:
        raise click.exceptions.Exit(exit_codes.FAILED)
