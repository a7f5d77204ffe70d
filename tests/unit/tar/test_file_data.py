"""The location of a file's data; sparse maps are parsed and tested in the core."""

import pytest

from support.tarmaker import entry, padded
from tocsin.errors import TarError
from tocsin.tar.file_data import Extent, FileData
from tocsin.tar.headers import read_headers

VERSION_1_0 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9000"}


def data_of(*args, start=0, **more):
    return FileData.of(read_headers(entry(*args, **more), start))


def test_data_when_plain_then_one_extent():
    found = data_of("a", size=700, start=4096)
    assert found == FileData(700, (Extent(0, 700, 4096 + 512),))
    assert not found.is_sparse


def test_data_when_empty_then_no_extent():
    assert data_of("a") == FileData(0, ())


def test_data_when_sparse_then_one_extent_per_nonempty_region():
    stored = padded(b"3\n5\n10\n100\n0\n8990\n10\n")
    found = data_of("a", stored, pax=VERSION_1_0, size=512 + 20)
    assert found == FileData(9000, (Extent(5, 10, 2048), Extent(8990, 10, 2058)))
    assert found.is_sparse


def test_data_when_sparse_file_has_no_hole_then_not_sparse():
    records = {"GNU.sparse.map": "0,4,4,5", "GNU.sparse.numblocks": "2", "GNU.sparse.size": "9"}
    found = data_of("a", b"012345678", pax=records)
    assert found == FileData(9, (Extent(0, 4, 1536), Extent(4, 5, 1540)))
    assert not found.is_sparse


@pytest.mark.parametrize("stored", [19, 21])
def test_data_when_map_does_not_match_stored_size_then_tar_error(stored):
    with pytest.raises(
        TarError, match=f"needs 20 bytes of data, but the layer stores {stored}"
    ) as error:
        data_of("a", padded(b"1\n5\n20\n"), pax=VERSION_1_0, size=512 + stored)
    assert (error.value.what, error.value.offset) == ("tar.sparse", "uncompressed byte 2048")
