"""What is durable is tested with the stores; here a disk need not be waited for."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch):
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)
