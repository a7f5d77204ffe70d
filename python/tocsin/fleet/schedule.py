"""Chooses what to do next: a pure state machine without clock, executor or journal.

Layers are indexed largest first, so that the slowest does not start last. An image follows as soon
as its last layer is known, before other layers: its task is short, and its result is what counts.
The number of tasks per registry is limited, and so are the bytes of the layers that are read.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from typing import TYPE_CHECKING

from tocsin.fleet.results import PENDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tocsin.fleet.plans import Plan

LAYER, IMAGE = "layer", "image"
Item = tuple[str, int]
"""``layer`` or ``image``, and its position in the plan."""


class Schedule:
    """What remains to be done of a plan.

    Args:
        plan: the plan.
        known: positions of the layers that are done.
        images: states of the images.
        max_per_host: maximum number of tasks that use one registry at the same time; ``None`` for
            no limit.
        max_bytes: maximum compressed bytes of layers to read; ``None`` for no limit.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        known: Iterable[int],
        images: Mapping[int, str],
        max_per_host: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._plan = plan
        self._max_per_host = max_per_host
        self._bytes_left = max_bytes
        self._running: Counter[str] = Counter()
        self.stopped_by_bytes = False
        known = set(known)
        self._users: dict[int, list[int]] = {}
        self._missing: dict[int, int] = {}
        """Number of unknown layers of each pending image."""
        self._images: dict[str, deque[int]] = {}
        self._layers: dict[str, list[tuple[int, int]]] = {}
        for number, image in enumerate(plan.images):
            if image.skipped is not None or images.get(number, PENDING) != PENDING:
                continue
            unknown = [
                at for at in image.layers if at not in known and plan.layers[at].skipped is None
            ]
            self._missing[number] = len(unknown)
            for at in unknown:
                self._users.setdefault(at, []).append(number)
            if not unknown:
                self._images.setdefault(image.host, deque()).append(number)
        for at, users in self._users.items():
            self._push_layer(at, users)

    def repositories_of(self, layer: int) -> list[str]:
        """Return the repositories of the pending images that have a layer, without duplicates."""
        names = (self._plan.images[number].repository for number in self._users.get(layer, ()))
        return list(dict.fromkeys(names))

    def host_of(self, item: Item) -> str:
        """Return the registry that a task uses."""
        kind, number = item
        if kind == IMAGE:
            return self._plan.images[number].host
        planned = self._plan.layers[number]
        repository = planned.repository or self.repositories_of(number)[0]
        return repository.partition("/")[0]

    def next(self) -> Item | None:
        """Return the next item and count it as running; ``None`` if nothing can start now."""
        for host, ready in self._images.items():
            if ready and self._may_start(host):
                self._running[host] += 1
                return IMAGE, ready.popleft()
        best: str | None = None
        for host, heap in self._layers.items():
            self._drop_too_large(heap)
            if heap and self._may_start(host) and (best is None or heap[0] < self._layers[best][0]):
                best = host
        if best is None:
            return None
        _, number = heapq.heappop(self._layers[best])
        planned = self._plan.layers[number]
        if self._bytes_left is not None and planned.is_read:
            self._bytes_left -= planned.layer.size
        self._running[best] += 1
        return LAYER, number

    def ended(self, item: Item) -> None:
        """Count an item as no longer running."""
        self._running[self.host_of(item)] -= 1

    def layer_known(self, number: int) -> None:
        """Make the images ready whose last unknown layer this was."""
        for image in self._users.get(number, ()):
            if image not in self._missing:
                continue
            self._missing[image] -= 1
            if not self._missing[image]:
                self._images.setdefault(self._plan.images[image].host, deque()).append(image)

    def layer_failed(self, number: int) -> list[int]:
        """Return the pending images that need a layer that failed, and drop them."""
        dropped = [image for image in self._users.get(number, ()) if image in self._missing]
        for image in dropped:
            del self._missing[image]
        return dropped

    def _push_layer(self, number: int, users: list[int]) -> None:
        planned = self._plan.layers[number]
        repository = planned.repository or self._plan.images[users[0]].repository
        # Layers with a zTOC come first: they take little time.
        size = planned.layer.size if planned.is_read else 1 << 62
        heap = self._layers.setdefault(repository.partition("/")[0], [])
        heapq.heappush(heap, (-size, number))

    def _drop_too_large(self, heap: list[tuple[int, int]]) -> None:
        """Drop the layers that exceed the limit of bytes; smaller ones may still fit."""
        while heap and self._bytes_left is not None:
            planned = self._plan.layers[heap[0][1]]
            if not planned.is_read or planned.layer.size <= self._bytes_left:
                return
            self.stopped_by_bytes = True
            heapq.heappop(heap)

    def _may_start(self, host: str) -> bool:
        return self._max_per_host is None or self._running[host] < self._max_per_host
