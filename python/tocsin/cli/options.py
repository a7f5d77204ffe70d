"""Options that several commands share."""

from __future__ import annotations

import functools
import json
import os
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tocsin.cli import parameters, streams
from tocsin.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.indexing.options import IndexingOptions
    from tocsin.stores.registry import RegistryOptions

_Command = TypeVar("_Command", bound="Callable[..., None]")

DEFAULT_SPAN_SIZE = "4MiB"
"""Same as in `tocsin.model.soci_index`, which is slow to import; a test compares the values."""
DEFAULT_MIN_LAYER_SIZE = "10MiB"
DEFAULT_SEEK_SPAN_SIZE = "256KiB"

span_size_option = click.option(
    "--span-size",
    type=parameters.size,
    metavar="SIZE",
    default=DEFAULT_SPAN_SIZE,
    show_default=True,
    help="Minimum number of uncompressed bytes between two checkpoints.",
)
reference_identical_option = click.option(
    "--reference-identical",
    is_flag=True,
    help="Write exactly the bytes that soci would write, even if soci-snapshotter cannot read the"
    " result.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="COUNT",
    envvar="TOCSIN_THREADS",
    help="Number of CPU threads, shared between layers (also TOCSIN_THREADS).  [default: all CPUs]",
)
jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Number of layers to read at the same time.  [default: number of CPUs, at most 4]",
)
force_option = click.option("--force", is_flag=True, help="Replace a different image at DEST.")


def _seek_span_size(_context: click.Context, parameter: click.Parameter, value: int) -> int:
    from tocsin.model.seek_defaults import (  # noqa: PLC0415 (--help needs none of these)
        MAX_SEEK_SPAN_SIZE,
        MIN_SEEK_SPAN_SIZE,
    )

    if not MIN_SEEK_SPAN_SIZE <= value <= MAX_SEEK_SPAN_SIZE:
        raise click.BadParameter("must be from 64KiB to 64MiB", param=parameter)
    return value


def _flat(
    _context: click.Context, _parameter: click.Parameter, lists: tuple[tuple[Any, ...], ...]
) -> tuple[Any, ...]:
    return tuple(chain.from_iterable(lists))


platforms_option = click.option(
    "-p",
    "--platform",
    "platforms",
    type=parameters.platforms,
    metavar="OS/ARCH",
    multiple=True,
    callback=_flat,
    help="Platforms to include: comma-separated, or repeat the option.  [default: all]",
)

_INDEXING = (
    span_size_option,
    click.option(
        "--min-layer-size",
        type=parameters.size,
        metavar="SIZE",
        default=DEFAULT_MIN_LAYER_SIZE,
        show_default=True,
        help="Minimum compressed size of a layer to index; smaller layers are skipped.",
    ),
    platforms_option,
    click.option(
        "--all-platforms",
        is_flag=True,
        help="Include all platforms, and ignore --platform.",
    ),
    jobs_option,
    threads_option,
    click.option(
        "--optimize",
        "--optimizations",
        "optimizations",
        type=click.Choice(["xattr"]),
        multiple=True,
        help="Optimization to record in the index. xattr marks layers that do not need extended"
        " attributes.  [default: none]",
    ),
    click.option(
        "--prefetch",
        "--prefetch-file",
        "prefetch",
        metavar="PATH",
        multiple=True,
        help="File in the image to fetch before a container starts; can be repeated.",
    ),
    click.option(
        "--prefetch-list",
        "--prefetch-files-json",
        "prefetch_list",
        type=click.File("rb"),
        metavar="FILE",
        help="JSON file with a list of paths to prefetch, or an access log; - for stdin.",
    ),
    click.option(
        "--rebuild",
        is_flag=True,
        help="Rebuild zTOCs that already exist at the destination (soci: --force).",
    ),
    click.option(
        "--force",
        is_flag=True,
        help="Replace a different image at DEST. Unlike soci --force, this does not rebuild zTOCs;"
        " see --rebuild.",
    ),
    click.option(
        "-f",
        "as_soci",
        is_flag=True,
        help="Same as --force --rebuild, which is what soci -f does.",
    ),
    reference_identical_option,
    click.option(
        "--seek",
        is_flag=True,
        help="Make a seek table too: a small index with which tocsin reads files of any layer with"
        " few requests.",
    ),
    click.option(
        "--seek-only",
        is_flag=True,
        help="Make only seek tables, without zTOCs and SOCI indexes.",
    ),
    click.option(
        "--seek-span-size",
        type=parameters.size,
        metavar="SIZE",
        default=DEFAULT_SEEK_SPAN_SIZE,
        show_default=True,
        callback=_seek_span_size,
        help="Uncompressed bytes between the checkpoints of a seek table, from 64KiB to 64MiB.",
    ),
    click.option(
        "--pack",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="LIST",
        help="Put what a program read, according to this access log, into a pack in the seek table,"
        " so that mounts start the program with few requests; requires --seek or --seek-only.",
    ),
)


def indexing_options(command: _Command) -> _Command:
    """Add the options of `IndexingOptions`, passed as ``options``, and ``force``."""

    @functools.wraps(command)
    def with_options(
        *,
        span_size: int,
        min_layer_size: int,
        platforms: tuple[Any, ...],
        all_platforms: bool,
        jobs: int | None,
        threads: int | None,
        optimizations: tuple[str, ...],
        prefetch: tuple[str, ...],
        prefetch_list: Any,  # noqa: ANN401 (an open file)
        rebuild: bool,
        force: bool,
        as_soci: bool,
        reference_identical: bool,
        seek: bool,
        seek_only: bool,
        seek_span_size: int,
        pack: Path | None,
        **others: Any,  # noqa: ANN401 (options of the command)
    ) -> Any:  # noqa: ANN401
        if pack is not None and not (seek or seek_only):
            raise click.UsageError("--pack requires --seek or --seek-only")
        listed = _paths_in(prefetch_list) if prefetch_list is not None else ()
        from tocsin.indexing.options import IndexingOptions  # noqa: PLC0415 (as below)
        from tocsin.model.access_log import AccessLog  # noqa: PLC0415 (as below)

        options: IndexingOptions = IndexingOptions(
            span_size=span_size,
            min_layer_size=min_layer_size,
            platforms=None if all_platforms else platforms or None,
            jobs=jobs,
            threads=threads,
            optimizations=optimizations,
            prefetch=(*prefetch, *listed),
            rebuild=rebuild or as_soci,
            reference_identical=reference_identical,
            seek=seek,
            seek_only=seek_only,
            seek_span_size=seek_span_size,
            pack=None if pack is None else AccessLog.read(pack),
        )
        return command(options=options, force=force or as_soci, **others)

    return cast("_Command", decorated(with_options, _INDEXING))


_REGISTRY = (
    click.option(
        "--username",
        metavar="NAME",
        help="User name for the registry; requires --password-stdin.  [default: credentials from"
        " docker login, podman login or a credential helper]",
    ),
    click.option("--password-stdin", is_flag=True, help="Read the password or token from stdin."),
    click.option(
        "--ca-cert",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="PEM file with additional certificate authorities to trust.",
    ),
    click.option(
        "--client-cert",
        type=parameters.client_certificate,
        metavar="FILE[,KEY]",
        help="PEM files of the client certificate and its key, or one file with both.",
    ),
    click.option("--insecure", is_flag=True, help="Do not verify the registry's certificate."),
    click.option(
        "--plain-http/--no-plain-http",
        default=None,
        help="Use http instead of https.  [default: only for localhost, if it does not answer"
        " with TLS]",
    ),
    click.option(
        "--hosts-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        envvar="TOCSIN_HOSTS_DIR",
        help="Directory with containerd's hosts.toml files for mirrors and certificates, such as"
        " /etc/containerd/certs.d (also TOCSIN_HOSTS_DIR).  [default: none]",
    ),
    click.option(
        "--timeout",
        type=parameters.seconds,
        metavar="SECONDS",
        envvar="TOCSIN_TIMEOUT",
        help="Time limit for a response, a manifest or the next bytes of a layer (also"
        " TOCSIN_TIMEOUT).  [default: 30]",
    ),
)


def registry_options(command: _Command) -> _Command:
    """Add the options of `RegistryOptions` to a command, which receives them as ``registry``.

    Without any of these options, ``registry`` is ``None``: the module is slow to import.
    """

    @functools.wraps(command)
    def with_registry(
        *,
        username: str | None,
        password_stdin: bool,
        ca_cert: Path | None,
        client_cert: Path | tuple[Path, Path] | None,
        insecure: bool,
        plain_http: bool | None,
        hosts_dir: Path | None,
        timeout: float | None,
        **others: Any,  # noqa: ANN401 (options of the command)
    ) -> Any:  # noqa: ANN401
        if password_stdin != (username is not None):
            missing = "--username" if password_stdin else "--password-stdin"
            raise click.UsageError(
                f"--username and --password-stdin must be used together: add {missing}"
            )
        password = _password() if password_stdin else None
        debug = streams.write_message if os.environ.get("TOCSIN_DEBUG") else None
        registry: RegistryOptions | None = None
        given = (
            *(username, ca_cert, client_cert, insecure or None),
            *(plain_http, hosts_dir, timeout, debug),
        )
        if any(value is not None for value in given):
            from tocsin.stores.registry import RegistryOptions  # noqa: PLC0415

            registry = RegistryOptions(
                username=username,
                password=password,
                ca_cert=ca_cert,
                client_cert=client_cert,
                insecure=insecure,
                plain_http=plain_http,
                hosts_dir=hosts_dir,
                debug=debug,
            )
            if timeout is not None:
                registry = replace(registry, timeout=timeout)
        return command(registry=registry, **others)

    return cast("_Command", decorated(with_registry, _REGISTRY))


def _password() -> str:
    password = sys.stdin.buffer.readline().rstrip(b"\r\n").decode("utf-8", "replace")
    if not password:
        raise click.UsageError("--password-stdin: stdin is empty")
    return password


dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Do everything except writing the result."
)

_OUTPUT = (
    click.option("--json", is_flag=True, help="Print one JSON document, with sizes in bytes."),
    click.option("-q", "--quiet", is_flag=True, help="Hide progress and warnings."),
)


def quiet_option(command: _Command) -> _Command:
    """Add ``--quiet`` to a command that writes bytes; it receives an `Output` as ``output``."""

    @functools.wraps(command)
    def with_output(*, quiet: bool, **others: Any) -> Any:  # noqa: ANN401
        output = Output(quiet=quiet)
        with output.log_shown():
            return command(output=output, **others)

    return cast("_Command", decorated(with_output, _OUTPUT[1:]))


def output_options(command: _Command) -> _Command:
    """Add ``--json`` and ``--quiet`` to a command, which receives an `Output` as ``output``."""

    @functools.wraps(command)
    def with_output(*, json: bool, quiet: bool, **others: Any) -> Any:  # noqa: ANN401
        output = Output(json=json, quiet=quiet)
        with output.log_shown():
            return command(output=output, **others)

    return cast("_Command", decorated(with_output, _OUTPUT))


def decorated(function: Any, options: tuple[Callable[[Any], Any], ...]) -> Any:  # noqa: ANN401
    """Return a command with `options` added; its help text lists them in this order."""
    for option in reversed(options):
        function = option(function)
    return function


_ACCESS_LOG = b"tocsin-access-log"
"""In the first line of an access log."""


def _paths_in(file: Any) -> tuple[str, ...]:  # noqa: ANN401 (click's lazy file)
    data = file.read()
    if _ACCESS_LOG in data.partition(b"\n")[0]:
        from tocsin.model.access_log import AccessLog  # noqa: PLC0415 (rarely needed)

        return tuple(each.path for each in AccessLog.from_bytes(data).files if each.ranges)
    try:
        paths = json.loads(data)
    except ValueError as error:
        raise click.BadParameter(
            f"{file.name}: not JSON: {error}", param_hint="--prefetch-list"
        ) from None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise click.BadParameter(
            f'{file.name}: not a list of strings (expected, for example, ["/usr/bin/app"])',
            param_hint="--prefetch-list",
        )
    return tuple(paths)
