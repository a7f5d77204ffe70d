"""What the commands that read inside an image have in common: which image, and how it is opened."""

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

_LOOK_AROUND = "See what the image holds with tocsin ls IMAGE /DIRECTORY or tocsin find IMAGE."
_LARGE = 8 << 20
"""Bytes of a layer from which on it is worth a bar."""

DEFAULT_CACHE_SIZE = "2GiB"
"""As `tocsin.layers.disk_cache` has it, which takes long to load; a test holds them equal."""

_OPTIONS = (
    click.option(
        "-p",
        "--platform",
        type=parameters.platform,
        metavar="OS/ARCH",
        help="Which of the image's platforms.  [default: the only one, or this machine's]",
    ),
    click.option(
        "--index",
        metavar="auto|none|v2|v1|DIGEST",
        type=parameters.index_choice,
        default="auto",
        show_default=True,
        help="Index to read by. auto uses v2, which the image's digest binds, and v1 only for an "
        "IMAGE without @sha256.",
    ),
    click.option(
        "--require-index",
        "--no-index",
        "no_index",
        is_flag=True,
        help="Fail on layers without a zTOC instead of reading them in full (also --no-index).",
    ),
    threads_option,
    click.option(
        "--cache-dir",
        metavar="DIR",
        type=click.Path(file_okay=False),
        envvar="TOCSIN_CACHE_DIR",
        help="Keep zTOCs and spans here for later (also TOCSIN_CACHE_DIR).",
    ),
    click.option(
        "--cache-size",
        metavar="SIZE",
        type=parameters.size,
        default=DEFAULT_CACHE_SIZE,
        show_default=True,
        envvar="TOCSIN_CACHE_SIZE",
        help="Limit of the cache directory; the least recently used data is removed (also"
        " TOCSIN_CACHE_SIZE).",
    ),
)


@dataclass(frozen=True, slots=True)
class ImageOpening:
    """How to open an image, as the options say."""

    platform: Platform | None
    index: str
    index_missing: bool
    threads: int | None
    cache_dir: str | None
    cache_size: int
    registry: RegistryOptions | None

    @contextmanager
    def open(self, reference: Reference, output: Output) -> Iterator[Image]:
        """Open an image; its notes are written when done, where no bar is drawn over them."""
        from tocsin.reading.image import open as open_image  # noqa: PLC0415 (not for --help)

        notes: list[str] = []
        shown = _Reading(output)
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
                    _ = image.layers  # those without a zTOC are read now
                yield image
        except PathError as error:
            if error.reason in ("missing", "not_directory"):
                error.hint = _LOOK_AROUND
            raise
        finally:
            for note in dict.fromkeys(notes):
                output.warn(note)


class _Reading(ExitStack):
    """Shows how far large layers without a zTOC have been read; nothing where there is none."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self._show: Progress | None = None

    def __call__(self, event: Event) -> None:
        if not hasattr(event, "layer") or event.layer.size < _LARGE:
            return
        if self._show is None:
            self._show = shown_on(self.enter_context(display_for(self._output)))
        self._show(event)


def image_options(command: _Command) -> _Command:
    """Give a command the options of ``tocsin.open``, which it gets as ``opening``."""

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
        **others: Any,  # noqa: ANN401 (the command's own)
    ) -> Any:  # noqa: ANN401
        opening = ImageOpening(
            platform, index, not no_index, threads, cache_dir, cache_size, registry
        )
        return command(opening=opening, **others)

    return cast("_Command", decorated(registry_options(with_opening), _OPTIONS))


def all_paths(image: Place, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path that came with the image's name and those after it, at least one.

    Raises:
        click.UsageError: there is none.
    """
    found = paths if image.path is None else (image.path, *paths)
    if not found:
        raise click.UsageError("missing argument 'PATH'")
    return found


def one_path(image: Place, path: str | None) -> str:
    """Return the path that came with the image's name, or the one after it, or the root.

    Raises:
        click.UsageError: there are two.
    """
    if path is not None and image.path is not None:
        raise click.UsageError(f"got the paths {image.path} and {path}, wanted one")
    return path or image.path or "/"
