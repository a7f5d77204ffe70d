"""An operator for Airflow 3 that indexes an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tocsin.indexing.convert import convert
from tocsin.indexing.create import create
from tocsin.integrations.frameworks import framework
from tocsin.integrations.progress import log_progress

if TYPE_CHECKING:
    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.document import Document
    from tocsin.model.events import Event
    from tocsin.stores.registry import RegistryOptions

_SDK = framework("airflow.sdk", package="apache-airflow")


class TocsinIndexOperator(_SDK.BaseOperator):  # type: ignore[name-defined, misc]
    """Index an image and return the document of the result as an XCom.

    Workers need no shared disk, and write no stamp: a task that runs again finds the result in
    the registry and reads no layers.

    Args:
        image: reference of the image; a template.
        destination: reference of the converted image, a template; ``None`` for version 1 indexes
            beside the image.
        options: indexing options.
        registry: options for access to registries. Do not put a password here: Airflow stores
            tasks. Workers use the credentials that are stored on their machine.
        force: replace a different image at `destination`.
        operator_options: those of every operator, such as ``task_id``.
    """

    template_fields = ("image", "destination")

    def __init__(
        self,
        *,
        image: str,
        destination: str | None = None,
        options: IndexingOptions | None = None,
        registry: RegistryOptions | None = None,
        force: bool = False,
        **operator_options: Any,  # noqa: ANN401 (those of Airflow)
    ) -> None:
        super().__init__(**operator_options)
        self.image = image
        self.destination = destination
        self.options = options
        self.registry = registry
        self.force = force
        self._killed = False

    def execute(self, context: Any) -> Document:  # noqa: ANN401 (Airflow's dictionary)
        """Index the image."""
        del context
        log = log_progress()

        def progress(event: Event) -> None:
            if self._killed:
                raise InterruptedError("the task was killed")
            log(event)

        if self.destination is None:
            return create(
                self.image, options=self.options, registry=self.registry, progress=progress
            ).to_dict()
        return convert(
            self.image,
            self.destination,
            options=self.options,
            registry=self.registry,
            force=self.force,
            progress=progress,
        ).to_dict()

    def on_kill(self) -> None:
        """Stop at the next progress event; nothing half-written remains."""
        self._killed = True
