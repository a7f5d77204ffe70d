"""Threads that fetch and inflate: tasks run in several threads, or only in the caller's."""

from __future__ import annotations

import threading

import pytest

from support.forked import exit_code, forked
from tocsin import processors
from tocsin.layers.fetchers import FETCH_THREADS, Fetchers


@pytest.fixture
def fetchers():
    made = Fetchers(4)
    yield made
    made.close()


def started():
    return {one for one in threading.enumerate() if one.name.startswith("tocsin-fetch")}


@pytest.mark.parametrize("threads", [1, 4])
def test_tasks_when_run_run_in_parallel_then_each_runs_once(threads):
    fetchers = Fetchers(threads)
    done = []
    fetchers.run_in_parallel([lambda n=n: done.append(n) for n in range(100)])
    fetchers.close()
    assert sorted(done) == list(range(100))
    if threads == 1:
        assert done == list(range(100))


def test_tasks_when_threads_are_idle_then_several_run_at_once(fetchers):
    together = threading.Barrier(4, timeout=60)
    fetchers.run_in_parallel([together.wait] * 4)


def test_tasks_when_all_threads_are_busy_then_run_in_this_thread(fetchers):
    go_on = threading.Event()
    busy = [fetchers.pool().submit(go_on.wait, 60) for _ in range(FETCH_THREADS)]
    here = []
    fetchers.run_in_parallel([lambda: here.append(threading.current_thread())] * 5)
    assert here == [threading.current_thread()] * 5
    go_on.set()
    assert all(one.result() for one in busy)


@pytest.mark.parametrize("threads", [1, 4])
def test_tasks_when_closed_then_run_in_this_thread(threads):
    fetchers = Fetchers(threads)
    fetchers.close()
    here = []
    fetchers.run_in_parallel([lambda: here.append(threading.current_thread())] * 5)
    assert here == [threading.current_thread()] * 5


def test_tasks_when_one_processor_or_one_task_then_no_thread_is_started(fetchers):
    before = started()
    alone = Fetchers(1)
    done = []
    alone.run_in_parallel([lambda: done.append(1)] * 3)
    fetchers.run_in_parallel([lambda: done.append(1)])
    fetchers.run_in_parallel([])
    assert len(done) == 4
    assert started() == before


def test_tasks_when_one_raises_then_raised_once_all_threads_are_idle(fetchers):
    here, at_work = threading.current_thread(), []
    raised = threading.Event()

    def task():
        if threading.current_thread() is here:
            raised.set()
            raise KeyboardInterrupt
        at_work.append(1)
        assert raised.wait(60)
        at_work.pop()

    with pytest.raises(KeyboardInterrupt):
        fetchers.run_in_parallel([task] * 50)
    assert at_work == []


def test_working_when_threads_are_limited_then_no_more_at_once():
    fetchers = Fetchers(2)
    with fetchers.working, fetchers.working:
        assert not fetchers.working.acquire(blocking=False)
    with fetchers.working:
        pass


def test_fetchers_when_threads_is_none_then_all_processors(monkeypatch):
    monkeypatch.setattr(processors, "available", lambda: 3)
    together = threading.Barrier(3, timeout=60)
    fetchers = Fetchers()
    fetchers.run_in_parallel([together.wait] * 3)
    fetchers.close()


def test_fetchers_when_threads_is_0_then_value_error():
    with pytest.raises(ValueError, match="threads is 0"):
        Fetchers(0)


def test_fetchers_when_forked_while_busy_then_they_work_in_the_child(fetchers):
    with fetchers.working, fetchers.working, fetchers.working, fetchers.working:
        fetchers.pool().submit(int).result()

        def work():
            done = []
            with fetchers.working:
                fetchers.run_in_parallel([lambda: done.append(1)] * 5)
            return len(done) == 5

        assert exit_code(forked(work)) == 0
