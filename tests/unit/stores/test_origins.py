"""Origins are compared by value to decide which blobs can be taken over."""

from pathlib import Path

import pytest

from tocsin.stores.http.origin import Origin
from tocsin.stores.origins import ArchiveOrigin, LayoutOrigin, Nowhere, RepositoryOrigin

HERE, ELSEWHERE = Origin("https", "reg.example", 443), Origin("https", "reg.example", 5000)
ORIGINS = {
    "repository": RepositoryOrigin(HERE, "a/b"),
    "its neighbour": RepositoryOrigin(HERE, "c"),
    "another registry": RepositoryOrigin(ELSEWHERE, "a/b"),
    "layout": LayoutOrigin(Path("x"), 1),
    "its neighbour on the disk": LayoutOrigin(Path("y"), 1),
    "layout on another disk": LayoutOrigin(Path("x"), 2),
    "archive": ArchiveOrigin(Path("a.tar"), lambda digest: None),
    "another archive": ArchiveOrigin(Path("b.tar"), lambda digest: None),
    "nowhere": Nowhere(),
}
FILES = {
    "layout",
    "its neighbour on the disk",
    "layout on another disk",
    "archive",
    "another archive",
}
TAKES = {
    "repository": {"repository", "its neighbour"},
    "its neighbour": {"repository", "its neighbour"},
    "another registry": {"another registry"},
    "layout": {"layout", "its neighbour on the disk"},
    "its neighbour on the disk": {"layout", "its neighbour on the disk"},
    "layout on another disk": {"layout on another disk"},
    "archive": FILES,
    "another archive": FILES,
    "nowhere": set(),
}


@pytest.mark.parametrize("name", ORIGINS)
def test_origin_when_compared_then_it_takes_from_reachable_origins(name):
    assert {n for n, other in ORIGINS.items() if ORIGINS[name].takes_from(other)} == TAKES[name]


def test_archive_origin_when_compared_then_only_the_path_matters():
    path = Path("a.tar")
    assert ArchiveOrigin(path, lambda digest: None) == ORIGINS["archive"]
    assert ORIGINS["archive"] != ORIGINS["another archive"]
    assert hash(ArchiveOrigin(path, lambda digest: None)) == hash(ORIGINS["archive"])
