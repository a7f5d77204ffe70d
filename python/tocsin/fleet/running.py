"""``run``: executes a plan on an executor, with a journal."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tocsin import processors
from tocsin.errors import AuthError, NotFoundError, TocsinError, UnsupportedError
from tocsin.fleet.connections import close_connections
from tocsin.fleet.dispatching import Attempts, Dispatcher, Work
from tocsin.fleet.journal import Journal
from tocsin.fleet.results import (
    DONE,
    FAILED,
    PENDING,
    SKIPPED,
    FleetAdvanced,
    FleetCounts,
    FleetResult,
)
from tocsin.fleet.schedule import IMAGE, LAYER, Schedule
from tocsin.fleet.tasks import (
    CheckPush,
    ImageDone,
    IndexImage,
    IndexLayer,
    LayerDone,
)
from tocsin.log import LOG
from tocsin.quoting import quoted, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.fleet.plans import Plan
    from tocsin.fleet.results import FleetProgress
    from tocsin.fleet.schedule import Item
    from tocsin.fleet.tasks import SingleTask, TaskResult
    from tocsin.indexing.known import ZtocStore
    from tocsin.model.entry_path import StrPath
    from tocsin.stores.metering import Traffic
    from tocsin.stores.registry import RegistryOptions

DEFAULT_TRIES = 8
"""Attempts for each task; with the default pause, they last at least two minutes."""
_MAX_REPOSITORIES = 8
"""Repositories to try for one layer."""
_REPOSITORIES_PER_CHECK = 20
_MAX_DENIED_SHOWN = 3
_MAX_REASONS_SHOWN = 3
_CHECK = "check"

_MAX_BATCH_ITEMS = 16
_MAX_BATCH_COST = 64 << 20
"""Maximum compressed bytes of the layers that one task reads, except for a single larger one.

An engine such as Dask needs about 6 ms of CPU per task, as much as a layer of 2 MiB. If a run is
killed, the tasks that were running are repeated, so a task must stay short: a second or less.
"""
_IMAGE_COST = 2 << 20
"""Cost of an image, in bytes of a layer that cost about the same CPU time."""


def run(
    plan: Plan,
    journal: StrPath,
    *,
    executor: Executor | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    max_per_host: int | None = None,
    max_bytes: int | None = None,
    tries: int = DEFAULT_TRIES,
    pause: float = 1.0,
    known: ZtocStore | None = None,
    check_push: bool = True,
    registry: RegistryOptions | None = None,
    progress: FleetProgress | None = None,
) -> FleetResult:
    """Index the images of a plan, reading each unique layer once.

    What is done is recorded in the journal. If the run is killed, the same call continues; failed
    images are tried again. Images whose tag names another image than when they were planned, and
    images that no longer exist, are skipped.

    Args:
        plan: the plan.
        journal: path of the journal; created if it is missing.
        executor: where the tasks run, such as a ``ProcessPoolExecutor`` or
            ``dask.distributed.Client(…).get_executor()``; ``None`` for threads of this process. It
            is not shut down. Workers need tocsin and access to the registries, but no shared disk.
        jobs: maximum number of tasks at the same time; ``None`` for one per CPU. Set it to the
            number of workers of `executor`.
        threads: CPU threads of each task; ``None`` for 1 with an `executor`, and otherwise an equal
            part of this machine's CPUs.
        max_per_host: maximum number of tasks that use one registry at the same time; each has
            a few connections. ``None`` for no limit.
        max_bytes: compressed bytes of layers to read in this run; the next run continues.
        tries: attempts for each task if a registry fails temporarily or a worker is lost.
        pause: seconds before the second attempt; doubled for each further one, up to a minute.
        known: local store with zTOCs to use, such as a `ZtocDirectory`; nothing is added to it.
        check_push: check first that every repository can be pushed to.
        registry: options for access to registries. Other processes receive them without user name
            and password, and find credentials themselves.
        progress: called with `FleetAdvanced`.

    Raises:
        ConflictError: another run uses the journal, or it belongs to another plan.
        FormatError: the journal is damaged.
        AuthError: a repository cannot be pushed to; nothing was read.
        EngineError: the executor failed.
        OSError: the journal cannot be written.
        ValueError: a number is out of range.
    """
    _check_numbers(jobs=jobs, max_per_host=max_per_host, tries=tries)
    started = time.monotonic()
    jobs = jobs or processors.available()
    if threads is None:
        threads = 1 if executor is not None else max(1, processors.available() // jobs)
    with Journal.open_for(journal, plan) as opened, _executor(executor, jobs) as engine:
        runner = _Runner(
            plan,
            opened,
            engine,
            jobs=jobs,
            # Tasks of threads cost nothing, so that none is delayed by another.
            max_batch_items=1 if executor is None else _batch_items(jobs, max_per_host),
            threads=threads,
            max_per_host=max_per_host,
            max_bytes=max_bytes,
            attempts=Attempts(tries, pause),
            known=known,
            registry=registry,
            progress=progress,
        )
        try:
            if check_push:
                runner.check_push()
            runner.run()
        finally:
            close_connections()
        status = opened.status()
    stopped = "max-bytes" if runner.stopped_by_bytes and status.images.pending else None
    return FleetResult(status, time.monotonic() - started, stopped)


def _batch_items(jobs: int, max_per_host: int | None) -> int:
    """Return the maximum number of items of a batch.

    All items of a batch count for the limit of their registry, so each of the tasks that run at the
    same time gets a part of it.
    """
    if max_per_host is None:
        return _MAX_BATCH_ITEMS
    return max(1, min(_MAX_BATCH_ITEMS, max_per_host // jobs))


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}: out of range (found {value}, expected at least 1)")


@contextmanager
def _executor(given: Executor | None, jobs: int) -> Iterator[Executor]:
    if given is not None:
        yield given
        return
    with ThreadPoolExecutor(jobs, thread_name_prefix="fleet") as pool:
        yield pool


class _Runner:
    """One run; used by one thread, while futures end in others."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        executor: Executor,
        *,
        jobs: int,
        max_batch_items: int,
        threads: int,
        max_per_host: int | None,
        max_bytes: int | None,
        attempts: Attempts,
        known: ZtocStore | None,
        registry: RegistryOptions | None,
        progress: FleetProgress | None,
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._dispatcher = Dispatcher(executor, jobs, attempts)
        self._jobs = jobs
        self._max_batch_items = max_batch_items
        self._taken: Item | None = None
        """An item that was too large for the last batch, and starts the next one."""
        self._options = plan.options(threads=threads)
        self._attempts = attempts
        self._store = known
        self._registry = registry
        self._progress = progress
        journal.retry_failed(plan)
        self._known = journal.known_layers()
        self._states = journal.image_states()
        self._schedule = Schedule(
            plan,
            known=self._known,
            images=self._states,
            max_per_host=max_per_host,
            max_bytes=max_bytes,
        )
        status = journal.status()
        self._images = _counts_of(status.images)
        self._layers = _counts_of(status.layers)
        self._read, self._read_size = status.read, status.read_size

    @property
    def stopped_by_bytes(self) -> bool:
        """Whether layers were left out because of the limit."""
        return self._schedule.stopped_by_bytes

    def check_push(self) -> None:
        """Check that each repository with a pending image can be pushed to.

        Raises:
            AuthError: one cannot.
        """
        pending = {
            image.repository: None
            for number, image in enumerate(self._plan.images)
            if self._states.get(number) == PENDING
        }
        names = list(pending)
        chunks = [
            tuple(names[at : at + _REPOSITORIES_PER_CHECK])
            for at in range(0, len(names), _REPOSITORIES_PER_CHECK)
        ]
        left = list(range(len(chunks)))[::-1]
        denied: dict[str, TocsinError] = {}

        def task(item: Item) -> SingleTask:
            return CheckPush(chunks[item[1]], self._registry)

        def finished(_item: Item, result: TaskResult) -> None:
            assert isinstance(result, dict)  # noqa: S101 (the result of this task)
            denied.update(result)

        def failed(_item: Item, error: BaseException) -> None:
            raise error

        def next_items() -> list[Item]:
            return [(_CHECK, left.pop())] if left else []

        self._dispatcher.work(Work(next_items, task, finished, failed))
        if denied:
            raise _denied(denied)

    def run(self) -> None:
        """Run all tasks."""
        self._advanced()
        work = Work(self._next_batch, self._task, self._finished, self._failed)
        self._dispatcher.work(work)

    def _next_batch(self) -> list[Item]:
        """Return items that are small enough to run as one task, or a single larger one."""
        batch: list[Item] = []
        cost = 0
        pending = self._layers[PENDING] + self._images[PENDING]
        # A small part of what remains: all workers finish at about the same time, and a lost worker
        # loses little.
        limit = min(self._max_batch_items, 1 + pending // (4 * self._jobs))
        while len(batch) < limit:
            item = self._taken or self._next()
            self._taken = None
            if item is None:
                break
            cost += self._cost(item)
            if batch and cost > _MAX_BATCH_COST:
                self._taken = item
                break
            batch.append(item)
        return batch

    def _cost(self, item: Item) -> int:
        kind, number = item
        planned = self._plan.layers[number] if kind == LAYER else None
        return planned.layer.size if planned is not None and planned.is_read else _IMAGE_COST

    def _next(self) -> Item | None:
        while (item := self._schedule.next()) is not None:
            reason = self._nothing_to_index(item)
            if reason is None:
                return item
            self._schedule.ended(item)
            self._image_ended(item[1], SKIPPED, reason=reason)
        return None

    def _nothing_to_index(self, item: Item) -> str | None:
        """Return why an image gets no index although its layers have been read."""
        kind, number = item
        if kind != IMAGE:
            return None
        reasons = set()
        for at in self._plan.images[number].layers:
            known = self._known.get(at)
            reason = self._plan.layers[at].skipped if known is None else known.result.skipped
            if reason is None:
                return None
            reasons.add(reason)
        return f"nothing to index: {', '.join(sorted(reasons)[:_MAX_REASONS_SHOWN])}"

    def _task(self, item: Item) -> SingleTask:
        kind, number = item
        if kind == LAYER:
            planned = self._plan.layers[number]
            names = dict.fromkeys([planned.repository, *self._schedule.repositories_of(number)])
            blob = None
            if self._store is not None and planned.ztoc is None:
                blob = self._store.find(planned.layer.digest, self._options.span_size)
            return IndexLayer(
                planned.layer,
                tuple(name for name in names if name)[:_MAX_REPOSITORIES],
                planned.ztoc,
                blob or b"",
                self._options,
                self._registry,
                self._dispatcher.run,
            )
        image = self._plan.images[number]
        return IndexImage(
            image.repository,
            image.digest,
            image.tags,
            image.destination,
            tuple(self._known[at] for at in image.layers if at in self._known),
            self._plan.force,
            self._options,
            self._registry,
            self._dispatcher.run,
            self._attempts.is_repeated(item),
        )

    def _finished(self, item: Item, result: TaskResult) -> None:
        kind, number = item
        self._schedule.ended(item)
        if kind == LAYER:
            assert isinstance(result, LayerDone)  # noqa: S101 (the result of this task)
            self._journal.layer_done(number, result.known, result.traffic)
            self._known[number] = result.known
            self._schedule.layer_known(number)
            reason = result.known.result.skipped or ""
            self._layer_ended(number, SKIPPED if reason else DONE, reason)
        else:
            assert isinstance(result, ImageDone)  # noqa: S101 (the result of this task)
            state = SKIPPED if result.skipped else DONE
            self._image_ended(number, state, reason=result.skipped, traffic=result.traffic)

    def _failed(self, item: Item, error: BaseException) -> None:
        kind, number = item
        self._schedule.ended(item)
        code, reason = _explained(error)
        if kind == IMAGE:
            # Whether an image can be indexed does not change.
            state = SKIPPED if isinstance(error, UnsupportedError) else FAILED
            self._image_ended(number, state, code=code, reason=reason)
            return
        self._journal.layer_failed(number, code, reason)
        self._layer_ended(number, FAILED, reason)
        if isinstance(error, NotFoundError):
            # The tasks of its images find out whether they still exist.
            self._schedule.layer_known(number)
            return
        digest = self._plan.layers[number].layer.digest
        for image in self._schedule.layer_failed(number):
            self._image_ended(image, FAILED, code=code, reason=f"layer {digest}: {reason}")

    def _layer_ended(self, number: int, state: str, reason: str) -> None:
        planned = self._plan.layers[number]
        self._layers[PENDING] -= 1
        self._layers[state] += 1
        if state != FAILED and planned.is_read:
            self._read += planned.layer.size
        self._advanced(str(planned.layer.digest), state, reason)

    def _image_ended(
        self,
        number: int,
        state: str,
        *,
        code: str = "",
        reason: str = "",
        traffic: Traffic | None = None,
    ) -> None:
        self._journal.image_ended(number, state, code=code, reason=reason, traffic=traffic)
        self._images[PENDING] -= 1
        self._images[state] += 1
        self._advanced(self._plan.images[number].name, state, reason)

    def _advanced(self, name: str = "", state: str = "", reason: str = "") -> None:
        if name:
            LOG.info("%s: %s%s", name, state, f": {reason}" if reason else "")
        if self._progress is not None:
            self._progress(
                FleetAdvanced(
                    FleetCounts(**self._images),
                    FleetCounts(**self._layers),
                    self._read,
                    self._read_size,
                    name,
                    state,
                    reason,
                )
            )


def _counts_of(counts: FleetCounts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in FleetCounts.__slots__}


def _explained(error: BaseException) -> tuple[str, str]:
    """Return the code and the message of an error."""
    if isinstance(error, TocsinError):
        return error.error_code, error.message
    return "worker", quoted(f"{type(error).__name__}: {error}")


def _denied(denied: dict[str, TocsinError]) -> AuthError:
    names = [shown(name) for name in sorted(denied)]
    more = len(names) - _MAX_DENIED_SHOWN
    listed = ", ".join(names[:_MAX_DENIED_SHOWN]) + (f" and {more} more" if more > 0 else "")
    first = denied[min(denied)]
    return AuthError(
        f"no permission to push to {listed}: {first.message}",
        status=getattr(first, "status", None),
        code=getattr(first, "code", None),
        hint="Log in with an account that may push there, or leave these repositories out of the "
        "plan with --exclude (exclude=).",
    )
