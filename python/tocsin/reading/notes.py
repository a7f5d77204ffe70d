"""What a reader of an image should know, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.log import LOG

if TYPE_CHECKING:
    from collections.abc import Callable


class Notes:
    """Keeps sentences, hands them on and logs them; may be used by several threads.

    Args:
        tell: called with each, if anyone wants them at once.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.sentences: list[str] = []
        self._tell = tell

    def note(self, sentence: str) -> None:
        """Take note of what something cost."""
        LOG.info("%s", sentence)
        self._keep(sentence)

    def warn(self, sentence: str) -> None:
        """Take note of something that is broken, and therefore not used."""
        LOG.warning("%s", sentence)
        self._keep(sentence)

    def _keep(self, sentence: str) -> None:
        self.sentences.append(sentence)
        if self._tell is not None:
            self._tell(sentence)
