"""Notes for the user of an open image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.log import LOG

if TYPE_CHECKING:
    from collections.abc import Callable


class Notes:
    """Collects sentences, logs them and passes them on; may be used by several threads.

    Args:
        callback: called with each sentence.

    Attributes:
        sentences: all sentences so far.
    """

    def __init__(self, callback: Callable[[str], None] | None = None) -> None:
        self.sentences: list[str] = []
        self._callback = callback

    def note(self, sentence: str) -> None:
        """Note the cost of an operation."""
        LOG.info("%s", sentence)
        self._keep(sentence)

    def warn(self, sentence: str) -> None:
        """Note something that is broken and therefore not used."""
        LOG.warning("%s", sentence)
        self._keep(sentence)

    def _keep(self, sentence: str) -> None:
        self.sentences.append(sentence)
        if self._callback is not None:
            self._callback(sentence)
