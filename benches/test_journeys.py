"""User journeys in one process, compared with common alternatives in Python.

Run by ``make bench``. The corpus is the folder named by ``TOCSIN_CORPUS``; its ``go`` layers are
used.
"""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tocsin
from images import write_image

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

LAYERS = ("rootfs", "ml", "node", "text", "packed")
CORPUS = Path(os.environ.get("TOCSIN_CORPUS", ".build/corpus"))


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Path:
    """Return a layer compressed with Go."""
    path = CORPUS / f"{request.param}.go.gz"
    if not path.exists():
        pytest.skip(f"{path} does not exist: run python benches/corpus.py --out {CORPUS}")
    return path


def table_of_contents(layer: Path) -> int:
    """List the files of a layer with the standard library, which makes no index."""
    with tarfile.open(layer) as tar:
        return len(tar.getmembers())


@pytest.mark.benchmark(group="build")
def test_build_ztoc(benchmark: BenchmarkFixture, layer: Path) -> None:
    """Measure building a zTOC: files, checkpoints and digests."""
    ztoc = benchmark.pedantic(
        tocsin.build_ztoc, (layer,), {"threads": 1}, rounds=5, warmup_rounds=1
    )
    assert ztoc.span_count > 0


@pytest.mark.benchmark(group="build")
def test_peer_tarfile(benchmark: BenchmarkFixture, layer: Path) -> None:
    """Measure listing the files with the standard library."""
    assert benchmark.pedantic(table_of_contents, (layer,), rounds=3, warmup_rounds=1) > 0


@pytest.mark.benchmark(group="build")
def test_peer_indexed_gzip(benchmark: BenchmarkFixture, layer: Path) -> None:
    """Measure making checkpoints with indexed_gzip, with the same spacing."""
    indexed_gzip = pytest.importorskip("indexed_gzip")

    def build() -> None:
        with indexed_gzip.IndexedGzipFile(str(layer), spacing=4 << 20) as file:
            file.build_full_index()

    benchmark.pedantic(build, rounds=5, warmup_rounds=1)


@pytest.fixture
def middle_file(layer: Path) -> tuple[tocsin.Ztoc, str]:
    """Return a layer's zTOC and the name of a file in the middle of the layer."""
    ztoc = tocsin.build_ztoc(layer)
    files = [
        entry.name for entry in ztoc.entries if entry.type == "reg" and entry.uncompressed_size
    ]
    return ztoc, files[len(files) // 2]


@pytest.mark.benchmark(group="one file")
def test_extract(
    benchmark: BenchmarkFixture, layer: Path, middle_file: tuple[tocsin.Ztoc, str]
) -> None:
    """Measure extracting one file from its verified spans."""
    ztoc, name = middle_file
    assert benchmark(ztoc.extract, name, layer)


@pytest.mark.benchmark(group="one file")
def test_peer_tarfile_extract(
    benchmark: BenchmarkFixture, layer: Path, middle_file: tuple[tocsin.Ztoc, str]
) -> None:
    """Measure extracting the same file with the standard library, which reads all before it."""
    _, name = middle_file

    def read() -> bytes:
        with gzip.open(layer) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                if member.name == name.removesuffix("/"):
                    found = tar.extractfile(member)
                    assert found is not None
                    return found.read()
        raise AssertionError(name)

    assert benchmark.pedantic(read, rounds=2)


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Return an image of all layers of the corpus, in a layout."""
    paths = [path for name in LAYERS if (path := CORPUS / f"{name}.go.gz").exists()]
    if not paths:
        pytest.skip(f"{CORPUS} has no layers")
    return write_image(tmp_path / "image", paths, tag="all")


@pytest.mark.benchmark(group="image")
@pytest.mark.parametrize("jobs", [1, 2])
def test_convert(benchmark: BenchmarkFixture, image: str, jobs: int) -> None:
    """Measure converting a whole image within a layout, with several layers at a time."""
    options = tocsin.IndexingOptions(jobs=jobs, min_layer_size=0)
    target = image.replace(":all", ":soci")
    arguments: dict[str, Any] = {"options": options, "force": True}
    result = benchmark.pedantic(tocsin.convert, (image, target), arguments, rounds=3)
    assert result.platforms[0].soci_index is not None
