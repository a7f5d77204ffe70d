from __future__ import annotations

import json
import shutil

import pytest

from support.cli_in_process import tocsin
from support.cli_inputs import put_image
from support.images import make_image, put_index, referrer_to
from tocsin.model.media_types import OCI_MANIFEST
from tocsin.model.soci_index import SOCI_INDEX_V1, SociIndex
from tocsin.stores.layout import OciLayout

DESCRIPTOR = {"media_type", "digest", "size"}
RESULT = {
    "source",
    "destination",
    "dry_run",
    "seconds",
    "traffic",
    "missing_prefetch",
    "platforms",
}
TRAFFIC = {"read", "pushed", "ztocs", "manifests", "blobs", "mounted"}
PLATFORM_RESULT = {
    "platform",
    "manifest",
    "soci_index",
    "seek_table",
    "seek_problem",
    "seek_size",
    "pack_size",
    "pack_notes",
    "existing_indexes",
    "skipped",
    "layers",
}
LAYER_RESULT = {
    "digest",
    "media_type",
    "size",
    "reused",
    "ztoc",
    "skipped",
    "notes",
    "entry_count",
    "span_count",
    "uncompressed_size",
    "seconds",
    "seek_blob",
}
COVERAGE = {"image", "manifest", "layer_size", "covered_size", "ztoc_size", "platforms"}
PLATFORM_COVERAGE = {
    "platform",
    "manifest",
    "problem",
    "soci_indexes",
    "seek_tables",
    "layer_size",
    "covered_size",
    "ztoc_size",
    "layers",
    "prefetches",
}
LAYER_COVERAGE = {
    "digest",
    "media_type",
    "size",
    "ztoc",
    "soci_versions",
    "span_size",
    "span_count",
    "entry_count",
    "uncompressed_size",
    "problem",
}
INDEX = DESCRIPTOR | {"version", "problem", "ztoc_count", "ztoc_size", "taken", "reason"}
SMALL = ("--min-layer-size", "1KiB", "--span-size", "1MiB")


def blob(layout, digest):
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_create_prints_a_table_and_stores_the_index(layout, image):
    done = tocsin("create", f"oci:{layout}:app", *SMALL)
    out = done.stdout.decode().splitlines()
    large, small = (str(d.digest)[7:19] for d in image.layer_descriptors)
    assert (done.returncode, done.stderr) == (0, b"")
    assert out[0].startswith("linux/amd64 · manifest sha256:")
    assert out[1].split() == ["LAYER", "SIZE", "ZTOC", "SIZE", "OVERHEAD", "SPANS", "TIME"]
    assert out[2].startswith(f"{large}  3.0 MiB  ")
    assert out[3].startswith(f"{small} ")
    assert "skipped" in out[3]
    assert out[4] == "skipped: smaller than 1 KiB"
    name, digest = out[5].split()
    assert name == "index"
    assert SociIndex.from_json(blob(layout, digest).read_bytes()).version == 1
    assert out[-2].startswith("read 3.0 MiB, pushed ")
    assert out[-1].startswith("1 zTOC for 2 layers, ")
    assert out[-1].endswith(f" → oci:{layout}:app")


def test_create_quiet_prints_only_the_digest(layout):
    done = tocsin("create", f"oci:{layout}:app", *SMALL, "--quiet")
    (digest,) = done.stdout.decode().splitlines()
    assert blob(layout, digest).is_file()
    assert done.stderr == b""


def test_create_json_has_stable_keys(layout, image):
    done = tocsin("create", f"oci:{layout}:app", *SMALL, "--json", "--prefetch", "nothing")
    document = json.loads(done.stdout)
    (platform,) = document["platforms"]
    large, small = platform["layers"]
    assert document.keys() == RESULT
    assert document["traffic"].keys() == TRAFFIC
    assert platform.keys() == PLATFORM_RESULT
    assert large.keys() == small.keys() == LAYER_RESULT
    assert large["ztoc"].keys() == DESCRIPTOR
    assert platform["soci_index"].keys() == platform["manifest"].keys() == DESCRIPTOR
    assert large["digest"] == str(image.layer_descriptors[0].digest)
    assert (large["span_count"], large["skipped"], small["ztoc"]) == (3, None, None)
    assert document["missing_prefetch"] == ["nothing"]
    assert document["source"] == document["destination"] == f"oci:{layout}:app"


def test_an_existing_ztoc_is_reused_unless_rebuild_is_set(layout):
    command = ("create", f"oci:{layout}:app", *SMALL, "--json")
    runs = [tocsin(*command), tocsin(*command), tocsin(*command, "--rebuild")]
    layers = [json.loads(done.stdout)["platforms"][0]["layers"][0] for done in runs]
    assert [layer["reused"] for layer in layers] == [False, True, False]
    again = tocsin("create", f"oci:{layout}:app", *SMALL)
    assert again.stdout.decode().splitlines()[2].endswith(" reused")


def test_create_with_a_destination_copies_the_image(layout, tmp_path):
    other = tmp_path / "other"
    assert tocsin("create", f"oci:{layout}:app", f"oci:{other}:copy", *SMALL).returncode == 0
    document = json.loads(tocsin("info", f"oci:{other}:copy", "--json").stdout)
    assert document["platforms"][0]["layers"][0]["soci_versions"] == [1]


def test_convert_makes_an_image_that_info_shows_as_covered(layout, tmp_path):
    source = f"oci:{layout}:app"
    destination = f"oci-archive:{tmp_path / 'out.tar'}:soci"
    done = tocsin("convert", source, destination, *SMALL)
    (image,) = [line for line in done.stdout.decode().splitlines() if line.startswith("image ")]
    assert done.returncode == 0
    info = tocsin("info", destination)
    out = info.stdout.decode().splitlines()
    assert out[0] == f"image   {destination}"
    assert out[1] == f"digest  {image.split()[1]}"
    assert out[4].split() == ["LAYER", "MEDIA", "TYPE", "SIZE", "ZTOC", "SIZE", "OVERHEAD", "SPANS"]
    assert out[5].split()[1:6] == ["oci", "tar+gzip", "3.0", "MiB", "v2"]
    assert out[7].startswith("covered: 99.9 % of 3.0 MiB, 1 of 2 layers, zTOCs ")
    assert out[8].startswith("index v2 sha256:")
    assert (info.returncode, info.stderr) == (0, b"")


def test_convert_quiet_and_json_give_the_same_image(layout):
    source, destination = f"oci:{layout}:app", f"oci:{layout}:soci"
    quiet = tocsin("convert", source, destination, *SMALL, "-q")
    document = json.loads(
        tocsin("convert", source, destination, *SMALL, "--json", "--force").stdout
    )
    assert document.keys() == RESULT | {"image", "unchanged"}
    assert quiet.stdout.decode() == f"{document['image']['digest']}\n"


def test_an_existing_destination_needs_force(layout):
    source = f"oci:{layout}:app"
    done = tocsin("convert", source, source, *SMALL)
    assert (done.returncode, done.stdout) == (1, b"")
    first, hint = done.stderr.decode().splitlines()
    assert first.startswith("error: ")
    assert hint.startswith("hint: Name another tag")
    assert tocsin("convert", source, source, *SMALL, "--force").returncode == 0


def test_option_names_of_soci_are_accepted(layout, tmp_path):
    paths = tmp_path / "paths.json"
    paths.write_text('["/usr/bin/app", " "]')
    ours = ("--optimize", "xattr", "--prefetch", "/usr/bin/app")
    theirs = ("--optimizations", "xattr", "--prefetch-files-json", str(paths))
    also = ("--optimize", "xattr", "--prefetch-list", "-")
    digests = {
        tocsin(
            "create", f"oci:{layout}:app", *SMALL, "-q", *spelling, stdin=b'["usr/bin/app"]'
        ).stdout
        for spelling in (ours, theirs, also)
    }
    (digest,) = digests
    index = SociIndex.from_json(blob(layout, digest.decode().strip()).read_bytes())
    assert len(index.prefetches) == 1


def test_f_does_in_create_and_convert_what_it_does_in_soci(layout):
    source, other = f"oci:{layout}:app", f"oci:{layout}:other"
    for command in (("create", source), ("convert", source, other)):
        assert tocsin(*command, *SMALL).returncode == 0
        again = json.loads(tocsin(*command, *SMALL, "-f", "--json").stdout)
        assert [layer["reused"] for layer in again["platforms"][0]["layers"]] == [False, False]
    replaced = tocsin("convert", source, other, "--min-layer-size", "0", "-f")
    assert replaced.returncode == 0


def test_help_explains_force_and_rebuild():
    for command in ("create", "convert"):
        text = " ".join(tocsin(command, "--help").stdout.decode().split())
        assert "Unlike soci --force, this does not rebuild zTOCs; see --rebuild" in text
        assert "zTOCs that already exist at the destination (soci: --force)" in text


def test_platforms_can_be_given_as_in_soci(tmp_path):
    names = ("linux/amd64", "linux/arm64", "linux/s390x")
    images = {name: make_image({name: b"x"}, platform=name) for name in names}
    with OciLayout(tmp_path / "many", write=True) as store:
        put_index(store, images, tag="app")
    command = ("create", f"oci:{tmp_path / 'many'}:app", "--min-layer-size", "0", "--json")

    def made(*options):
        document = json.loads(tocsin(*command, *options).stdout)
        return [platform["platform"] for platform in document["platforms"]]

    assert made("--platform", "linux/arm64,linux/s390x") == ["linux/arm64", "linux/s390x"]
    assert made("-p", "linux/s390x", "-p", "linux/amd64") == ["linux/s390x", "linux/amd64"]
    assert made("--all-platforms", "-p", "linux/s390x") == list(names)
    assert tocsin(*command, "-p", "linux/amd64,").returncode == 2


def test_standalone_with_paths_makes_the_same_image_as_references(layout, tmp_path):
    wanted = tocsin("convert", f"oci:{layout}:app", f"oci:{tmp_path / 'ours'}:x", *SMALL, "-q")
    archive, directory = tmp_path / "out.tar", tmp_path / "out"
    for source, target, *options in (
        (layout, archive),
        (archive, directory, "--format", "oci-dir"),
        (directory, tmp_path / "again.tar", "--format", "oci-archive", "--all-platforms", "-f"),
        (f"oci:{layout}:app", f"oci:{tmp_path / 'named'}:x"),
    ):
        done = tocsin("convert", "--standalone", source, target, *SMALL, *options, "-q")
        assert (done.returncode, done.stdout) == (0, wanted.stdout)
    assert (directory / "index.json").is_file()
    found = json.loads(tocsin("info", f"oci-archive:{archive}", "--json").stdout)
    assert found["manifest"]["digest"] == wanted.stdout.decode().strip()


def test_standalone_replaces_an_existing_destination(layout, tmp_path):
    archive = tmp_path / "out.tar"
    for size in ("0", "1KiB"):
        command = ("convert", "--standalone", layout, archive, "--min-layer-size", size, "-q")
        done = tocsin(*command)
        assert done.returncode == 0
        shown = json.loads(tocsin("info", f"oci-archive:{archive}", "--json").stdout)
        assert shown["manifest"]["digest"] == done.stdout.decode().strip()


def test_format_without_standalone_must_agree_with_the_destination(layout, tmp_path):
    source = f"oci:{layout}:app"
    fits = ("convert", source, f"oci:{tmp_path / 'x'}:x", "--format", "oci-dir", *SMALL)
    assert tocsin(*fits).returncode == 0
    for destination in (f"oci-archive:{tmp_path / 'x.tar'}", "out.example/x:1"):
        done = tocsin("convert", source, destination, "--format", "oci-dir", *SMALL)
        assert done.returncode == 2
        assert b"for a path, add --standalone" in done.stderr
    assert tocsin("convert", source, fits[2], "--format", "oci").returncode == 2


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1]", '"x"'])
def test_an_invalid_prefetch_list_is_wrong_usage(layout, tmp_path, content):
    paths = tmp_path / "paths.json"
    paths.write_text(content)
    done = tocsin("create", f"oci:{layout}:app", "--prefetch-list", paths)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: invalid value for --prefetch-list")


def test_when_all_layers_are_small_then_nothing_to_index_and_a_hint(layout):
    before = {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    done = tocsin("convert", f"oci:{layout}:app", f"oci:{layout}:soci")
    assert (done.returncode, done.stdout) == (4, b"")
    assert done.stderr.decode().splitlines() == [
        f"error: oci:{layout}:app: nothing to index: all 2 layers are smaller than 10 MiB",
        "hint: Index small layers too with --min-layer-size 0 (min_layer_size=0).",
    ]
    assert before == {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()}


def test_only_requested_platforms_are_indexed(tmp_path):
    layout = tmp_path / "many"
    images = {
        name: make_image({name: b"x"}, platform=name) for name in ("linux/amd64", "linux/arm64")
    }
    with OciLayout(layout, write=True) as store:
        put_index(store, images, tag="app")
    done = tocsin(
        "create", f"oci:{layout}:app", "-p", "linux/arm64", "--min-layer-size", "0", "--json"
    )
    assert [p["platform"] for p in json.loads(done.stdout)["platforms"]] == ["linux/arm64"]
    missing = tocsin("create", f"oci:{layout}:app", "-p", "linux/s390x", "--min-layer-size", "0")
    assert missing.returncode == 3
    assert b"linux/s390x" in missing.stderr
    info = json.loads(tocsin("info", f"oci:{layout}:app", "--json").stdout)
    assert [len(p["soci_indexes"]) for p in info["platforms"]] == [0, 1]
    one = tocsin("index", "info", f"oci:{layout}:app", "-p", "linux/arm64", "--json")
    assert json.loads(one.stdout)["config"]["mediaType"] == SOCI_INDEX_V1
    none = tocsin("index", "info", f"oci:{layout}:app", "-p", "linux/amd64")
    assert none.returncode == 3


def test_info_json_has_stable_keys(layout):
    tocsin("create", f"oci:{layout}:app", *SMALL)
    document = json.loads(tocsin("info", f"oci:{layout}:app", "--json").stdout)
    (platform,) = document["platforms"]
    large, small = platform["layers"]
    assert document.keys() == COVERAGE
    assert platform.keys() == PLATFORM_COVERAGE
    assert large.keys() == small.keys() == LAYER_COVERAGE
    assert platform["soci_indexes"][0].keys() == INDEX
    assert (large["span_count"], large["span_size"]) == (3, 1 << 20)
    assert document["covered_size"] == large["size"]
    assert document["layer_size"] == large["size"] + small["size"]
    assert document["ztoc_size"] == large["ztoc"]["size"]


def test_info_of_an_image_without_index_prints_no_index(layout):
    done = tocsin("info", f"oci:{layout}:app")
    assert "covered: 0 % of 3.0 MiB, 0 of 2 layers\nno index\n" in done.stdout.decode()


def test_info_reports_a_broken_ztoc(layout):
    tocsin("create", f"oci:{layout}:app", *SMALL)
    document = json.loads(tocsin("info", f"oci:{layout}:app", "--json").stdout)
    ztoc = blob(layout, document["platforms"][0]["layers"][0]["ztoc"]["digest"])
    data = bytearray(ztoc.read_bytes())
    data[100] ^= 1
    ztoc.chmod(0o644)
    ztoc.write_bytes(data)
    done = tocsin("info", f"oci:{layout}:app")
    assert "broken" in done.stdout.decode()
    assert "covered: 0 % of 3.0 MiB" in done.stdout.decode()
    assert done.stderr.decode().startswith("warning: ")
    ztoc.unlink()
    document = json.loads(tocsin("info", f"oci:{layout}:app", "--json").stdout)
    assert "not found" in document["platforms"][0]["layers"][0]["problem"]


def test_index_info_shows_and_prints_the_index(layout):
    digest = tocsin("create", f"oci:{layout}:app", *SMALL, "-q").stdout.decode().strip()
    raw = json.loads(blob(layout, digest).read_bytes())
    for place in (f"oci:{layout}:app", f"oci:{layout}@{digest}", str(blob(layout, digest))):
        assert json.loads(tocsin("index", "info", place, "--json").stdout) == raw
    out = tocsin("index", "info", f"oci:{layout}@{digest}").stdout.decode().splitlines()
    facts = dict(line.split(maxsplit=1) for line in out[1:5])
    assert facts["digest"] == digest
    assert facts["version"] == "1"
    assert facts["subject"] == raw["subject"]["digest"]
    assert out[6].split() == ["ZTOC", "SIZE", "LAYER", "TYPE", "SPAN", "SIZE", "XATTRS"]
    piped = tocsin("index", "info", "-", stdin=blob(layout, digest).read_bytes())
    assert piped.stdout.decode().splitlines()[1:] == out[1:]


def test_index_info_warns_about_bytes_that_readers_cannot_store(layout, tmp_path):
    digest = tocsin("create", f"oci:{layout}:app", *SMALL, "-q").stdout.decode().strip()
    pretty = tmp_path / "index.json"
    pretty.write_text(json.dumps(json.loads(blob(layout, digest).read_bytes()), indent=2))
    done = tocsin("index", "info", pretty)
    assert done.returncode == 0
    assert b"warning: soci-snapshotter cannot store this index" in done.stderr


def test_index_info_of_an_image_without_index_is_not_found(layout, tmp_path):
    none = tocsin("index", "info", f"oci:{layout}:app")
    assert none.returncode == 3
    assert none.stderr.decode().splitlines()[1] == "hint: Create a SOCI index with tocsin create."
    (tmp_path / "x").write_text("{}")
    assert tocsin("index", "info", tmp_path / "x").returncode == 1


def test_index_info_json_of_several_indexes_is_wrong_usage(layout):
    tocsin("create", f"oci:{layout}:app", *SMALL)
    tocsin("create", f"oci:{layout}:app", "--min-layer-size", "0")
    done = tocsin("index", "info", f"oci:{layout}:app", "--json")
    assert done.returncode == 2
    assert "has 2: choose one" in json.loads(done.stdout)["error"]["message"]
    assert tocsin("index", "info", f"oci:{layout}:app").stdout.count(b"SOCI index, version 1") == 2


def test_info_of_an_artifact_is_refused(layout, image):
    with OciLayout(layout, write=True) as store:
        artifact = store.put_manifest(
            referrer_to(image.descriptor, "application/vnd.example.sbom"), OCI_MANIFEST
        )
    done = tocsin("info", f"oci:{layout}@{artifact.digest}")
    assert done.returncode == 4
    assert b"is not an image (found application/vnd.example.sbom)" in done.stderr


@pytest.mark.parametrize("columns", [80, 100])
def test_tables_fit_the_width_of_the_terminal(layout, columns):
    tocsin("convert", f"oci:{layout}:app", f"oci:{layout}:soci", *SMALL)
    for command in (
        ("create", f"oci:{layout}:app", "--min-layer-size", "0"),
        ("info", f"oci:{layout}:soci"),
        ("index", "info", f"oci:{layout}:soci"),
    ):
        out = tocsin(*command, COLUMNS=str(columns)).stdout.decode().splitlines()
        own = [line for line in out if str(layout) not in line]
        assert max(map(len, own)) <= columns
        assert not any("…" in line for line in own)
        assert all(line == line.rstrip() for line in out)


def test_docker_archive_cannot_be_written(layout):
    done = tocsin("convert", f"oci:{layout}:app", "docker-archive:x.tar", *SMALL)
    assert done.returncode == 4
    assert b"docker archive cannot be written" in done.stderr


def test_a_dry_run_writes_nothing(layout, tmp_path):
    before = {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    source = f"oci:{layout}:app"
    for command in (
        ("create", source),
        ("create", source, f"oci:{tmp_path}/other"),
        ("create", source, "--output", f"oci:{tmp_path}/other"),
        ("convert", source, f"oci:{layout}:soci"),
        ("convert", source, f"oci-archive:{tmp_path}/other.tar"),
    ):
        done = tocsin(*command, *SMALL, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "dry run: nothing was written" in done.stdout.decode().splitlines()
        assert ", would push " in done.stdout.decode()
    assert before == {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    assert list(tmp_path.iterdir()) == [layout]
    dry = json.loads(tocsin("create", source, *SMALL, "--json", "--dry-run").stdout)
    real = json.loads(tocsin("create", source, *SMALL, "--json").stdout)
    assert dry["dry_run"]
    assert dry["traffic"] == real["traffic"]
    assert dry["platforms"][0]["soci_index"] == real["platforms"][0]["soci_index"]


def test_create_output_has_indexes_and_ztocs_but_not_the_image(layout, tmp_path):
    other = tmp_path / "other"
    done = tocsin("create", f"oci:{layout}:app", "--output", f"oci:{other}", *SMALL, "--json")
    platform = json.loads(done.stdout)["platforms"][0]
    index, ztoc = platform["soci_index"]["digest"], platform["layers"][0]["ztoc"]["digest"]
    names = {path.name for path in other.glob("blobs/sha256/*")}
    empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert names == {index.removeprefix("sha256:"), ztoc.removeprefix("sha256:"), empty}
    both = tocsin("create", f"oci:{layout}:app", "oci:x", "--output", f"oci:{other}", *SMALL)
    assert both.returncode == 2
    assert b"--output cannot be combined with DEST" in both.stderr


def test_the_summary_says_what_was_read_pushed_and_skipped(layout, tmp_path):
    done = tocsin("convert", f"oci:{layout}:app", f"oci-archive:{tmp_path}/x.tar:c", *SMALL)
    out = done.stdout.decode().splitlines()
    assert out.count("skipped: smaller than 1 KiB") == 1
    assert out[-2].startswith("read 3.0 MiB, pushed ")
    assert "zTOCs " in out[-2]
    assert "indexes and manifests " in out[-2]


def test_index_ls_lists_indexes_and_index_rm_removes_them(layout):
    source = f"oci:{layout}:app"
    none = tocsin("index", "ls", source)
    assert none.returncode == 0
    assert none.stdout.decode().splitlines()[1].split()[:3] == ["linux/amd64", "no", "index"]
    assert tocsin("index", "rm", source).returncode == 3
    one = tocsin("create", source, *SMALL, "-q").stdout.decode().strip()
    tocsin("convert", source, f"oci:{layout}:soci", *SMALL)
    out = tocsin("index", "ls", source).stdout.decode().splitlines()
    assert out[0].split() == ["PLATFORM", "VERSION", "INDEX", "ZTOCS", "SIZE", "USED"]
    assert out[1].split()[:4] == ["linux/amd64", "v1", one[:19], "1/2"]
    assert tocsin("index", "ls", source, "-q").stdout.decode() == f"{one}\n"
    two = json.loads(tocsin("index", "ls", f"oci:{layout}:soci", "--json").stdout)
    assert two.keys() == {"image", "manifest", "platforms"}
    (platform,) = two["platforms"]
    keys = {"platform", "manifest", "layer_count", "problem", "soci_indexes", "seek_tables"}
    assert platform.keys() == {*keys, "access_logs"}
    (index,) = platform["soci_indexes"]
    assert index.keys() == INDEX
    assert (index["version"], index["ztoc_count"], platform["layer_count"]) == (2, 1, 2)
    dry = tocsin("index", "rm", source, "--dry-run")
    assert dry.stdout.decode() == f"index {one}\n"
    assert dry.stderr == b""
    removed = json.loads(tocsin("index", "rm", source, "--json").stdout)
    assert [entry["digest"] for entry in removed["removed"]] == [one]
    assert tocsin("index", "ls", source, "-q").stdout == b""
    again = tocsin("index", "rm", f"oci:{layout}:soci")
    assert again.returncode == 3
    assert b"hint: To remove indexes that an image names, delete the tag" in again.stderr


def test_copy_copies_v1_indexes(layout, tmp_path):
    source, other = f"oci:{layout}:app", f"oci:{tmp_path}/other:copy"
    index = tocsin("create", source, *SMALL, "-q").stdout.decode().strip()
    done = tocsin("copy", source, other)
    assert done.returncode == 0
    image, line = done.stdout.decode().splitlines()
    assert line == f"index {index}"
    assert tocsin("index", "ls", other, "-q").stdout.decode() == f"{index}\n"
    assert tocsin("copy", source, other).returncode == 0  # the same image
    assert tocsin("convert", source, f"oci:{layout}:soci", *SMALL).returncode == 0
    assert tocsin("copy", f"oci:{layout}:soci", other).returncode == 1
    document = json.loads(tocsin("copy", source, other, "--force", "--json").stdout)
    keys = {"source", "destination", "image", "soci_indexes", "seek_tables", "seconds", "traffic"}
    assert document.keys() == {*keys, "access_logs"}
    assert f"image {document['image']['digest']}" == image


def test_a_directory_without_its_transport_is_recognized(layout):
    done = tocsin("info", "layout:app", cwd=layout.parent)
    assert done.returncode == 2
    assert "did you mean oci:layout:app?" in done.stderr.decode()


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("oci:{}/nowhere:app", 3),
        ("oci:{}/layout:other", 3),
        ("oci:{}:app", 1),
        ("oci-archive:{}/nothing.tar", 3),
        ("oci-archive:{}/layout", 4),
        ("dir:{}", 4),
    ],
)
@pytest.mark.parametrize("command", ["create", "info"])
def test_missing_images_and_non_images_are_errors(layout, tmp_path, command, reference, code):
    (tmp_path / "other").touch()
    done = tocsin(command, reference.format(tmp_path))
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode().startswith("error: ")


def test_a_corrupted_layer_fails_and_stores_no_index(tmp_path):
    layout = tmp_path / "layout"
    image = put_image(layout)
    path = blob(layout, str(image.layer_descriptors[0].digest))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    before = (layout / "index.json").read_bytes()
    done = tocsin("create", f"oci:{layout}:app", *SMALL)
    assert (done.returncode, done.stdout) == (1, b"")
    assert str(image.layer_descriptors[0].digest) in done.stderr.decode()
    assert (layout / "index.json").read_bytes() == before
    shutil.rmtree(layout)


@pytest.mark.parametrize("command", ["create", "convert"])
def test_any_number_of_threads_gives_the_same_result(layout, tmp_path, command):
    digests, documents = set(), []
    for threads in ("1", "2", "3", "8"):
        to = f"oci:{tmp_path / threads}:app"
        run = (command, f"oci:{layout}:app", to, *SMALL, "--threads", threads)
        digests.add(tocsin(*run, "-q").stdout)
        documents.append(json.loads(tocsin(*run, "--json", "--force", "--rebuild").stdout))
    assert len(digests) == 1
    for document in documents:
        assert document.keys() == documents[0].keys()
        ztocs = [layer["ztoc"] for made in document["platforms"] for layer in made["layers"]]
        assert ztocs == [
            layer["ztoc"] for made in documents[0]["platforms"] for layer in made["layers"]
        ]
