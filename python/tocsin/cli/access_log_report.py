"""Prints access logs as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.cli import words
from tocsin.images.access_logs import load_access_log, read_access_log
from tocsin.model.document import text_of

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.images.access_logs import FoundAccessLog
    from tocsin.model.access_log import AccessLog
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document
    from tocsin.stores.base import Source

_MAX_FILES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ShownAccessLog:
    """An access log that refers to an image.

    Attributes:
        place: heading of the text.
        found: where it is.
        log: its contents.
    """

    place: str
    found: FoundAccessLog
    log: AccessLog

    def to_dict(self) -> Document:
        """Return what ``tocsin index info --json`` prints for it."""
        return {
            **self.found.to_dict(),
            "image": text_of(self.log.image),
            "platform": text_of(self.log.platform),
            "tool": self.log.tool,
            "files": [file.to_dict() for file in self.log.files],
        }


def access_log_at(store: Source, descriptor: Descriptor, place: str) -> ShownAccessLog:
    """Return the access log with a descriptor.

    Raises:
        FormatError, NotFoundError, UnsupportedError, VerificationError: it cannot be used.
    """
    found = load_access_log(store, descriptor)
    return ShownAccessLog(place, found, read_access_log(store, found))


def write_access_log(shown: ShownAccessLog, output: Output) -> None:
    """Print what an access log says about itself, and the files that were used first."""
    found, log = shown.found, shown.log
    output.heading(words.printable(shown.place))
    output.facts(
        {
            "digest": str(found.digest),
            "size": words.size(found.size),
            "created": words.printable(found.created) or words.NOTHING,
            "recorded on": words.NOTHING if log.image is None else str(log.image),
            "platform": words.NOTHING if log.platform is None else str(log.platform),
            "made by": words.printable(log.tool) or words.NOTHING,
            "files": f"{len(log.files):,}",
            "bytes": f"{words.size(log.size)} in {words.count(len(log.reads), 'range')}",
        }
    )
    for file in log.files[:_MAX_FILES_SHOWN]:
        output.line(words.printable(f"  {file.time:.3f} s  /{file.path}"))
    more = len(log.files) - _MAX_FILES_SHOWN
    if more > 0:
        output.line(f"  and {words.count(more, 'more file', 'more files')}")
