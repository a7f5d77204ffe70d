import itertools
from dataclasses import replace

import pytest

from parallel_model import IN_ORDER, STAGES, Costs, Design, simulate

LONG = 256 << 20  # compressed bytes beside which beginning and end weigh little
CORES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
ROOTFS = Costs(
    compressed_size=64 << 20,
    ratio=2.7,
    exact=1.0,
    marked=1.1,
    resolve=0.2,
    crc=0.01,
    scan=0.01,
    hash_both=0.6,
    hash_one=0.46,
    probe=2.0,
    probed=80_000,
    join=30_000,
    feed=0.06,
)
LAYERS = {
    "rootfs": ROOTFS,
    "text": replace(ROOTFS, ratio=4.9, exact=0.5, marked=0.6, resolve=0.5, marked_share=0.9),
    "packed": replace(ROOTFS, ratio=1.01, exact=0.4, marked=0.45),
}
UNIT = Design().unit_size
DESIGNS = {
    "usual": Design(),
    "no gap": Design(first_gap=0, max_gap=0),
    "spans apart": Design(spans_apart=True),
}


@pytest.fixture(params=LAYERS)
def costs(request):
    return LAYERS[request.param]


@pytest.fixture(params=DESIGNS)
def design(request):
    return DESIGNS[request.param]


def exact_seconds(costs, design):
    """What one core needs that decodes everything exactly."""
    byte = costs.exact + costs.crc + costs.scan
    digests = 2 * costs.hash_one if design.spans_apart else costs.hash_both
    compressed_byte = costs.ratio * byte + digests + costs.feed
    return costs.compressed_size * compressed_byte / 1e9


def test_simulate_when_one_core_then_takes_the_sum_of_the_costs(costs, design):
    outcome = simulate(costs, 1, design)
    assert outcome.ranges == 0
    assert outcome.seconds == pytest.approx(exact_seconds(costs, design))
    assert outcome.limit() == "cores"


@pytest.mark.parametrize("cores", CORES)
def test_simulate_then_no_core_does_two_things_at_once(costs, design, cores):
    outcome = simulate(costs, cores, design)
    assert set(outcome.busy) == set(STAGES)
    assert sum(outcome.busy.values()) <= outcome.seconds * cores * (1 + 1e-9)
    assert outcome.load("cores") <= 1 + 1e-9


@pytest.mark.parametrize("cores", CORES)
def test_simulate_then_no_stage_in_order_is_faster_than_alone(costs, design, cores):
    outcome = simulate(costs, cores, design)
    size = costs.compressed_size
    digest = costs.hash_one if design.spans_apart else costs.hash_both
    alone = {
        "feed": size * costs.feed / 1e9,
        "scan": size * costs.ratio * costs.scan / 1e9,
        "hash": size * digest / 1e9,
    }
    for stage, seconds in alone.items():
        assert outcome.busy[stage] == pytest.approx(seconds)
        assert outcome.seconds >= seconds
    assert outcome.seconds >= outcome.busy["join"]


def test_simulate_when_there_are_more_cores_then_it_is_not_slower(costs, design):
    costs = replace(costs, compressed_size=LONG)
    # With many cores a gap is learned long after it was claimed, and may be wrong by then.
    few = len(CORES) if design.max_gap == 0 else CORES.index(8) + 1
    seconds = [simulate(costs, cores, design).seconds for cores in CORES[:few]]
    for fewer, more in itertools.pairwise(seconds):
        # One core is the joiner's: where nothing is left to it, it is idle at times.
        assert more <= fewer * (1.08 if design.max_gap == 0 else 1.02)
    assert seconds[-1] < seconds[0] / 1.5


def test_simulate_when_hashing_is_slowest_then_always_busy():
    outcome = simulate(LAYERS["packed"], 16)
    assert outcome.limit() == "hash"
    assert outcome.load("hash") == pytest.approx(1, abs=0.02)


def test_simulate_when_span_digests_are_separate_then_faster():
    together = simulate(LAYERS["packed"], 16)
    apart = simulate(LAYERS["packed"], 16, Design(spans_apart=True))
    gain = LAYERS["packed"].hash_both / LAYERS["packed"].hash_one
    assert together.seconds / apart.seconds == pytest.approx(gain, rel=0.05)


def test_simulate_when_markers_are_free_and_no_order_then_cores_add_up():
    free = replace(
        ROOTFS,
        compressed_size=LONG,
        marked=1.01,
        resolve=0,
        crc=0,
        scan=0,
        hash_both=0,
        probe=0,
        join=0,
        feed=0,
    )
    one, eight = simulate(free, 1), simulate(free, 8, Design(first_gap=1, max_gap=1))
    # The joiner's core waits now and then.
    assert 7 < one.seconds / eight.seconds <= 8


def test_simulate_when_layer_is_large_then_memory_is_bounded(costs, design):
    for cores in CORES:
        outcome = simulate(costs, cores, design)
        fed = design.max_fed(cores) + design.hash_units
        ranges = (cores + 1) * design.range_units
        joined = design.max_pieces * design.piece_size + design.range_units * UNIT * costs.ratio
        bound = fed * UNIT + 2 * ranges * UNIT * costs.ratio + 2 * joined
        assert 0 < outcome.peak_size <= bound


def test_simulate_when_layer_is_shorter_than_a_range_then_decoded(design):
    for size in (1, 100, design.unit_size, 3 * design.unit_size):
        outcome = simulate(replace(ROOTFS, compressed_size=size), 8, design)
        assert all(outcome.busy[stage] > 0 for stage in IN_ORDER)
