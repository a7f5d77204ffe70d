"""A simulated executor: tasks cost what was measured, in a virtual time with many workers."""

from __future__ import annotations

import heapq
import threading
import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import seeded
from tocsin.fleet.plans import Plan, PlannedImage, PlannedLayer
from tocsin.fleet.tasks import IMAGES_AT_ONCE, Batch, ImageDone, IndexImage, IndexLayer, LayerDone
from tocsin.indexing.known import KnownLayer
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.layer_result import LayerResult
from tocsin.model.media_types import OCI_LAYER_GZIP, OCTET_STREAM
from tocsin.stores.metering import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

_LAYERS_PER_IMAGE = 5
_MIN_SIZE, _MEDIAN_SIZE, _MAX_SIZE = 10 << 20, 25 << 20, 2 << 30


@dataclass(frozen=True)
class Costs:
    """Measured costs.

    Attributes:
        layer_rate: compressed bytes of layers per second of a task.
        layer_seconds: seconds per layer in addition.
        image_seconds: seconds per image.
    """

    layer_rate: float
    layer_seconds: float
    image_seconds: float


class TimedExecutor(Executor):
    """Runs tasks at once in the calling thread, and records how long each took."""

    def __init__(self) -> None:
        self.layers: list[tuple[int, float]] = []
        self.images: list[float] = []

    def submit(
        self, function: Callable[..., Any], /, *arguments: object, **_: object
    ) -> Future[Any]:
        """Run a task and return its finished future."""
        future: Future[Any] = Future()
        (task,) = arguments
        try:
            if isinstance(task, Batch):
                future.set_result(tuple(self._timed(function, each) for each in task.tasks))
            else:
                future.set_result(self._timed(function, task))
        except Exception as error:
            future.set_exception(error)
        return future

    def _timed(self, function: Callable[..., Any], task: Any) -> Any:  # noqa: ANN401 (any task)
        started = time.perf_counter()
        result = function(task)
        seconds = time.perf_counter() - started
        match task:
            case IndexLayer(layer=layer):
                self.layers.append((layer.size, seconds))
            case IndexImage():
                self.images.append(seconds)
        return result

    def costs(self) -> Costs:
        """Return the mean costs; a layer's cost is attributed to its bytes."""
        byte_count = sum(size for size, _ in self.layers)
        seconds = sum(seconds for _, seconds in self.layers)
        return Costs(byte_count / seconds, 0.0, sum(self.images) / len(self.images))


class SimulatedExecutor(Executor):
    """Finishes tasks in the order of a virtual time in which `workers` run them.

    Attributes:
        seconds: the virtual time when the last task finished.
        busy: seconds that all workers were busy.
    """

    def __init__(self, costs: Costs, workers: int) -> None:
        self._costs = costs
        self._free = [0.0] * workers
        self._ends: list[tuple[float, int, Future[Any], Any]] = []
        self._number = 0
        self._changed = threading.Condition()
        self._closed = False
        self.seconds = 0.0
        self.busy = 0.0
        self._thread = threading.Thread(target=self._finish_all, daemon=True)
        self._thread.start()

    def submit(
        self, function: Callable[..., Any], /, *arguments: object, **_: object
    ) -> Future[Any]:
        """Start a task on the worker that is free first."""
        (task,) = arguments
        cost = self._cost(task)
        future: Future[Any] = Future()
        with self._changed:
            # Tasks end at once in real time, so nothing waits for others in virtual time: the wall
            # is a little shorter than it would be, and the scheduler's share larger.
            start = heapq.heappop(self._free)
            heapq.heappush(self._free, start + cost)
            self.busy += cost
            self._number += 1
            heapq.heappush(self._ends, (start + cost, self._number, future, task))
            self._changed.notify()
        return future

    def _cost(self, task: Any) -> float:  # noqa: ANN401 (any task)
        tasks = task.tasks if isinstance(task, Batch) else (task,)
        layers = [each for each in tasks if isinstance(each, IndexLayer)]
        costs = self._costs
        reading = sum(costs.layer_seconds + each.layer.size / costs.layer_rate for each in layers)
        # A batch indexes a few images at the same time, while it reads layers.
        rounds = -(-(len(tasks) - len(layers)) // IMAGES_AT_ONCE)
        return max(reading, rounds * costs.image_seconds)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 (as the base class)
        """Stop the thread that finishes tasks."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _finish_all(self) -> None:
        while True:
            with self._changed:
                while not self._ends and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                end, _, future, task = heapq.heappop(self._ends)
                self.seconds = max(self.seconds, end)
            future.set_result(_result_of(task))


def _result_of(task: Any) -> Any:  # noqa: ANN401 (any task)
    if isinstance(task, Batch):
        return tuple(map(_result_of, task.tasks))
    if isinstance(task, IndexImage):
        return ImageDone("", Traffic(read=4096, ztocs=0, manifests=2048))
    assert isinstance(task, IndexLayer)
    ztoc = Descriptor(OCTET_STREAM, task.layer.digest, task.layer.size // 50)
    result = LayerResult(task.layer, ztoc=ztoc, entry_count=1000, span_count=10)
    return LayerDone(
        KnownLayer(result, repository=task.repositories[0]),
        Traffic(read=task.layer.size, ztocs=ztoc.size),
    )


def plan_of(image_count: int) -> Plan:
    """Return a plan of images of five layers: two of 200 bases, one of 2,000, two unique ones."""
    random = seeded.generator(5)
    layers: list[PlannedLayer] = []

    def new_layer() -> int:
        size = int(min(_MAX_SIZE, max(_MIN_SIZE, random.lognormvariate(0, 1) * _MEDIAN_SIZE)))
        number = len(layers)
        digest = Digest.of(f"layer {number}".encode())
        layers.append(PlannedLayer(Descriptor(OCI_LAYER_GZIP, digest, size)))
        return number

    bases = [new_layer() for _ in range(200)]
    runtimes = [new_layer() for _ in range(2000)]
    images = []
    for number in range(image_count):
        numbers = (*random.sample(bases, 2), random.choice(runtimes), new_layer(), new_layer())
        digest = str(Digest.of(f"image {number}".encode()))
        name = f"registry.example/team{number % 50}/app{number}"
        images.append(PlannedImage(name, digest, ("1",), "", numbers))
    assert all(len(image.layers) == _LAYERS_PER_IMAGE for image in images)
    used = sorted({at for image in images for at in image.layers})
    position = {at: new for new, at in enumerate(used)}
    return Plan(
        tuple(
            PlannedImage(
                *(image.repository, image.digest, image.tags, ""),
                tuple(position[at] for at in image.layers),
            )
            for image in images
        ),
        tuple(layers[at] for at in used),
        4 << 20,
        _MIN_SIZE,
    )
