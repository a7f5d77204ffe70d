"""How many CPUs are available, and how layers share the threads."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.processors import Shares, available, resolve_threads, share

MASK = 64


@pytest.fixture
def mask(monkeypatch):
    """Give this process an affinity mask of 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MASK)), raising=False)


def control_groups(root, lines, **files):
    """Write the files with which Linux describes the control groups of this process."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# Available CPUs


def test_available_when_called_then_at_most_the_affinity_mask():
    assert 1 <= available() <= (os.cpu_count() or 1)
    assert resolve_threads(None) == available()


def test_available_when_mask_is_unsupported_then_cpu_count(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available(tmp_path) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available(tmp_path) == 1


@pytest.mark.usefixtures("mask")
def test_available_when_control_groups_are_missing_then_mask_size(tmp_path):
    assert available(tmp_path) == MASK


@pytest.mark.usefixtures("mask")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("99900000 100000\n", MASK),
        ("max 100000\n", MASK),
        ("200000 0\n", MASK),
        ("200000\n", MASK),
        ("what\n", MASK),
        ("", MASK),
    ],
)
def test_available_when_container_has_quota_then_limited_by_quota(tmp_path, text, expected):
    assert available(control_groups(tmp_path, ["0::/"], **{"cpu.max": text})) == expected


@pytest.mark.usefixtures("mask")
def test_available_when_groups_are_nested_then_lowest_quota_wins(tmp_path):
    quotas = {
        "ci.slice/cpu.max": "300000 100000",
        "ci.slice/job.scope/cpu.max": "max 100000",
        "ci.slice/other/cpu.max": "100000 100000",
    }
    assert available(control_groups(tmp_path, ["0::/ci.slice/job.scope"], **quotas)) == 3


@pytest.mark.usefixtures("mask")
@pytest.mark.parametrize("group", ["/", "/docker/ab12", "/../../docker"])
def test_available_when_cgroups_are_version_1_then_quota_is_read(tmp_path, group):
    lines = [f"4:cpu,cpuacct:{group}", f"2:cpuset:{group}", "1:name=systemd:/x", "0::/system"]
    # In a container, the path may be the host's while the files are the container's.
    files = {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    root = control_groups(tmp_path, lines, **files)
    assert available(root) == 4
    (root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert available(root) == MASK


@pytest.mark.parametrize("threads", [0, -1])
def test_resolve_threads_when_less_than_one_then_value_error(threads):
    with pytest.raises(ValueError, match=f"threads is {threads}, expected 1 or more"):
        resolve_threads(threads)


def test_resolve_threads_when_more_than_cpus_then_unchanged():
    assert resolve_threads(1000) == 1000


# How threads are shared


@pytest.mark.parametrize(
    ("threads", "jobs", "sizes", "expected"),
    [
        (2, 2, [100, 10, 10], [2, None, None]),  # a dominant layer runs alone, then the others
        (2, 2, [70, 30], [2, None]),
        (2, 2, [60, 40], [1, 1]),
        (2, 2, [10, 10, 10, 10], [1, 1, None, None]),
        (4, 4, [10, 10, 10, 10, 10], [1, 1, 1, 1, None]),
        (4, 4, [100, 10, 10, 10], [3, 1, None, None]),
        (4, 4, [50, 50, 10, 10], [2, 2, None, None]),
        (4, 4, [100, 40, 40, 40], [2, 1, 1, None]),
        (4, 4, [40, 30, 30], [2, 1, 1]),
        (8, 4, [100, *[20] * 10], [3, 1, 2, 2]),  # few layers may run, but no thread is idle
        (8, 2, [10, 10], [4, 4]),
        (8, 1, [10, 10], [8, None]),
        (1, 2, [10, 10], [1, 1]),  # more layers than threads: one each, and `turn` limits them
        (2, 4, [10, 10, 10, 10], [1, 1, 1, 1]),
        (2, 2, [0, 0], [1, 1]),
    ],
)
def test_shares_when_all_layers_start_then_each_gets_its_share(threads, jobs, sizes, expected):
    shares = Shares(threads, jobs=jobs, sizes=dict(enumerate(sizes)))
    ready = range(min(jobs, len(sizes)))
    found = [shares.take(at) if shares._may_start(at) else None for at in ready]
    assert found == expected[: len(found)]


@given(
    threads=st.integers(1, 64),
    data=st.data(),
)
def test_share_when_arbitrary_then_between_one_and_free_threads(threads, data):
    size = data.draw(st.integers(0, 1 << 40))
    unfinished = size + data.draw(st.integers(0, 1 << 40))
    free = data.draw(st.integers(-4, threads))
    starting = data.draw(st.integers(1, 64))
    got = share(threads, free=free, size=size, unfinished=unfinished, starting=starting)
    assert 1 <= got <= max(1, free)
    if free == threads:
        assert got >= max(threads // starting, threads * size // max(1, unfinished), 1)


@given(
    threads=st.integers(1, 16),
    jobs=st.integers(1, 16),
    sizes=st.lists(st.integers(0, 1 << 34), min_size=1, max_size=30),
    data=st.data(),
)
def test_shares_when_layers_run_in_any_order_then_bounds_hold(threads, jobs, sizes, data):
    sizes.sort(reverse=True)
    shares = Shares(threads, jobs=jobs, sizes=dict(enumerate(sizes)))
    waiting, running, order = list(range(len(sizes))), {}, []
    while waiting or running:
        may_start = bool(waiting) and len(running) < jobs and shares._may_start(waiting[0])
        if may_start and (not running or data.draw(st.booleans())):
            at = waiting.pop(0)
            if data.draw(st.integers(0, 9)) == 0:  # its zTOC already exists
                shares.done(at)
                continue
            running[at] = shares.take(at)
            order.append(running[at])
        else:
            # A layer is running or may start, so there is no deadlock.
            shares.done(at := data.draw(st.sampled_from(sorted(running))))
            del running[at]
        assert all(count >= 1 for count in running.values())
        assert sum(running.values()) <= max(threads, len(running))
        if len(running) > threads:
            assert set(running.values()) == {1}
    if order and jobs == 1:
        assert set(order) == {threads}


# Waiting


def test_take_when_larger_layer_has_not_started_then_waits():
    shares = Shares(4, jobs=4, sizes={"large": 10, "small": 9, "reused": 12})
    got = []

    def take(key):
        got.append((key, shares.take(key)))

    threads = [threading.Thread(target=take, args=(key,)) for key in ("small", "large")]
    for thread in threads:
        thread.start()
    shares.done("reused")
    for thread in threads:
        thread.join(60)
    assert got == [("large", 2), ("small", 2)]


def test_take_when_no_thread_is_free_then_waits_for_release():
    shares = Shares(2, jobs=2, sizes={"large": 90, "small": 10})
    assert shares.take("large") == 2
    order = []

    def small():
        order.append(("small", shares.take("small")))

    thread = threading.Thread(target=small)
    thread.start()
    order.append(("large", "done"))
    shares.done("large")
    shares.done("large")
    thread.join(60)
    assert order == [("large", "done"), ("small", 2)]


def test_take_when_stopped_then_returns_at_once():
    shares = Shares(2, jobs=2, sizes={"large": 90, "small": 10})
    shares.take("large")
    thread = threading.Thread(target=shares.take, args=("small",))
    thread.start()
    shares.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert shares.take("small") == 1


def test_turn_when_acquired_by_all_threads_then_blocks():
    shares = Shares(2, jobs=8, sizes={})
    with shares.turn, shares.turn:
        assert not shares.turn.acquire(blocking=False)
    assert shares.turn.acquire(blocking=False)


def test_shares_when_sizes_are_equal_then_given_order_is_kept():
    sizes = dict.fromkeys("cab", 5)
    shares = Shares(8, jobs=3, sizes=sizes)
    assert [shares.take(key) for key in sizes] == [3, 3, 2]
