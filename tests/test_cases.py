"""Unusual images of tests/cases read as containerd unpacks them, with each kind of index."""

import hashlib
import json
import os
from pathlib import Path

import pytest

import tocsin
from support import seek
from tocsin.errors import UnsupportedError
from tocsin.stores.layout import OciLayout

PLACE = Path(__file__).parent / "cases" / "images"
NAMES = sorted(path.stem for path in PLACE.glob("*.json"))
HAZARDS = {
    "hardlink-with-size",
    "sparse-all-hole",
    "sparse00",
    "sparse01",
    "sparse10",
    "sparse10-size-first",
    "sparse10-size-last",
    "wr-bsdtar-pax",
    "wr-bsdtar-xattrs",
    "wr-bsdtar-xattrsall",
    "wr-gnutar-S0.0",
    "wr-gnutar-S1.0",
}
"""Single-layer images that are indexed only on request, because other readers fail on them."""
NOT_INDEXED = {"ct-docker-tar-is-gzip"}
"""Single-layer images that are never indexed."""
TYPES = {"symlink": "link", "char": "special", "block": "special", "fifo": "special"}


def expected(name: str) -> dict[str, dict[str, object]]:
    """Return each path as containerd left it."""
    paths = json.loads((PLACE / f"{name}.json").read_text())
    for status in paths.values():
        if status["type"] == "link":
            del status["mode"]  # symbolic links have no mode on Linux
    return paths


def found(image: tocsin.Image, status: tocsin.FileStat) -> dict[str, object]:
    """Return the status of one path in the format of the cases."""
    result: dict[str, object] = {
        "type": TYPES.get(status.type, status.type),
        "uid": status.uid,
        "gid": status.gid,
    }
    if status.is_symlink:
        return result | {"target": status.linkname}
    result["mode"] = oct(status.mode)
    if status.is_file:
        with image.open(status.path) as file:
            result |= {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        result["size"] = status.size
    return result


def check(reference: str, name: str, place: Path) -> None:
    """Compare an image with its case: path by path, and extracted as a whole."""
    paths = expected(name)
    with tocsin.open(reference) as image:
        assert {
            status.path.removeprefix("/"): found(image, status)
            for status in image.find("/")
            if status.path != "/"
        } == paths
        image.extract("/", place, owners=False)
    for path, status in paths.items():
        if status["type"] == "file" and len(path) < os.pathconf("/", "PC_PATH_MAX") // 2:
            content = (place / path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == status["sha256"], path


def archive(name: str) -> str:
    return f"oci-archive:{PLACE / name}.oci.tar:t"


def converted(name: str, directory: Path, *, reference_identical: bool = False) -> str:
    """Index every layer of a case that can be indexed, and return the converted image."""
    options = tocsin.IndexingOptions(min_layer_size=0, reference_identical=reference_identical)
    tocsin.convert(archive(name), f"oci:{directory}:t", options=options)
    return f"oci:{directory}:t"


def test_cases_when_counted_then_none_is_missing():
    assert len(NAMES) == 91
    assert set(NAMES) >= HAZARDS | NOT_INDEXED


@pytest.mark.parametrize("name", NAMES)
def test_image_when_read_without_ztocs_then_as_containerd_unpacks_it(name, tmp_path):
    check(archive(name), name, tmp_path / "out")


@pytest.mark.parametrize("name", NAMES)
def test_image_when_converted_then_as_containerd_unpacks_it(name, tmp_path):
    layout = tmp_path / "layout"
    if name in HAZARDS | NOT_INDEXED:
        with pytest.raises(UnsupportedError, match="nothing to index"):
            converted(name, layout)
    if name not in NOT_INDEXED:
        indexed = converted(name, layout, reference_identical=name in HAZARDS)
        check(indexed, name, tmp_path / "out")


@pytest.mark.parametrize(("span_size", "threads"), [(64 << 10, 1), (256 << 10, 2), (1 << 20, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_image_when_read_by_seek_table_then_as_containerd_unpacks_it(
    name, span_size, threads, tmp_path
):
    layout = tmp_path / "layout"
    tocsin.copy(archive(name), f"oci:{layout}:t")
    with OciLayout(layout, write=True) as store:
        seek.add_referrer(store, "t", span_size=span_size, threads=threads)
    with tocsin.open(f"oci:{layout}:t") as image:
        assert {layer.index_origin for layer in image.layers} <= {"seek"}
    check(f"oci:{layout}:t", name, tmp_path / "out")
