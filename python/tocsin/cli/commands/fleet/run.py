"""``tocsin fleet run``: execute a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import exit_codes, parameters
from tocsin.cli.command import command
from tocsin.cli.options import output_options, registry_options

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.stores.registry import RegistryOptions


@command(summary="Execute a plan, or continue it.")
@click.argument(
    "path", metavar="PLAN", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Record of what is done.  [default: PLAN.journal]",
)
@click.option(
    "--engine",
    metavar="URL",
    default="threads",
    show_default=True,
    help="Where tasks run: threads, or dask://HOST:PORT for the workers of a Dask scheduler, which"
    " requires tocsin[dask].",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Number of tasks at the same time.  [default: number of CPUs or Dask threads]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Number of CPU threads per task.  [default: 1, or more if there are more CPUs than jobs]",
)
@click.option(
    "--max-per-host",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Number of tasks that use one registry at the same time.  [default: no limit]",
)
@click.option(
    "--max-bytes",
    type=parameters.size,
    metavar="SIZE",
    help="Stop after layers of this compressed size; the next run continues.  [default: no limit]",
)
@click.option(
    "--known",
    "ztocs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory of zTOCs to use, as ZtocDirectory in Python writes it.",
)
@registry_options
@output_options
def run(
    *,
    path: Path,
    journal: Path | None,
    engine: str,
    jobs: int | None,
    threads: int | None,
    max_per_host: int | None,
    max_bytes: int | None,
    ztocs: Path | None,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Execute a plan, or continue it.

    Each unique layer is read once, the largest first, and an image gets its index as soon as its
    layers are known. What is done is in the journal: a run that was interrupted or killed continues
    with the same command, and images that failed are tried again.

    Images that no longer exist, and images whose tag names another image than when they were
    planned, are skipped. If an image fails, the others are still indexed, and the exit code is 1.

    With --engine dask://HOST:PORT, workers read the layers and write the indexes. They need tocsin,
    access to the registry and its credentials, but no shared disk.

    Examples:
      tocsin fleet run plan.json
      tocsin fleet run plan.json --max-bytes 500GB --max-per-host 8
      tocsin fleet run plan.json --engine dask://10.0.0.5:8786

    JSON keys: plan, complete, read_size, read, seconds, stopped, images and layers: total, pending,
    done, skipped, failed; traffic: read, pushed, ztocs, manifests, blobs, mounted; problems[]:
    image, state, code, reason.
    """
    from tocsin import fleet  # noqa: PLC0415 (--help needs none of these)
    from tocsin.cli import engines, fleet_report  # noqa: PLC0415
    from tocsin.indexing.ztoc_directory import ZtocDirectory  # noqa: PLC0415

    plan = fleet.Plan.read(path)
    with engines.opened(engine) as opened, fleet_report.shown(output) as progress:
        result = fleet.run(
            plan,
            journal or f"{path}.journal",
            executor=opened.executor,
            jobs=jobs or opened.slots,
            threads=threads,
            max_per_host=max_per_host,
            max_bytes=max_bytes,
            known=None if ztocs is None else ZtocDirectory(ztocs),
            registry=registry,
            progress=progress,
        )
    if output.json:
        output.document(result.to_dict())
    elif not output.quiet:
        fleet_report.write_result(result, output)
    if result.status.images.failed:
        raise click.exceptions.Exit(exit_codes.FAILED)
