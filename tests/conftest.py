"""Fixtures for every room."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def disks(monkeypatch):
    """Disks need not be waited for, except in the tests of stores, whose job is to be durable."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)


@pytest.fixture
def place():
    """A directory that anyone may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    for directory in path.rglob("*/"):
        directory.chmod(0o755)
    shutil.rmtree(path)
