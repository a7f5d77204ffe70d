"""Fixtures for every room."""

import shutil
import tempfile
from pathlib import Path

import pytest


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
