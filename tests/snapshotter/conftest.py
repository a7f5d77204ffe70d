"""Fixtures with a snapshotter."""

import pytest

from support.registry import Registry
from support.snapshotter import node


@pytest.fixture
def machine():
    """A machine with a running snapshotter."""
    with Registry() as registry, node(registry) as machine:
        machine.start()
        yield machine


@pytest.fixture
def cluster(machine):
    """A machine with a running snapshotter and containerd."""
    with machine.containerd():
        yield machine
