"""The access log beside an image: found while the mount is already in use.

Nothing waits for it. A registry that is slow, or has no log, costs some requests in a thread. A log
is a hint from anyone: the core ignores what the image does not have, and fetches nothing twice.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tocsin.errors import TocsinError
from tocsin.images.access_logs import newest_access_log
from tocsin.log import LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.model.digest import Digest
    from tocsin.stores.base import Source

_BATCH = 20_000
"""Reads passed to the core at once, for which it holds a lock for some milliseconds."""


class PushedLog:
    """Finds the access log that refers to an image, and prefetches what it lists.

    Args:
        store: the image's store.
        subject: digest of the image's manifest.
        prefetch: queues reads, each a path with the start and end of a range.

    Attributes:
        used: digest of the log's manifest; ``None`` as long as no log is used.
    """

    def __init__(
        self,
        store: Source,
        subject: Digest,
        prefetch: Callable[[Sequence[tuple[str, int, int]]], object],
    ) -> None:
        self.used: Digest | None = None
        self._store = store
        self._subject = subject
        self._prefetch = prefetch
        self._stop = threading.Event()
        # A daemon: waiting for a registry must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="tocsin-access-log", daemon=True)

    def start(self) -> None:
        """Start to look for it."""
        self._thread.start()

    def stop(self, timeout: float = 0.0) -> None:
        """Use nothing from now on; wait for `timeout` seconds until a log in use is queued."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        try:
            self._find()
        except (TocsinError, OSError) as error:
            if not self._stop.is_set():
                reason = error.message if isinstance(error, TocsinError) else error.strerror
                LOG.warning("no access log is used: %s", reason)
        except Exception:
            # The mount works without a log.
            LOG.exception("no access log is used")

    def _find(self) -> None:
        found = newest_access_log(self._store, self._subject)
        if found is None or self._stop.is_set():
            return
        digest, log = found
        reads = log.reads
        LOG.info("access log %s: %d files, %d ranges", digest, len(log.files), len(reads))
        self.used = digest
        for start in range(0, len(reads), _BATCH):
            if self._stop.is_set():
                return
            self._prefetch(reads[start : start + _BATCH])
