"""What the integrations share: one image to index, with options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import TocsinError
from tocsin.integrations.stamp import index_image, is_up_to_date

if TYPE_CHECKING:
    from os import PathLike

    from tocsin.indexing.options import IndexingOptions
    from tocsin.indexing.results import CreateResult
    from tocsin.stores.registry import RegistryOptions


@dataclass(frozen=True, slots=True)
class Step:
    """The arguments of `index_image`, without the stamp; can be pickled."""

    image: str
    destination: str | None
    options: IndexingOptions | None
    registry: RegistryOptions | None
    force: bool

    def run(self, stamp: str | PathLike[str]) -> CreateResult:
        """Index the image and write the stamp."""
        return index_image(
            self.image,
            self.destination,
            stamp=stamp,
            options=self.options,
            registry=self.registry,
            force=self.force,
        )

    def is_current(self, stamp: str | PathLike[str]) -> bool:
        """Return whether the step need not run.

        If this cannot be found out, it must run: then `run` raises the error, which each build
        system reports in its usual way.
        """
        try:
            return is_up_to_date(
                self.image,
                self.destination,
                stamp=stamp,
                options=self.options,
                registry=self.registry,
            )
        except (TocsinError, OSError):
            return False


def error_text(error: TocsinError | OSError) -> str:
    """Return an error with its hint as one line."""
    if isinstance(error, TocsinError):
        return f"{error.message}. {error.hint}" if error.hint else error.message
    problem = error.strerror or type(error).__name__
    return f"{error.filename}: {problem}" if error.filename else problem
