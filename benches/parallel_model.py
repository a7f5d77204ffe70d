"""A simulation of the parallel decoder: its tasks, their dependencies, and the cores that run them.

Its inputs are the cost of each stage when run alone (`Costs`) and the parameters of the decoder
(`Design`, docs/performance.md). It is a discrete-event simulation without randomness. It does not
model memory bandwidth, cores that share a cache or a clock, locks, or wrong guesses of block
starts.

The compressed stream is cut into units, which the caller feeds. The *joiner* processes them in
order. Cores without more urgent work *speculate* ahead of it: they claim ranges of units, with gaps
of unclaimed units between them, find a block start and decode from there, first into markers and
then, once a window contains none, into bytes. When the joiner reaches a decoded range, it only
resolves the last window. It decodes the units in the gaps exactly. The gap grows when the joiner
has to wait for a range, and shrinks otherwise.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

# In order of priority.
STAGES = ("feed", "scan", "resolve", "join", "hash", "hash spans", "speculate")
IN_ORDER = ("feed", "scan", "join", "hash")  # run on at most one core at a time


@dataclass(frozen=True)
class Costs:
    """The costs of the stages on one core for one layer, in nanoseconds.

    Bytes are uncompressed unless stated otherwise.

    Attributes:
        compressed_size: compressed size of the layer in bytes.
        ratio: uncompressed over compressed size.
        exact: decoding a byte into bytes.
        marked: decoding a byte into markers.
        marked_share: the share of a range's output that has markers and must be resolved; the rest
            is decoded exactly.
        resolve: replacing a marker with a byte.
        crc: CRC-32 of a byte.
        scan: tar scan of a byte.
        hash_both: the layer's and the span's digests of a compressed byte, computed together.
        hash_one: one digest of a compressed byte.
        probe: checking whether a block starts at a bit.
        probed: number of bits checked before a block is found.
        join: accepting a decoded range.
        feed: copying a compressed byte.
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
    """The parameters of the decoder; the defaults are those of ``rust/core/src/parallel``.

    Attributes:
        unit_size: compressed bytes in a unit.
        piece_size: uncompressed bytes resolved at a time.
        range_units: units in a speculated range.
        first_gap: initial number of units between ranges.
        max_gap: maximum number of units between ranges with two cores; smaller with more cores.
        max_pieces: number of joined, unscanned pieces at which the joiner waits.
        hash_units: maximum number of units hashed in one task.
        ahead: factor for the number of units fed ahead of hashing.
        spans_apart: whether span digests are computed separately from the layer's.
    """

    unit_size: int = 256 << 10
    piece_size: int = 256 << 10
    range_units: int = 6
    first_gap: int = 6
    max_gap: int = 24
    max_pieces: int = 32
    hash_units: int = 4
    ahead: int = 1
    spans_apart: bool = False

    def max_fed(self, cores: int) -> int:
        """Return how many units may wait to be hashed: the ranges of all cores, and gaps."""
        each = self.range_units + 2
        return self.ahead * (4 * self.range_units + self.max_gap + cores * each)


@dataclass
class Outcome:
    """The result of simulating one layer.

    Attributes:
        cores: number of cores.
        seconds: total time.
        busy: core-seconds by stage.
        ranges: number of speculations.
        peak_size: peak memory in bytes: input, markers, and output that is not scanned yet.
    """

    cores: int
    seconds: float
    busy: dict[str, float]
    ranges: int
    peak_size: int

    def limit(self) -> str:
        """Return what is busiest: an in-order stage, or the cores together."""
        loads = {stage: self.busy[stage] / self.seconds for stage in IN_ORDER}
        loads["cores"] = sum(self.busy.values()) / self.seconds / self.cores
        name = max(loads, key=loads.__getitem__)
        return name if loads[name] >= 0.85 else "waiting"

    def load(self, name: str) -> float:
        """Return the load of a stage, or of "cores"; 1.0 is fully busy."""
        if name == "cores":
            return sum(self.busy.values()) / self.seconds / self.cores
        return self.busy[name] / self.seconds


def simulate(costs: Costs, cores: int, design: Design | None = None) -> Outcome:
    """Simulate a layer with these costs on `cores` cores."""
    return _Run(costs, cores, design or Design()).outcome()


@dataclass
class _Range:
    """Units that one speculation claimed, half-open."""

    start: int
    end: int
    decoded: bool = False
    awaited: bool = False


@dataclass(order=True)
class _Task:
    """Work on one core until `end`, in nanoseconds."""

    end: float
    number: int  # breaks ties: the task that started first wins
    stage: str = field(compare=False)
    core: int = field(compare=False, default=0)
    unit: int = field(compare=False, default=0)
    count: int = field(compare=False, default=1)
    range: _Range | None = field(compare=False, default=None)


class _Run:
    """The state of one simulation."""

    def __init__(self, costs: Costs, cores: int, design: Design) -> None:
        self.costs, self.cores, self.design = costs, cores, design
        self.units = max(1, round(costs.compressed_size / design.unit_size))
        self.in_size = costs.compressed_size / self.units
        self.out_size = self.in_size * costs.ratio
        self.pieces = max(1, round(self.out_size / design.piece_size))  # per unit

        self.now = 0.0
        self.idle = list(range(cores))  # core 0 is the caller, which feeds
        self.running: list[_Task] = []
        self.started = 0
        self.in_work = dict.fromkeys(STAGES, 0)
        self.busy = dict.fromkeys(STAGES, 0.0)

        self.fed = self.joined = self.scanned = 0
        self.hash_begun = self.hashed = 0
        self.spans_begun = self.spans_hashed = 0
        self.missing = [0] * self.units  # unresolved pieces of each joined unit
        self.to_resolve: deque[int] = deque()  # the units they belong to
        self.ranges: deque[_Range] = deque()  # claimed but not accepted yet
        self.claimed_end = 0
        self.max_gap = math.ceil(design.max_gap / max(1, cores - 1))
        self.gap = min(design.first_gap, self.max_gap)
        self.range_count = 0
        self.peak_size = 0.0

    def outcome(self) -> Outcome:
        """Run the simulation."""
        while True:
            while self.idle and self._start():
                pass
            self._weigh()
            if not self.running:
                break
            task = heapq.heappop(self.running)
            self.now = task.end
            self.in_work[task.stage] -= 1
            self.idle.append(task.core)
            self._finish(task)
        seconds = {stage: busy / 1e9 for stage, busy in self.busy.items()}
        assert self.scanned == self.hashed == self.units
        return Outcome(self.cores, self.now / 1e9, seconds, self.range_count, int(self.peak_size))

    def _start(self) -> bool:
        """Start the most urgent task that is ready; return whether there was one."""
        for stage in STAGES:
            if stage in IN_ORDER and self.in_work[stage]:
                continue
            task = self._next(stage)
            if task is None:
                continue
            # Reserve the caller for feeding while other cores are idle.
            task.core = 0 if stage == "feed" else max(self.idle)
            self.idle.remove(task.core)
            cost = self._cost(task)
            task.end = self.now + cost
            self.busy[stage] += cost
            self.in_work[stage] += 1
            heapq.heappush(self.running, task)
            return True
        return False

    def _next(self, stage: str) -> _Task | None:
        """Return the stage's next task, if it is ready."""
        self.started += 1
        task = _Task(0.0, self.started, stage)
        match stage:
            case "feed":
                has_room = self.fed - self._hash_done() < self.design.max_fed(self.cores)
                can = 0 in self.idle and has_room and self.fed < self.units
            case "scan":
                can = self.scanned < self.joined and self.missing[self.scanned] == 0
            case "resolve":
                can = bool(self.to_resolve)
                task.unit = self.to_resolve.popleft() if can else 0
            case "join":
                task.range = here = self._range_here()
                waiting = (self.joined - self.scanned) * self.pieces
                has_input = here.decoded if here else self.joined < self.fed
                can = has_input and waiting < self.design.max_pieces
                if here and not here.decoded:
                    self._widen_gap(here)
            case "hash":
                task.count = min(self.joined - self.hash_begun, self.design.hash_units)
                can = task.count > 0
                self.hash_begun += task.count
            case "hash spans":
                can = self.design.spans_apart and self.spans_begun < self.joined
                self.spans_begun += can
            case _:
                task.range = self._claim()
                can = task.range is not None
        return task if can else None

    def _hash_done(self) -> int:
        """Return the number of units whose compressed bytes are no longer needed."""
        if self.design.spans_apart:
            return min(self.hash_begun, self.spans_begun)
        return self.hash_begun

    def _range_here(self) -> _Range | None:
        """Return the range at which the joiner is, if any."""
        if self.ranges and self.ranges[0].start == self.joined:
            return self.ranges[0]
        return None

    def _claim(self) -> _Range | None:
        start = max(self.claimed_end, self.joined + 1) + self.gap
        end = min(start + self.design.range_units, self.units)
        # The last block of a range ends after the range.
        is_here = min(end + 1, self.units) <= self.fed
        # Leave one core for the joiner, whose decoding is the cheapest.
        running = sum(not taken.decoded for taken in self.ranges)
        is_allowed = running + 1 < self.cores and len(self.ranges) <= self.cores
        if start >= end or not is_here or not is_allowed:
            return None
        self.ranges.append(_Range(start, end))
        self.claimed_end = end
        self.range_count += 1
        return self.ranges[-1]

    def _widen_gap(self, awaited: _Range) -> None:
        """Widen the gap before the next range, since the joiner has to wait for this one."""
        if not awaited.awaited:
            awaited.awaited = True
            self.gap = min(self.gap + 1, self.max_gap)

    def _cost(self, task: _Task) -> float:
        costs = self.costs
        match task.stage:
            case "feed":
                cost = self.in_size * costs.feed
            case "scan":
                cost = self.out_size * costs.scan
            case "resolve":
                cost = self.out_size / self.pieces * (costs.resolve + costs.crc)
            case "join":
                cost = costs.join if task.range else self.out_size * (costs.exact + costs.crc)
            case "hash":
                apart = self.design.spans_apart
                cost = task.count * self.in_size * (costs.hash_one if apart else costs.hash_both)
            case "hash spans":
                cost = self.in_size * costs.hash_one
            case _:
                length = task.range.end - task.range.start if task.range else 0
                exact_share = 1 - costs.marked_share
                byte = costs.marked_share * costs.marked + exact_share * (costs.exact + costs.crc)
                cost = costs.probe * costs.probed + length * self.out_size * byte
        return cost

    def _finish(self, task: _Task) -> None:
        match task.stage:
            case "feed":
                self.fed += 1
            case "scan":
                self.scanned += 1
            case "resolve":
                self.missing[task.unit] -= 1
            case "join" if task.range:
                self._accept(task.range)
            case "join":
                self.joined += 1
            case "hash":
                self.hashed += task.count
            case "hash spans":
                self.spans_hashed += 1
            case _:
                assert task.range is not None
                task.range.decoded = True

    def _accept(self, taken: _Range) -> None:
        self.ranges.popleft()
        self.joined = taken.end
        pieces = [unit for unit in range(taken.start, taken.end) for _ in range(self.pieces)]
        for unit in pieces[: math.ceil(len(pieces) * self.costs.marked_share)]:
            self.missing[unit] += 1
            self.to_resolve.append(unit)
        if not taken.awaited:
            self.gap = max(self.gap - 1, 0)

    def _weigh(self) -> None:
        ahead = sum(taken.end - taken.start for taken in self.ranges)
        output = ahead * (1 + self.costs.marked_share) + self.joined - self.scanned
        output += len(self.to_resolve) / self.pieces
        size = (self.fed - self.hashed) * self.in_size + output * self.out_size
        self.peak_size = max(self.peak_size, size)
