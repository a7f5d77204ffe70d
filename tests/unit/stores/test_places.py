"""Conversion of paths, text and references to references."""

import gzip
import io
import tarfile
from pathlib import Path, PosixPath, PurePosixPath

import pytest

import tocsin
from support.images import layer_tar, make_image
from tocsin.model.reference import (
    DockerArchiveReference,
    LayoutReference,
    OciArchiveReference,
    RegistryReference,
)
from tocsin.stores.archive import OciArchive
from tocsin.stores.layout import OciLayout
from tocsin.stores.places import destination_of, reference_of

EMPTY = tocsin.IndexingOptions(min_layer_size=0)


class Place(PosixPath):
    """A path object that is not one of pathlib's own classes."""


@pytest.fixture
def image():
    return make_image({"etc/a": b"1"})


@pytest.fixture
def layout(tmp_path, image):
    with OciLayout(tmp_path / "layout", write=True) as store:
        image.put(store, "t")
    return tmp_path / "layout"


@pytest.fixture
def archive(tmp_path, image):
    with OciArchive(tmp_path / "oci.archive", write=True) as store:
        image.put(store, "t")
        store.commit()
    return tmp_path / "oci.archive"


@pytest.fixture
def saved(tmp_path):
    """An archive without a layout, as Docker before version 25 writes it."""
    config = b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}'
    documents = b'[{"Config":"c.json","RepoTags":["a/b:1"],"Layers":[]}]'
    path = tmp_path / "saved.tar"
    path.write_bytes(layer_tar({"c.json": config, "manifest.json": documents}))
    return path


def test_text_when_given_then_it_is_a_reference_never_a_path(layout, monkeypatch):
    monkeypatch.chdir(layout.parent)
    assert reference_of("layout") == RegistryReference("docker.io", "library/layout")
    assert reference_of(f"oci:{layout}:t") == LayoutReference(layout, "t")


def test_reference_when_given_then_it_is_itself():
    reference = LayoutReference(Path("d"), "t")
    assert reference_of(reference) is reference
    assert destination_of(reference) is reference


def test_directory_when_given_as_a_path_then_it_is_a_layout(layout):
    assert reference_of(layout) == destination_of(layout) == LayoutReference(layout)
    assert reference_of(PurePosixPath(layout)) == LayoutReference(layout)
    assert reference_of(Place(layout)) == LayoutReference(layout)


def test_file_when_it_contains_a_layout_then_it_is_an_oci_archive(archive):
    assert reference_of(archive) == destination_of(archive) == OciArchiveReference(archive)


def test_file_when_it_has_only_manifest_json_then_it_is_a_docker_archive(saved):
    assert reference_of(saved) == DockerArchiveReference(saved)


def test_file_when_it_has_both_then_it_is_an_oci_archive(archive, tmp_path):
    both = tmp_path / "both.tar"
    with tarfile.open(archive) as old, tarfile.open(both, "w") as new:
        for member in old:
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
        new.addfile(tarfile.TarInfo("manifest.json"), io.BytesIO())
    assert reference_of(both) == OciArchiveReference(both)


def test_file_when_it_has_no_image_then_the_error_names_missing_members(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(layer_tar({"a": b"1"}))
    with pytest.raises(tocsin.FormatError) as refusal:
        reference_of(path)
    assert str(refusal.value) == (
        f"{path}: not an image archive: found neither oci-layout and index.json (OCI) nor "
        "manifest.json (docker save)"
    )
    assert refusal.value.what == "archive"


def test_file_when_compressed_or_not_a_tar_then_it_is_refused(archive, tmp_path):
    compressed = tmp_path / "c.tar.gz"
    compressed.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(tocsin.UnsupportedError, match="compressed with gzip, expected a plain"):
        reference_of(compressed)
    text = tmp_path / "t"
    text.write_bytes(b"x" * 600)
    with pytest.raises(tocsin.FormatError, match="not a usable tar archive"):
        reference_of(text)


def test_path_when_missing_then_file_not_found_error_names_it(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal:
        reference_of(tmp_path / "nope")
    assert refusal.value.filename == str(tmp_path / "nope")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("new", LayoutReference),
        ("new.d", LayoutReference),
        ("new.tar", OciArchiveReference),
        ("a.b.tar", OciArchiveReference),
    ],
)
def test_destination_when_missing_then_the_suffix_determines_the_format(tmp_path, name, kind):
    assert destination_of(tmp_path / name) == kind(tmp_path / name)


def test_destination_when_empty_file_then_the_suffix_determines_the_format(tmp_path):
    path = tmp_path / "mkstemp.tar"
    path.touch()
    assert destination_of(path) == OciArchiveReference(path)


@pytest.mark.parametrize("given", [3, None, b"oci:d", ("oci:d",)])
def test_image_when_its_type_is_wrong_then_the_error_names_accepted_types(given):
    with pytest.raises(TypeError, match=r"expected text such as 'oci:DIR:TAG', a pathlib\.Path"):
        reference_of(given)


def test_functions_when_given_paths_then_they_read_and_write_them(layout, archive, saved, tmp_path):
    digest = tocsin.resolve(layout).digest
    assert tocsin.resolve(archive).digest == tocsin.resolve(f"oci:{layout}:t").digest == digest
    for place in (layout, archive):
        with tocsin.open(place) as image:
            assert image.cat("etc/a") == b"1"
    made = tocsin.create(layout, options=EMPTY)
    assert made.source == made.destination == f"oci:{layout}"
    assert tocsin.verify(layout).ok
    assert tocsin.info(layout).covered_size
    assert len(tocsin.indexes(layout).platforms[0].soci_indexes) == 1
    copied = tocsin.copy(layout, tmp_path / "copy.tar")
    assert copied.destination == f"oci-archive:{tmp_path / 'copy.tar'}:latest"
    assert copied.soci_indexes
    converted = tocsin.convert(archive, tmp_path / "new", options=EMPTY)
    assert converted.destination == f"oci:{tmp_path / 'new'}:latest"
    assert tocsin.verify(tmp_path / "new").ok
    aside = tocsin.create(layout, output=tmp_path / "aside", options=EMPTY)
    assert aside.destination == f"oci:{tmp_path / 'aside'}"
    assert tocsin.remove_indexes(layout) == copied.soci_indexes
    with pytest.raises(tocsin.UnsupportedError, match="docker archive cannot be written"):
        tocsin.copy(layout, saved)
    with pytest.raises(tocsin.ConflictError, match="is the source image"):
        tocsin.convert(f"oci:{layout}:latest", layout)
