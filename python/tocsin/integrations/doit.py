"""A task for doit that indexes an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tocsin.errors import TocsinError
from tocsin.integrations.frameworks import framework
from tocsin.integrations.step import Step, error_text

if TYPE_CHECKING:
    from tocsin.indexing.options import IndexingOptions
    from tocsin.stores.registry import RegistryOptions

_EXCEPTIONS = framework("doit.exceptions", package="doit")


def index_task(
    image: str,
    destination: str | None = None,
    *,
    stamp: str,
    options: IndexingOptions | None = None,
    registry: RegistryOptions | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Return a task whose target is the stamp, and which is up to date as `is_up_to_date` says.

    The task saves the document of the result, for ``getargs`` of other tasks.

    Args:
        image: reference of the image.
        destination: reference of the converted image; ``None`` for version 1 indexes.
        stamp: name of the stamp.
        options: as for `index_image`.
        registry: as for `index_image`.
        force: as for `index_image`.
    """
    step = Step(image, destination, options, registry, force)
    return {
        "actions": [(_run, [step, stamp])],
        "targets": [stamp],
        "uptodate": [(_is_current, [step, stamp])],
    }


def _run(step: Step, stamp: str) -> Any:  # noqa: ANN401 (a document, or a failure of doit)
    try:
        return step.run(stamp).to_dict()
    except (TocsinError, OSError) as error:
        return _EXCEPTIONS.TaskFailed(error_text(error))


def _is_current(step: Step, stamp: str) -> bool:
    return step.is_current(stamp)
