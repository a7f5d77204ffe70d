"""Prefetch artifacts in ``info`` and ``index info``: their spans, and the files in them.

The expected values are independent of the code under test: artifacts are decoded with ``json``
alone, and the files in each span follow from how the layer was made: none of its files compress,
the largest has several MiB, and its spans have 1 MiB.
"""

from __future__ import annotations

import json
import random

import pytest

import tocsin as api
from support import json_page
from support.cli_in_process import tocsin
from support.images import make_image
from tocsin.model.descriptor import Descriptor
from tocsin.model.soci_index import PREFETCH, SociIndex
from tocsin.stores.layout import OciLayout

MIB = 1 << 20
OPTIONS = ("--min-layer-size", "0", "--span-size", "1MiB")
BYTES = random.Random(25).randbytes(9 * MIB)  # noqa: S311 (bytes that do not compress)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An image of two layers, both with files to prefetch."""
    directory = tmp_path_factory.mktemp("made") / "layout"
    lower = {
        "./first": BYTES[:4096],
        "large": BYTES[: 5 * MIB + MIB // 2],
        "last": BYTES[-4096:],
        "empty": b"",
    }
    with OciLayout(directory, write=True) as store:
        image = make_image(lower, {"upper/file": BYTES[: 3 * MIB]})
        image.put(store, tag="app")
    name = f"oci:{directory}:app"
    done = tocsin(
        "convert", name, f"{name}2", *OPTIONS, "--prefetch", "/last", "--prefetch", "/first"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return directory, image


def blob(directory, digest):
    return (directory / "blobs/sha256" / str(digest)[7:]).read_bytes()


def stored(directory):
    """Return the artifact in the layout, and its entry in the index."""
    index = json.loads(tocsin("index", "info", f"oci:{directory}:app2", "--json").stdout)
    (entry,) = [layer for layer in index["layers"] if layer["mediaType"] == PREFETCH]
    return json.loads(blob(directory, entry["digest"])), entry


def test_info_json_has_spans_and_files_of_the_artifact(made):
    directory, image = made
    document = json.loads(tocsin("info", f"oci:{directory}:app2", "--json").stdout)
    (platform,) = document["platforms"]
    (prefetch,) = platform["prefetches"]
    artifact, entry = stored(directory)
    assert json_page.problems("tocsin info", document) == []
    assert prefetch["digest"] == entry["digest"]
    assert prefetch["layer"] == str(image.layer_descriptors[0].digest)
    assert prefetch["index"] == platform["soci_indexes"][0]["digest"]
    assert prefetch["version"] == artifact["version"]
    assert prefetch["spans"] == [{**span, "priority": 0} for span in artifact["prefetch_spans"]]
    sizes = [span["end_span"] - span["start_span"] + 1 for span in artifact["prefetch_spans"]]
    assert prefetch["span_count"] == sum(sizes)
    assert prefetch["files"] == ["/first", "/last"]
    assert prefetch["problem"] is None


def test_info_and_index_info_show_spans_and_files(made):
    directory, image = made
    artifact, entry = stored(directory)
    first, last = artifact["prefetch_spans"]
    layer = str(image.layer_descriptors[0].digest)[7:19]
    for command in (("info",), ("index", "info")):
        done = tocsin(*command, f"oci:{directory}:app2")
        out = done.stdout.decode().splitlines()
        (at,) = [at for at, line in enumerate(out) if line.startswith("prefetch ")]
        assert out[at].startswith(
            f"prefetch {entry['digest'][7:19]} {entry['size']} B for layer {layer}: "
        )
        for span in (first, last):
            ends = sorted({span["start_span"], span["end_span"]})
            assert "-".join(map(str, ends)) in out[at]
        assert out[at + 1 : at + 3] == ["  /first", "  /last"]
        assert (done.returncode, done.stderr) == (0, b"")


def test_index_info_json_adds_the_artifacts_to_the_index_itself(made):
    directory, _ = made
    name = f"oci:{directory}:app2"
    document = json.loads(tocsin("index", "info", name, "--json").stdout)
    (coverage,) = api.info(name).platforms
    (prefetch,) = document.pop("prefetches")
    assert json_page.problems("prefetch", prefetch) == []
    assert prefetch == coverage.prefetches[0].to_dict()
    assert document == json.loads(blob(directory, coverage.soci_indexes[0].digest))


def test_index_info_by_digest_finds_the_artifacts_too(made):
    directory, _ = made
    (coverage,) = api.info(f"oci:{directory}:app2").platforms
    place = f"oci:{directory}@{coverage.soci_indexes[0].digest}"
    document = json.loads(tocsin("index", "info", place, "--json").stdout)
    assert document["prefetches"] == [coverage.prefetches[0].to_dict()]


def test_index_info_of_a_file_says_that_the_artifacts_are_missing(made):
    directory, _ = made
    (coverage,) = api.info(f"oci:{directory}:app2").platforms
    file = directory / "blobs/sha256" / coverage.soci_indexes[0].digest.hex
    (prefetch,) = json.loads(tocsin("index", "info", file, "--json").stdout)["prefetches"]
    assert (prefetch["version"], prefetch["spans"]) == ("", [])
    assert prefetch["problem"] == "the prefetch artifact is not part of the index file"


def with_artifact(made, tmp_path, data):
    """Return an image whose index lists `data` as the prefetch artifact of the lower layer."""
    directory, image = made
    (coverage,) = api.info(f"oci:{directory}:app2").platforms
    theirs = SociIndex.from_json(blob(directory, coverage.soci_indexes[0].digest))
    with OciLayout(tmp_path / "new", write=True) as store:
        image.put(store, tag="app")
        for ztoc in theirs.ztocs:
            store.put_blob(blob(directory, ztoc.digest))
        put = store.put_blob(data)
        layer = {"com.amazon.soci.image-layer-digest": str(image.layer_descriptors[0].digest)}
        entry = Descriptor(PREFETCH, put.digest, put.size, annotations=layer)
        index = SociIndex(
            version=1,
            layers=(*theirs.ztocs, entry),
            subject=image.descriptor,
            annotations=theirs.annotations,
        )
        store.put_manifest(index.to_json(), "application/vnd.oci.image.manifest.v1+json")
    return f"oci:{tmp_path / 'new'}:app"


def spans(*ranges):
    found = [{"start_span": first, "end_span": last} for first, last in ranges]
    return json.dumps({"version": "1.0", "prefetch_spans": found}).encode()


@pytest.mark.parametrize(
    ("ranges", "files", "count"),
    [
        ([], [], 0),
        ([(0, 0)], ["/first"], 1),
        ([(1, 4)], [], 4),
        ([(0, 5)], ["/first", "/large", "/last"], 6),
        ([(0, 2), (1, 5)], ["/first", "/large", "/last"], 6),
        ([(3, 5), (0, 2)], ["/first", "/large", "/last"], 6),
        ([(5, 5), (0, 0)], ["/first", "/last"], 2),
        ([(0, 2), (4, 5)], ["/first", "/last"], 5),
    ],
)
def test_files_are_those_that_the_spans_contain_completely(made, tmp_path, ranges, files, count):
    name = with_artifact(made, tmp_path, spans(*ranges))
    (platform,) = api.info(name).platforms
    assert platform.layers[0].span_count == 6
    (prefetch,) = platform.prefetches
    assert (list(prefetch.files), prefetch.span_count, prefetch.problem) == (files, count, None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"not JSON", "prefetch"),
        (b'{"version":"2.0","prefetch_spans":[]}', "version"),
        (spans((0, 6)), "(found 6, expected at most 5)"),
        (spans((0, (1 << 31) - 1)), "expected at most 5"),
    ],
)
def test_an_invalid_artifact_is_a_warning_and_not_a_failure(made, tmp_path, data, problem):
    name = with_artifact(made, tmp_path, data)
    for command in (("info",), ("index", "info")):
        done = tocsin(*command, name)
        (line,) = done.stderr.decode().splitlines()
        assert done.returncode == 0
        assert line.startswith("warning: ")
        assert problem in line


def test_a_missing_artifact_is_a_warning(made, tmp_path):
    name = with_artifact(made, tmp_path, spans((0, 0)))
    (platform,) = api.info(name).platforms
    (tmp_path / "new/blobs/sha256" / platform.prefetches[0].artifact.digest.hex).unlink()
    done = tocsin("info", name)
    assert done.returncode == 0
    assert done.stderr.decode().count("warning: ") == 1
    assert b"prefetch " in done.stdout


def test_a_long_list_of_ranges_is_shortened(made, tmp_path):
    """The artifact has 10,000 ranges, the most that are read."""
    name = with_artifact(made, tmp_path, spans(*((2 * at, 2 * at) for at in range(10_000))))
    (line,) = [
        line
        for line in tocsin("info", name).stdout.decode().splitlines()
        if line.startswith("prefetch ")
    ]
    assert ": 10,000 spans (0, 2, 4, 6, 8, 10, 12, 14 and 9,992 more), " in line
