"""Arguments and options shared by the commands that read files of an image."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tocsin.cli import parameters
from tocsin.cli.options import decorated, registry_options, threads_option
from tocsin.cli.progress import display_for, shown_on
from tocsin.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.cli.output import Output
    from tocsin.cli.parameters import Place
    from tocsin.model.events import Event, Progress
    from tocsin.model.platform import Platform
    from tocsin.model.reference import Reference
    from tocsin.reading.image import Image
    from tocsin.stores.registry import RegistryOptions

_Command = TypeVar("_Command", bound="Callable[..., None]")

_LIST_FILES = "List the image's files with tocsin ls IMAGE /DIRECTORY or tocsin find IMAGE."
_MIN_BAR_SIZE = 8 << 20
"""Size in bytes of the smallest layer that gets a progress bar; smaller layers are read quickly."""

DEFAULT_CACHE_SIZE = "2GiB"
"""Same as in `tocsin.layers.disk_cache`, which is slow to import; a test compares the values."""

platform_option = click.option(
    "-p",
    "--platform",
    type=parameters.platform,
    metavar="OS/ARCH",
    help="Platform of the image to read.  [default: the only one, or this machine's]",
)
index_option = click.option(
    "--index",
    metavar="auto|none|seek|v2|v1|DIGEST",
    type=parameters.index_choice,
    default="auto",
    show_default=True,
    help="Index to use. auto prefers a seek table to the v2 SOCI index, and uses indexes that"
    " the image's digest does not cover only if IMAGE is given without a digest.",
)
cache_size_option = click.option(
    "--cache-size",
    metavar="SIZE",
    type=parameters.size,
    default=DEFAULT_CACHE_SIZE,
    show_default=True,
    envvar="TOCSIN_CACHE_SIZE",
    help="Size limit of the cache directory; the least recently used data is removed first"
    " (also TOCSIN_CACHE_SIZE).",
)

_OPTIONS = (
    platform_option,
    index_option,
    click.option(
        "--require-index",
        "--no-index",
        "no_index",
        is_flag=True,
        help="Fail on layers without a zTOC instead of reading them in full.",
    ),
    threads_option,
    click.option(
        "--cache-dir",
        metavar="DIR",
        type=click.Path(file_okay=False),
        envvar="TOCSIN_CACHE_DIR",
        help="Directory in which to cache zTOCs and spans (also TOCSIN_CACHE_DIR)."
        "  [default: no cache]",
    ),
    cache_size_option,
)


@dataclass(frozen=True, slots=True)
class ImageOpening:
    """Options for opening an image."""

    platform: Platform | None
    index: str
    index_missing: bool
    threads: int | None
    cache_dir: str | None
    cache_size: int
    registry: RegistryOptions | None

    @contextmanager
    def open(self, reference: Reference, output: Output) -> Iterator[Image]:
        """Open an image; print its notes at the end, where no progress bar overwrites them."""
        from tocsin.reading.image import open as open_image  # noqa: PLC0415 (not for --help)

        notes: list[str] = []
        shown = LayerProgress(output)
        try:
            with open_image(
                reference,
                platform=self.platform,
                index=self.index,
                index_missing=self.index_missing,
                threads=self.threads,
                cache_dir=self.cache_dir,
                cache_dir_size=self.cache_size,
                registry=self.registry,
                note=notes.append,
                progress=shown,
            ) as image:
                with shown:
                    _ = image.layers  # reads the layers without a zTOC
                yield image
        except PathError as error:
            if error.reason in ("missing", "not_directory"):
                error.hint = _LIST_FILES
            raise
        finally:
            for note in dict.fromkeys(notes):
                output.warn(note)


class LayerProgress(ExitStack):
    """Shows progress bars for large layers without a zTOC, if there are any."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self._show: Progress | None = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if not hasattr(event, "layer") or event.layer.size < _MIN_BAR_SIZE:
            return
        if self._show is None:
            self._show = shown_on(self.enter_context(display_for(self._output)))
        self._show(event)


def image_options(command: _Command) -> _Command:
    """Add the options of ``tocsin.open`` to a command, which receives them as ``opening``."""

    @functools.wraps(command)
    def with_opening(
        *,
        platform: Platform | None,
        index: str,
        no_index: bool,
        threads: int | None,
        cache_dir: str | None,
        cache_size: int,
        registry: RegistryOptions | None,
        **others: Any,  # noqa: ANN401 (options of the command)
    ) -> Any:  # noqa: ANN401
        opening = ImageOpening(
            platform, index, not no_index, threads, cache_dir, cache_size, registry
        )
        return command(opening=opening, **others)

    return cast("_Command", decorated(registry_options(with_opening), _OPTIONS))


def all_paths(image: Place, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path in the image argument, if any, and the paths after it.

    Raises:
        click.UsageError: no path is given.
    """
    found = paths if image.path is None else (image.path, *paths)
    if not found:
        raise click.UsageError("missing argument 'PATH'")
    return found


def one_path(image: Place, path: str | None) -> str:
    """Return the path in the image argument or the one after it; the root if neither is given.

    Raises:
        click.UsageError: two paths are given.
    """
    if path is not None and image.path is not None:
        raise click.UsageError(f"too many paths (found {image.path} and {path}, expected one)")
    return path or image.path or "/"
