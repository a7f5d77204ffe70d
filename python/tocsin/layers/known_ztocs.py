"""zTOCs that this process has read, so that opening another image does not fetch them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from tocsin.layers.forking import forget_after_fork

if TYPE_CHECKING:
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest

MAX_SIZE = 128 << 20
"""Maximum total size of the kept zTOCs' blobs; the least recently used are dropped first."""


class KnownZtocs:
    """zTOCs by digest; may be used by several threads."""

    def __init__(self, max_size: int = MAX_SIZE) -> None:
        self._max_size = max_size
        self._lock = threading.Lock()
        self._ztocs: OrderedDict[Digest, tuple[int, Ztoc]] = OrderedDict()
        self._size = 0
        forget_after_fork(self)

    def get(self, descriptor: Descriptor) -> Ztoc | None:
        """Return a zTOC that was read and verified before, if the descriptor's size matches."""
        with self._lock:
            size, ztoc = self._ztocs.get(descriptor.digest, (0, None))
            if ztoc is None or size != descriptor.size:
                return None
            self._ztocs.move_to_end(descriptor.digest)
            return ztoc

    def keep(self, descriptor: Descriptor, ztoc: Ztoc) -> None:
        """Keep a zTOC whose blob was verified."""
        with self._lock:
            before, _ = self._ztocs.pop(descriptor.digest, (0, None))
            self._ztocs[descriptor.digest] = (descriptor.size, ztoc)
            self._size += descriptor.size - before
            while self._size > self._max_size and self._ztocs:
                _, (freed, _) = self._ztocs.popitem(last=False)
                self._size -= freed

    def clear(self) -> None:
        """Forget all zTOCs."""
        with self._lock:
            self._ztocs.clear()
            self._size = 0

    def after_fork(self) -> None:
        """Forget a lock that another thread may have held."""
        self._lock = threading.Lock()


KNOWN = KnownZtocs()
"""The zTOCs of this process."""
