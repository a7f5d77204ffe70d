"""``convert --standalone``: accepts paths for SOURCE and DEST, as soci does.

The options are parsed before the arguments, because the meaning of the arguments depends on them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tocsin.cli import parameters
from tocsin.cli.options import decorated

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.reference import Reference

_Command = TypeVar("_Command", bound="Callable[..., None]")

_STANDALONE, _FORMAT = "standalone", "output_format"
_ARCHIVE, _DIRECTORY = "oci-archive", "oci-dir"
_TRANSPORTS = frozenset({"docker", "docker-archive", "oci", "oci-archive"})

_OPTIONS = (
    click.option(
        "--standalone",
        _STANDALONE,
        is_flag=True,
        is_eager=True,
        help="Accept paths for SOURCE and DEST, and replace an existing DEST, as soci does. tocsin"
        " needs no daemon with or without it.",
    ),
    click.option(
        "--format",
        _FORMAT,
        type=click.Choice([_ARCHIVE, _DIRECTORY]),
        is_eager=True,
        help="With --standalone, what to write to a DEST that is a path.  [default: oci-archive]",
    ),
)


def standalone_options(command: _Command) -> _Command:
    """Add ``--standalone`` and ``--format``; the command receives only the former."""

    @functools.wraps(command)
    def with_standalone(*, output_format: str | None, **others: Any) -> Any:  # noqa: ANN401
        del output_format  # already applied by destination_image
        return command(**others)

    return cast("_Command", decorated(with_standalone, _OPTIONS))


def source_image(context: click.Context, _parameter: click.Parameter, value: str) -> Reference:
    """Return the reference; with ``--standalone``, also for the path of a layout or archive."""
    if not (context.params.get(_STANDALONE) and _is_path(value)):
        return parameters.reference(value)
    return _at(Path(value), archive=not Path(value).is_dir())


def destination_image(context: click.Context, _parameter: click.Parameter, value: str) -> Reference:
    """Return the reference; with ``--standalone``, also for a path, depending on ``--format``."""
    wanted = context.params.get(_FORMAT)
    if context.params.get(_STANDALONE) and _is_path(value):
        return _at(Path(value), archive=wanted != _DIRECTORY)
    found = parameters.reference(value)
    kind = {"oci": _DIRECTORY, "oci-archive": _ARCHIVE}.get(str(found).partition(":")[0])
    if wanted not in (None, kind):
        raise click.BadParameter(
            f"{value!r} does not match --format {wanted}; for a path, add --standalone"
        )
    return found


def _is_path(text: str) -> bool:
    transport, colon, _ = text.partition(":")
    return not (colon and transport in _TRANSPORTS)


def _at(path: Path, *, archive: bool) -> Reference:
    from tocsin.model.reference import (  # noqa: PLC0415 (commands load as they run)
        LayoutReference,
        OciArchiveReference,
    )

    return OciArchiveReference(path) if archive else LayoutReference(path)
