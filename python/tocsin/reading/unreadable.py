"""A layer that cannot be read, and the errors of reads that need it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tocsin.errors import RegistryError, TocsinError
from tocsin.quoting import quoted, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.model.descriptor import Descriptor

_PROCESS_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
"""Errors caused by this process or machine, not by a layer."""


class UnreadableLayer:
    """A layer of which only the descriptor is known.

    Args:
        descriptor: descriptor of the layer.
        error: error that reading it raised.
    """

    index_origin = "none"
    entry_count = 0
    paths: Sequence[str] = ()
    types: Sequence[bytes] = ()
    linknames: Sequence[str] = ()

    def __init__(self, descriptor: Descriptor, error: TocsinError | OSError) -> None:
        self.descriptor = descriptor
        self.error = error

    @property
    def problem(self) -> str:
        """Why the layer cannot be read."""
        if isinstance(self.error, TocsinError):
            return self.error.message
        name = self.error.filename
        reason = self.error.strerror or "input/output error"
        return reason if name is None else f"{quoted(str(name))}: {reason}"

    def error_for(self, path: str) -> TocsinError | OSError:
        """Return the error for reading a path that this layer may affect.

        Args:
            path: absolute path.
        """
        message = (
            f"{shown(path)}: needs layer {self.descriptor.digest}, which cannot be read: "
            f"{self.problem}"
        )
        error = self.error
        if isinstance(error, TocsinError):
            found: TocsinError | OSError = error.with_message(message)
        else:
            found = OSError(error.errno, message)
        found.__cause__ = error.with_traceback(None)
        return found


def is_about_layer(error: TocsinError | OSError) -> bool:
    """Return whether an error is caused by the layer itself, so that it would occur again."""
    if isinstance(error, RegistryError):
        return not error.temporary
    return isinstance(error, TocsinError) or error.errno not in _PROCESS_ERRORS
