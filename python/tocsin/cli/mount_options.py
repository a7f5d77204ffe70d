"""Options of the commands that mount images."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tocsin.cli import parameters
from tocsin.cli.image_files import cache_size_option, index_option, platform_option
from tocsin.cli.options import decorated, registry_options, threads_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.output import Output
    from tocsin.model.events import Event
    from tocsin.model.reference import Reference
    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.reports import Ready

_Command = TypeVar("_Command", bound="Callable[..., None]")

DEFAULT_READ_TIMEOUT = "30"
"""Same as in `tocsin.mounting.options`; a test compares the values."""
_INDEX_WORDS = {
    "seek": "seek table",
    "v2": "SOCI index v2",
    "v1": "SOCI index v1",
    "given": "SOCI index given by digest",
    "made": "no index",
    "none": "no layers",
}


def index_words(index: str) -> str:
    """Return words for the index of a mount, as in ``MountStatus``."""
    return _INDEX_WORDS.get(index, index)


def _rate(text: str) -> int:
    rate = parameters.size(text.removesuffix("/s"))
    if rate == 0:
        raise click.BadParameter("must be more than 0; see --no-background")
    return rate


_AUTO = "auto"
_NONE = "none"


class _AccessLog(click.Path):
    """A file, `_AUTO` or `_NONE`."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 (as in click)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401 (as above)
        if value in (_AUTO, _NONE):
            return value
        return super().convert(value, param, ctx)


_LOADING_OPTIONS = (
    click.option(
        "--background/--no-background",
        default=True,
        help="Load the whole image in the background.  [default: --background]",
    ),
    click.option(
        "--background-rate",
        type=_rate,
        metavar="SIZE",
        help="Limit of background loading in bytes per second, such as 10MiB.  [default: none]",
    ),
    click.option(
        "--access-log",
        type=_AccessLog(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE|auto|none",
        default=_AUTO,
        show_default=True,
        help="Access log whose files are loaded first; auto is the one that refers to IMAGE.",
    ),
    click.option(
        "--record",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write an access log to FILE when the mount ends.",
    ),
)
_OTHER_OPTIONS = (
    click.option(
        "--read-timeout",
        type=parameters.seconds,
        metavar="SECONDS",
        default=DEFAULT_READ_TIMEOUT,
        show_default=True,
        help="Time limit for a read that waits for the registry, over all tries together.",
    ),
    click.option(
        "--log",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Append the messages of the mount's process to FILE.",
    ),
    threads_option,
    click.option(
        "--cache-dir",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="TOCSIN_CACHE_DIR",
        help="Directory of the cache, which mounts share (also TOCSIN_CACHE_DIR)."
        "  [default: $XDG_CACHE_HOME/tocsin or ~/.cache/tocsin]",
    ),
    cache_size_option,
)


def mount_options(command: _Command) -> _Command:
    """Add the options of a mount to a command.

    It receives ``options_for``, a function from a reference to `MountOptions`, and ``log``.
    """
    options = (platform_option, index_option, *_LOADING_OPTIONS, *_OTHER_OPTIONS)
    return _with_options(command, options)


def recording_options(command: _Command) -> _Command:
    """Add the options of a mount that only records, which loads nothing in advance."""
    return _with_options(command, (platform_option, index_option, *_OTHER_OPTIONS))


def _with_options(command: _Command, options: tuple[Any, ...]) -> _Command:

    @functools.wraps(command)
    def with_options(
        *,
        platform: Any,  # noqa: ANN401 (a platform or None)
        index: str,
        background: bool = False,
        background_rate: int | None = None,
        access_log: Path | str = _NONE,
        record: Path | None = None,
        read_timeout: float,
        log: Path | None,
        threads: int | None,
        cache_dir: Path | None,
        cache_size: int,
        registry: Any,  # noqa: ANN401 (`RegistryOptions` or None)
        **others: Any,  # noqa: ANN401 (options of the command)
    ) -> Any:  # noqa: ANN401
        from tocsin.layers.cache_space import (  # noqa: PLC0415 (not for --help)
            default_cache_directory,
        )
        from tocsin.mounting.options import MountOptions  # noqa: PLC0415 (as above)

        check_record(record, "--record")

        def options_for(
            reference: Reference, *, allow_other: bool = False, front: str = "auto"
        ) -> MountOptions:
            if front == "erofs" and record is not None:
                raise click.UsageError(
                    "--record needs --front fuse: EROFS does not say which files are read"
                )
            return MountOptions(
                reference=reference,
                platform=platform,
                index=index,
                threads=threads,
                registry=registry,
                cache_dir=(cache_dir or default_cache_directory()).absolute(),
                cache_size=cache_size,
                background=background,
                background_rate=background_rate,
                front=front,
                record=None if record is None else record.absolute(),
                access_log=access_log.absolute() if isinstance(access_log, Path) else None,
                find_access_log=access_log == _AUTO,
                allow_other=allow_other,
                read_timeout=read_timeout,
            )

        absolute_log = None if log is None else log.absolute()
        return command(options_for=options_for, log=absolute_log, **others)

    return cast("_Command", decorated(registry_options(with_options), options))


def check_record(record: Path | None, option: str) -> None:
    """Check now that the access log can be written, not when the mount ends."""
    if record is not None and not os.access(record.absolute().parent, os.W_OK | os.X_OK):
        raise click.BadParameter(
            f"cannot write to the directory {str(record.absolute().parent)!r}",
            param_hint=option,
        )


class CommandReport:
    """Shows what the process of a mount reports.

    Args:
        output: receives the notes.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note; `show` prints it, where no progress bar overwrites it."""
        self.notes.append(text)

    def progress(self, event: Event) -> None:
        """Do nothing: a display gets the events itself."""

    def ready(self, ready: Ready) -> None:
        """Do nothing: the command gets it too."""

    def show(self) -> None:
        """Print the notes."""
        for note in dict.fromkeys(self.notes):
            self._output.warn(note)
