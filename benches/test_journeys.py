"""User journeys in one process, beside what a Python programmer would do without tocsin.

Run by ``make bench``. The corpus is the folder named by ``TOCSIN_CORPUS``; its ``go`` layers are
read.
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
    """Return a layer as Go's compressor wrote it."""
    path = CORPUS / f"{request.param}.go.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: python benches/corpus.py --out {CORPUS}")
    return path


def table_of_contents(layer: Path) -> int:
    """Read a layer as the standard library does: the files, but no index."""
    with tarfile.open(layer) as tar:
        return len(tar.getmembers())


@pytest.mark.benchmark(group="build")
def test_build_ztoc(benchmark: BenchmarkFixture, layer: Path) -> None:
    """Measure the zTOC of a layer: files, checkpoints, digests."""
    ztoc = benchmark.pedantic(
        tocsin.build_ztoc, (layer,), {"threads": 1}, rounds=5, warmup_rounds=1
    )
    assert ztoc.span_count > 0


@pytest.mark.benchmark(group="build")
def test_peer_tarfile(benchmark: BenchmarkFixture, layer: Path) -> None:
    """Measure the list of files alone by the standard library."""
    assert benchmark.pedantic(table_of_contents, (layer,), rounds=3, warmup_rounds=1) > 0


@pytest.mark.benchmark(group="build")
def test_peer_indexed_gzip(benchmark: BenchmarkFixture, layer: Path) -> None:
    """Measure the checkpoints alone by indexed_gzip, at the same spacing."""
    indexed_gzip = pytest.importorskip("indexed_gzip")

    def build() -> None:
        with indexed_gzip.IndexedGzipFile(str(layer), spacing=4 << 20) as file:
            file.build_full_index()

    benchmark.pedantic(build, rounds=5, warmup_rounds=1)


@pytest.fixture
def middle_file(layer: Path) -> tuple[tocsin.Ztoc, str]:
    """Return a layer's zTOC and the name of the file in its middle."""
    ztoc = tocsin.build_ztoc(layer)
    files = [
        entry.name for entry in ztoc.entries if entry.type == "reg" and entry.uncompressed_size
    ]
    return ztoc, files[len(files) // 2]


@pytest.mark.benchmark(group="one file")
def test_extract(
    benchmark: BenchmarkFixture, layer: Path, middle_file: tuple[tocsin.Ztoc, str]
) -> None:
    """Measure one file out of a layer by its spans, verified."""
    ztoc, name = middle_file
    assert benchmark(ztoc.extract, name, layer)


@pytest.mark.benchmark(group="one file")
def test_peer_tarfile_extract(
    benchmark: BenchmarkFixture, layer: Path, middle_file: tuple[tocsin.Ztoc, str]
) -> None:
    """Measure the same file by the standard library, which decompresses all that is before it."""
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
    """Measure a whole image from a layout to itself, some layers at once."""
    options = tocsin.IndexingOptions(jobs=jobs, min_layer_size=0)
    target = image.replace(":all", ":soci")
    arguments: dict[str, Any] = {"options": options, "force": True}
    result = benchmark.pedantic(tocsin.convert, (image, target), arguments, rounds=3)
    assert result.platforms[0].soci_index is not None
