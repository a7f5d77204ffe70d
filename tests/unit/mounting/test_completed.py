"""What the process of a mount does once its image is complete."""

import errno
import hashlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tocsin.mounting.completed import Completion
from tocsin.mounting.erofs import CannotUseErofsError

LAYER = b"layer"
CHAIN_ID = "sha256:" + hashlib.sha256(LAYER).hexdigest()


class FakeEngine:
    """Records what is asked of it."""

    def __init__(self, problem=None):
        self.calls = []
        self.problem = problem

    def status(self):
        return {"complete": True}

    def write_out(self):
        self.calls.append("write_out")
        if self.problem is not None:
            raise self.problem

    def layer_digests(self, number):
        self.calls.append(f"layer_digests {number}")
        return ["sha256:" + "1" * 64, CHAIN_ID]

    def mount_complete(self, directory):
        self.calls.append(f"mount {directory}")
        reason = "a test"
        raise CannotUseErofsError(reason)


def run(engine, chain_ids):
    options = SimpleNamespace(chain_ids=chain_ids, complete_directory=Path("/somewhere"))
    completion = Completion(engine, options, entry=None, registry=None)
    completion.begin()
    deadline = time.monotonic() + 10
    while completion._thread.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return completion


def test_completion_when_all_is_right_then_written_out_before_mounted():
    engine = FakeEngine()
    assert run(engine, [CHAIN_ID]).verified is True
    assert engine.calls == ["write_out", "layer_digests 0", "mount /somewhere"]


def test_completion_when_diff_id_is_forged_then_not_mounted():
    engine = FakeEngine()
    completion = run(engine, ["sha256:" + "0" * 64])
    assert completion.verified is False
    assert "lies about layer 1" in completion.problem
    assert engine.calls == ["write_out", "layer_digests 0"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_completion_when_disk_fails_then_neither_verified_nor_mounted(number):
    engine = FakeEngine(OSError(number, "disk"))
    assert run(engine, [CHAIN_ID]).verified is None
    assert engine.calls == ["write_out"]
