"""Hostile zTOCs are read or refused with at most twice their size in memory.

The same is measured at 1 GiB, the maximum size of a zTOC, by ``benches/hostile_memory.py``.
"""

import pytest

import hostile_memory
import hostile_ztocs
from tocsin import Ztoc
from tocsin.errors import ZtocError

SIZE = 16 << 20
REFUSED = ("a long name", "a long text", "records")


@pytest.mark.parametrize("shape", hostile_ztocs.SHAPES)
def test_ztoc_when_hostile_then_memory_is_within_twice_its_size(tmp_path, shape):
    path = tmp_path / "ztoc"
    path.write_bytes(hostile_ztocs.SHAPES[shape](SIZE))
    for command in (False, True):
        factor, said = hostile_memory.factor(path, command=command)
        assert factor <= hostile_memory.MAX_FACTOR, f"{shape}: {said}"


@pytest.mark.parametrize("shape", hostile_ztocs.SHAPES)
def test_ztoc_when_its_strings_are_too_long_for_a_tar_then_refused(shape):
    blob = hostile_ztocs.SHAPES[shape](8 << 20)
    if shape not in REFUSED:
        assert Ztoc.from_bytes(blob).info().size == len(blob)
        return
    with pytest.raises(ZtocError) as caught:
        Ztoc.from_bytes(blob)
    assert caught.value.what == "ztoc.too-long"


def test_ztoc_when_its_buffer_changes_later_then_unchanged():
    blob = bytearray(hostile_ztocs.SHAPES["hard links"](4000))
    ztoc = Ztoc.from_bytes(blob)
    before = ztoc.entries[:3]
    blob[:] = bytes(len(blob))
    assert ztoc.entries[:3] == before
