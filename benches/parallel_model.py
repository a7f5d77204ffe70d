"""A model of the parallel decoder: its tasks, what each waits for, cores that take the next one.

It knows nothing of the machine but what each stage costs alone (`Costs`), and of the decoder but
its shape (`Design`, docs/performance.md). Time passes from one end of a task to the next; nothing
is random. Not in the model: memory bandwidth, cores that share a cache or a clock, locks, ranges
whose block start was a wrong guess.

The compressed stream is cut into units. The *joiner* goes through them in order. Ahead of it, cores
with nothing more urgent to do *speculate*: they claim ranges of some units, leaving a gap of
unclaimed ones between, find a block start and decode from there into markers. Where the joiner
arrives at a range that is decoded, it only resolves its last window; what is between, it decodes
exactly. It makes the gap longer when it has to wait for a range, and shorter when it has not.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

# What a core takes first when there is a choice.
STAGES = ("feed", "scan", "resolve", "join", "hash", "hash spans", "speculate")
IN_ORDER = ("feed", "scan", "join", "hash")  # never on more than one core at a time


@dataclass(frozen=True)
class Costs:
    """What the stages cost on one core for one layer, in nanoseconds.

    A byte is an uncompressed one where the name does not say otherwise.

    Attributes:
        compressed_size: of the layer, in bytes.
        ratio: uncompressed over compressed size.
        exact: decode a byte into bytes.
        marked: decode a byte into markers.
        marked_share: of a range's output that comes out wide and must be resolved; the rest is
            decoded as fast as exact.
        resolve: make a byte of a marker.
        crc: of a byte.
        scan: of a byte, the tar.
        hash_both: the layer's and the span's digest of a compressed byte, side by side.
        hash_one: one digest of a compressed byte.
        probe: try whether a block starts at a bit.
        probed: bits that are tried before one is found.
        join: take over a range that is decoded.
        feed: copy a compressed byte.
    """

    compressed_size: int
    ratio: float
    exact: float
    marked: float
    resolve: float
    crc: float
    scan: float
    hash_both: float
    hash_one: float
    probe: float
    probed: float
    join: float
    feed: float
    marked_share: float = 1.0


@dataclass(frozen=True)
class Design:
    """The shape of the decoder.

    Attributes:
        unit_size: compressed bytes the joiner decodes at once.
        range_units: units one speculation decodes.
        first_gap: units between ranges at first.
        most_gap: units between ranges at most.
        ahead_units: units fed and not yet done with, at most, for each core beside the first two.
        spans_apart: whether the digests of spans are made by any core, the layer's alone in order.
    """

    unit_size: int = 256 << 10
    range_units: int = 4
    first_gap: int = 1
    most_gap: int = 16
    ahead_units: int = 8
    spans_apart: bool = False

    def most_ahead(self, cores: int) -> int:
        """Return how many units may be in work."""
        return self.ahead_units * (cores + 2)


@dataclass
class Outcome:
    """One layer, from its first byte to the last digest.

    Attributes:
        cores: how many there were.
        seconds: what it took.
        busy: core-seconds by stage.
        ranges: speculations.
        peak_size: bytes held at most: input, markers, and output not scanned yet.
    """

    cores: int
    seconds: float
    busy: dict[str, float]
    ranges: int
    peak_size: int

    def limit(self) -> str:
        """Return what is busiest: a stage that has to go in order, or the cores all together."""
        loads = {stage: self.busy[stage] / self.seconds for stage in IN_ORDER}
        loads["cores"] = sum(self.busy.values()) / self.seconds / self.cores
        name = max(loads, key=loads.__getitem__)
        return name if loads[name] >= 0.85 else "waiting"

    def load(self, name: str) -> float:
        """Return how busy a stage, or "cores", is: 1.0 is always."""
        if name == "cores":
            return sum(self.busy.values()) / self.seconds / self.cores
        return self.busy[name] / self.seconds


def simulate(costs: Costs, cores: int, design: Design | None = None) -> Outcome:
    """Return how a layer of those costs fares on so many cores."""
    return _Run(costs, cores, design or Design()).outcome()


@dataclass
class _Range:
    """Units that one speculation claimed, half-open."""

    start: int
    end: int
    decoded: bool = False


@dataclass(order=True)
class _Task:
    """Work on one core until `end`, in nanoseconds."""

    end: float
    number: int  # ties go to what started first
    stage: str = field(compare=False)
    unit: int = field(compare=False, default=0)
    range: _Range | None = field(compare=False, default=None)


class _Run:
    """One simulation on its way."""

    def __init__(self, costs: Costs, cores: int, design: Design) -> None:
        self.costs, self.cores, self.design = costs, cores, design
        self.units = max(1, round(costs.compressed_size / design.unit_size))
        self.in_size = costs.compressed_size / self.units
        self.out_size = self.in_size * costs.ratio

        self.now = 0.0
        self.running: list[_Task] = []
        self.started = 0
        self.in_work = dict.fromkeys(STAGES, 0)
        self.busy = dict.fromkeys(STAGES, 0.0)

        self.fed = self.joined = self.scanned = self.hashed = self.spans_hashed = 0
        self.decoded = [False] * self.units
        self.to_resolve: deque[int] = deque()
        self.spans_begun = 0
        self.ranges: deque[_Range] = deque()  # claimed and not taken over yet
        self.claimed_end = 0
        self.gap = design.first_gap
        self.range_count = 0
        self.marked_units = self.output_units = 0
        self.peak_size = 0.0

    def outcome(self) -> Outcome:
        """Run to the end."""
        while True:
            while len(self.running) < self.cores and self._start():
                pass
            self._weigh()
            if not self.running:
                break
            task = heapq.heappop(self.running)
            self.now = task.end
            self.in_work[task.stage] -= 1
            self._finish(task)
        seconds = {stage: busy / 1e9 for stage, busy in self.busy.items()}
        assert self.scanned == self.hashed == self.units
        return Outcome(self.cores, self.now / 1e9, seconds, self.range_count, int(self.peak_size))

    def _start(self) -> bool:
        """Give the most urgent task that can be begun to a core; return whether there was one."""
        for stage in STAGES:
            if stage in IN_ORDER and self.in_work[stage]:
                continue
            task = self._next(stage)
            if task is None:
                continue
            cost = self._cost(task)
            task.end = self.now + cost
            self.busy[stage] += cost
            self.in_work[stage] += 1
            heapq.heappush(self.running, task)
            return True
        return False

    def _next(self, stage: str) -> _Task | None:
        """Return the stage's next task, if there is one that need not wait."""
        self.started += 1
        task = _Task(0.0, self.started, stage)
        match stage:
            case "feed":
                held = self.fed - min(self.scanned, self.hashed, self.spans_hashed)
                can = self.fed < self.units and held < self.design.most_ahead(self.cores)
            case "scan":
                can = self.scanned < self.units and self.decoded[self.scanned]
            case "resolve":
                can = bool(self.to_resolve)
                task.unit = self.to_resolve.popleft() if can else 0
            case "join":
                here = self._range_here()
                can = here.decoded if here else self.joined < self.fed
                task.unit, task.range = self.joined, here
            case "hash":
                can = self.hashed < self.joined
            case "hash spans":
                can = self.design.spans_apart and self.spans_begun < self.joined
                self.spans_begun += can
            case _:
                task.range = self._claim()
                can = task.range is not None
        return task if can else None

    def _range_here(self) -> _Range | None:
        """Return the range that the joiner stands before, if it does."""
        if self.ranges and self.ranges[0].start == self.joined:
            return self.ranges[0]
        return None

    def _claim(self) -> _Range | None:
        exact = self.in_work["join"] and not self._range_here()
        start = max(self.claimed_end, self.joined + bool(exact)) + self.gap
        end = min(start + self.design.range_units, self.units)
        if start >= end or end > self.fed:
            return None
        self.ranges.append(_Range(start, end))
        self.claimed_end = end
        self.range_count += 1
        self.marked_units += end - start
        return self.ranges[-1]

    def _cost(self, task: _Task) -> float:
        costs = self.costs
        match task.stage:
            case "feed":
                cost = self.in_size * costs.feed
            case "scan":
                cost = self.out_size * costs.scan
            case "resolve":
                cost = self.out_size * (costs.marked_share * costs.resolve + costs.crc)
            case "join":
                cost = costs.join if task.range else self.out_size * (costs.exact + costs.crc)
            case "hash":
                apart = self.design.spans_apart
                cost = self.in_size * (costs.hash_one if apart else costs.hash_both)
            case "hash spans":
                cost = self.in_size * costs.hash_one
            case _:
                length = task.range.end - task.range.start if task.range else 0
                byte = costs.marked_share * costs.marked + (1 - costs.marked_share) * costs.exact
                cost = costs.probe * costs.probed + length * self.out_size * byte
        return cost

    def _finish(self, task: _Task) -> None:
        match task.stage:
            case "feed":
                self.fed += 1
            case "scan":
                self.scanned += 1
                self.output_units -= 1
            case "resolve":
                self.decoded[task.unit] = True
                self.marked_units -= 1
                self.output_units += 1
            case "join" if task.range:
                self.ranges.popleft()
                self.to_resolve.extend(range(task.range.start, task.range.end))
                self.joined = task.range.end
                self._arrive()
            case "join":
                self.decoded[task.unit] = True
                self.output_units += 1
                self.joined += 1
                self._arrive()
            case "hash":
                self.hashed += 1
            case "hash spans":
                self.spans_hashed += 1
            case _:
                assert task.range is not None
                task.range.decoded = True
        if not self.design.spans_apart:
            self.spans_hashed = self.hashed

    def _arrive(self) -> None:
        """Learn from what the joiner finds at its new place."""
        if here := self._range_here():
            gap = self.gap - 1 if here.decoded else self.gap + 1
            self.gap = min(max(gap, 0), self.design.most_gap)

    def _weigh(self) -> None:
        held = self.fed - min(self.scanned, self.hashed)
        size = held * self.in_size + (2 * self.marked_units + self.output_units) * self.out_size
        self.peak_size = max(self.peak_size, size)
