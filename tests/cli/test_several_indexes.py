"""Several version 1 indexes of an image: selecting, creating and removing them."""

from __future__ import annotations

import json

import pytest

import tocsin as api
from support.cli_in_process import tocsin
from support.cli_inputs import put_image
from support.images import make_image, put_index
from tocsin.stores.layout import OciLayout

ALL = ("--min-layer-size", "0")


def digests(reference, *options):
    return tocsin("index", "ls", reference, "-q", *options).stdout.decode().split()


def listed(reference):
    document = json.loads(tocsin("index", "ls", reference, "--json").stdout)
    return [index for platform in document["platforms"] for index in platform["soci_indexes"]]


@pytest.fixture
def source(tmp_path):
    """An image with two version 1 indexes of all layers."""
    put_image(tmp_path / "layout")
    reference = f"oci:{tmp_path / 'layout'}:app"
    for span_size in ("1MiB", "2MiB"):
        assert tocsin("create", reference, *ALL, "--span-size", span_size).returncode == 0
    return reference


@pytest.fixture
def many(tmp_path):
    """An image for two platforms, each with an index."""
    images = {
        name: make_image({name: b"x"}, platform=name) for name in ("linux/amd64", "linux/arm64")
    }
    with OciLayout(tmp_path / "many", write=True) as store:
        put_index(store, images, tag="app")
    reference = f"oci:{tmp_path / 'many'}:app"
    assert tocsin("create", reference, *ALL).returncode == 0
    return reference


def test_index_ls_shows_which_v1_index_is_used_and_why(source):
    first, second = digests(source)
    lines = tocsin("index", "ls", source).stdout.decode().splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["USED", "yes", "no"]
    assert lines[3] == f"{first[:19]} is used: it is the first of 2 in the store's order"
    assert lines[4].startswith(f"{second[:19]} is not used: another index comes first; ")
    assert [index["taken"] for index in listed(source)] == [True, False]
    shown = json.loads(tocsin("info", source, "--json").stdout)["platforms"][0]
    assert shown["soci_indexes"] == listed(source)


def test_the_index_that_ls_shows_as_used_is_the_one_for_reading(source, tmp_path):
    ztocs = {}
    for index in listed(source):
        place = f"{source.removesuffix(':app')}@{index['digest']}"
        document = json.loads(tocsin("index", "info", place, "--json").stdout)
        ztocs[index["taken"]] = [layer["digest"] for layer in document["layers"]]
    blobs = tmp_path / "layout/blobs/sha256"
    for digest in ztocs[False]:
        (blobs / digest[7:]).unlink()
    whole = tocsin("ls", source, "--require-index")
    assert (whole.returncode, whole.stderr) == (0, b"")
    for digest in ztocs[True]:
        (blobs / digest[7:]).unlink()
    broken = tocsin("ls", source)
    assert all(f"ztoc {digest} is not used".encode() in broken.stderr for digest in ztocs[True])


def test_a_v2_index_is_used_before_v1_indexes(source):
    soci = source.replace(":app", ":soci")
    assert tocsin("convert", source, soci, *ALL).returncode == 0
    assert tocsin("create", soci, *ALL).returncode == 0
    two, one = listed(soci)
    assert (two["version"], two["taken"], two["reason"]) == (2, True, "the image names it")
    assert (one["version"], one["taken"]) == (1, False)


def test_no_v1_index_is_used_for_an_image_given_by_digest(source):
    digest = str(api.resolve(source).digest)
    pinned = f"{source.removesuffix(':app')}@{digest}"
    assert [index["taken"] for index in listed(pinned)] == [False, False]
    assert all("does not cover it" in index["reason"] for index in listed(pinned))


def test_index_rm_removes_one_index_by_its_digest(source):
    first, second = digests(source)
    dry = tocsin("index", "rm", source, second, "--dry-run", "-q")
    assert dry.stdout.decode().split() == [second]
    done = tocsin("index", "rm", source, second, "--json")
    assert [index["digest"] for index in json.loads(done.stdout)["removed"]] == [second]
    assert digests(source) == [first]
    again = tocsin("index", "rm", source, second)
    assert again.returncode == 3
    assert second in again.stderr.decode()
    assert digests(source) == [first]


def test_index_rm_of_several_digests_is_all_or_nothing(source):
    first, second = digests(source)
    absent = f"sha256:{'0' * 64}"
    assert tocsin("index", "rm", source, first, absent).returncode == 3
    assert digests(source) == [first, second]
    assert tocsin("index", "rm", source, second, first, "-q").stdout.decode().split() == [
        second,
        first,
    ]
    assert digests(source) == []


def test_index_rm_takes_the_index_itself_as_image(source):
    first, second = digests(source)
    done = tocsin("index", "rm", f"{source.removesuffix(':app')}@{first}", "-q")
    assert (done.returncode, done.stdout.decode()) == (0, f"{first}\n")
    assert digests(source) == [second]


def test_index_rm_refuses_a_v2_index(source):
    soci = source.replace(":app", ":soci")
    assert tocsin("convert", source, soci, *ALL).returncode == 0
    (two,) = digests(soci)
    done = tocsin("index", "rm", f"{source.removesuffix(':app')}@{two}")
    assert done.returncode == 4
    assert b"a version 2 SOCI index cannot be removed" in done.stderr
    assert digests(soci) == [two]


def test_index_rm_of_a_platform_leaves_the_others(many):
    amd64, arm64 = digests(many)
    done = tocsin("index", "rm", many, "--platform", "linux/arm64", "-q")
    assert done.stdout.decode().split() == [arm64]
    assert digests(many) == [amd64]
    none = tocsin("index", "rm", many, "--platform", "linux/arm64")
    assert none.returncode == 3
    assert "no index refers to it for linux/arm64" in none.stderr.decode()
    assert tocsin("index", "rm", many, "-p", "linux/s390x").returncode == 3


def test_create_warns_about_other_indexes_and_adds_its_own(source):
    before = digests(source)
    done = tocsin("create", source, *ALL, "--span-size", "3MiB", "-q")
    (made,) = done.stdout.decode().split()
    assert sorted(digests(source)) == sorted([*before, made])
    (line,) = tocsin("create", source, *ALL, "--span-size", "3MiB").stderr.decode().splitlines()
    assert line.startswith("warning: linux/amd64: other indexes also refer to the image")
    assert all(digest in line for digest in before)
    assert made not in line


def test_create_again_with_the_same_result_warns_of_nothing(many):
    done = tocsin("create", many, *ALL)
    assert (done.returncode, done.stderr) == (0, b"")


def test_create_allow_does_not_look_for_other_indexes(source):
    done = tocsin("create", source, *ALL, "--existing-index", "allow")
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(
        tocsin("create", source, *ALL, "--existing-index", "allow", "--json").stdout
    )
    assert document["platforms"][0]["existing_indexes"] == []


def test_create_skip_reads_no_layer_of_a_platform_with_an_index(many):
    amd64, arm64 = digests(many)
    tocsin("index", "rm", many, amd64)
    command = ("create", many, *ALL, "--span-size", "1MiB", "--existing-index", "skip")
    first, second = json.loads(tocsin(*command, "--json").stdout)["platforms"]
    assert (first["skipped"], first["existing_indexes"]) == (False, [])
    assert first["soci_index"]["digest"] in digests(many)
    assert (second["skipped"], second["soci_index"], second["layers"]) == (True, None, [])
    assert [index["digest"] for index in second["existing_indexes"]] == [arm64]
    again = tocsin(*command)
    assert (again.returncode, again.stderr) == (0, b"")
    assert again.stdout.count(b"skipped: indexes already refer to it: ") == 2
    assert again.stdout.endswith(b"nothing was written\n")
    assert tocsin(*command, "-q").stdout == b""


def test_existing_index_other_than_the_three_is_refused(source):
    assert tocsin("create", source, "--existing-index", "no").returncode == 2
    with pytest.raises(ValueError, match="existing_index: unknown value"):
        api.create(source, existing_index="no")
