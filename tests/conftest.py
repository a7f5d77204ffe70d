"""Fixtures for all tests."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def disks(monkeypatch):
    """Skip fsync, except in the tests of stores, which test durability."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)


@pytest.fixture
def place():
    """A directory that every user may enter, unlike pytest's ``tmp_path``."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    for directory in path.rglob("*/"):
        directory.chmod(0o755)
    shutil.rmtree(path)
