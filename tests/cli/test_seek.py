"""Seek tables: making, showing, copying and removing them, in layouts and registries."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from support import tarmaker
from support.cli_in_process import tocsin
from support.cli_inputs import put_image
from support.images import image_of, make_image, put_index
from support.registry import Registry
from support.registry_client import noise, store_of
from support.seek import add_referrer, make_table
from support.tarmaker import entry
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_LAYER
from tocsin.stores.layout import OciLayout

BOUND = "dev.tocsin.seek-table-digest"
ROOT = "application/vnd.tocsin.seek.v1"
SMALL = ("--min-layer-size", "1KiB")
APIS = pytest.mark.parametrize("api", [True, False], ids=["api", "tags"])
TEXT = b"a line of text\n" * 4000
IMAGE = make_image({"usr/bin/app": noise(2 << 20)}, {"etc/motd": TEXT})


@pytest.fixture
def app(tmp_path):
    """An image in a layout."""
    put_image(tmp_path / "layout")
    return f"oci:{tmp_path / 'layout'}:app"


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def elsewhere():
    with Registry() as running:
        yield running


def run(*arguments, code=0, **changes):
    done = tocsin(*arguments, **changes)
    assert done.returncode == code, done.stderr.decode()
    return done


def lines(*arguments, **changes):
    return run(*arguments, **changes).stdout.decode().splitlines()


def document(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def platform_of(*arguments):
    (platform,) = document(*arguments)["platforms"]
    return platform


def kinds(reference):
    """Return whether each seek table is bound, by its digest."""
    found = platform_of("index", "ls", reference)["seek_tables"]
    return {table["digest"]: table["bound"] for table in found}


class Stored:
    """A layout, read without tocsin."""

    def __init__(self, reference):
        self.directory = Path(reference.split(":")[1])

    def entries(self):
        return json.loads((self.directory / "index.json").read_bytes())["manifests"]

    def files(self):
        return sorted(self.directory.rglob("*")), self.entries()

    def blob(self, digest):
        data = (self.directory / "blobs" / digest.replace(":", "/")).read_bytes()
        assert f"sha256:{sha256(data).hexdigest()}" == digest
        return data

    def json(self, digest):
        return json.loads(self.blob(digest))

    def blob_sizes(self, digest):
        """Return the sizes of the blobs that a seek manifest lists, each blob once."""
        manifest = self.json(digest)
        listed = [manifest["config"], *manifest["layers"]]
        return {entry["digest"]: len(self.blob(entry["digest"])) for entry in listed}


def put(registry, tag="1"):
    with store_of(registry, "team/app") as store:
        IMAGE.put(store, tag)
    registry.requests.clear()
    return f"{registry.host}/team/app:{tag}"


def layer_reads(registry):
    return [len(registry.asked("GET", f"/blobs/{d.digest}")) for d in IMAGE.layer_descriptors]


# Reports


def test_create_when_a_table_is_made_then_the_report_shows_it(app):
    out = lines("create", app, *SMALL, "--seek")
    assert out[1].split() == ["LAYER", "SIZE", "ZTOC", "SIZE", "OVERHEAD", "SEEK", "TIME"]
    platform = platform_of("index", "ls", app)
    (index,), (table,) = platform["soci_indexes"], platform["seek_tables"]
    size = sum(Stored(app).blob_sizes(table["digest"]).values())
    at = out.index(f"index {index['digest']}")
    assert out[at + 1] == f"seek {table['digest']}"
    assert out[at + 2] == f"seek table: {size / 1024:.1f} KiB, <0.1 % of 3.0 MiB"
    assert "(zTOCs and seek tables " in out[-2]


def test_create_when_only_tables_are_made_then_the_report_has_no_ztocs(app):
    out = lines("create", app, "--seek-only")
    assert out[1].split() == ["LAYER", "SIZE", "SEEK", "TIME"]
    assert not any("ZTOC" in line.upper() or line.startswith(("index ", "skipped")) for line in out)
    assert "(seek tables " in out[-2]
    assert out[-1].startswith("1 seek table for 2 layers, ")
    assert platform_of("index", "ls", app)["soci_indexes"] == []


def test_create_when_there_is_no_table_then_the_report_shows_spans(app):
    out = lines("create", app, *SMALL)
    assert out[1].split() == ["LAYER", "SIZE", "ZTOC", "SIZE", "OVERHEAD", "SPANS", "TIME"]
    assert not any("seek" in line for line in out)


@pytest.mark.parametrize(
    "command", [("create",), ("convert",), ("info",), ("index", "ls")], ids=" ".join
)
def test_tables_when_shown_in_80_columns_then_no_cell_is_cut(command, app):
    soci = f"{app}-soci"
    if command[0] == "create":
        out = lines(*command, app, *SMALL, "--seek", COLUMNS="80")
    else:
        out = lines("convert", app, soci, *SMALL, "--seek", COLUMNS="80")
    if command[0] in ("info", "index"):
        out = lines(*command, soci, COLUMNS="80")
    narrow = [line for line in out if not line.startswith(("read ", "1 zTOC", "image "))]
    assert max(map(len, narrow)) <= 80
    assert not any("…" in line for line in out)


@pytest.mark.parametrize("options", [("--seek",), ("--seek-only",)])
def test_create_when_quiet_then_the_digests_of_what_was_made(options, app):
    made = lines("create", app, *SMALL, *options, "-q")
    shown = platform_of("index", "ls", app)
    both = [*shown["soci_indexes"], *shown["seek_tables"]]
    assert made == [each["digest"] for each in both] == lines("index", "ls", app, "-q")
    assert len(made) == (1 if options == ("--seek-only",) else 2)


def test_convert_when_quiet_then_only_the_digest_of_the_image(app):
    (digest,) = lines("convert", app, f"{app}-soci", *SMALL, "--seek", "-q")
    _, entry = Stored(app).entries()
    assert entry["digest"] == digest


@pytest.mark.parametrize("command", ["create", "convert"])
def test_json_when_a_table_is_made_then_it_is_described(command, app):
    arguments = (app,) if command == "create" else (app, f"{app}-soci")
    made = platform_of(command, *arguments, *SMALL, "--seek")
    stored = Stored(app)
    manifest = stored.json(made["seek_table"]["digest"])
    assert made["seek_table"]["size"] == len(stored.blob(made["seek_table"]["digest"]))
    assert made["seek_size"] == sum(stored.blob_sizes(made["seek_table"]["digest"]).values())
    assert made["seek_problem"] is None
    listed = [(b["mediaType"], b["digest"], b["size"]) for b in manifest["layers"][1:]]
    blobs = [layer["seek_blob"] for layer in made["layers"]]
    assert [(b["media_type"], b["digest"], b["size"]) for b in blobs] == listed
    assert manifest["config"]["mediaType"] == ROOT
    assert ("subject" in manifest) == (command == "create")


def test_json_when_no_table_is_requested_then_its_keys_are_empty(app):
    made = platform_of("create", app, *SMALL)
    assert (made["seek_table"], made["seek_problem"], made["seek_size"]) == (None, None, 0)
    assert [layer["seek_blob"] for layer in made["layers"]] == [None, None]


def test_create_when_a_layer_cannot_be_read_then_a_warning_and_the_ztocs(tmp_path):
    """An encrypted layer cannot be indexed."""
    image = make_image({"a": noise(4096)}, {"b": noise(4096)})
    manifest = json.loads(image.manifest)
    manifest["layers"][1]["mediaType"] += "+encrypted"
    with OciLayout(tmp_path / "layout", write=True) as store:
        image.put(store, "plain")
        media_type = "application/vnd.oci.image.manifest.v1+json"
        store.put_manifest(json.dumps(manifest).encode(), media_type, tag="app")
    done = run("create", f"oci:{tmp_path}/layout:app", *SMALL, "--seek")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("warning: no seek table: layer sha256:")
    assert b"\nindex sha256:" in done.stdout
    assert b"\nseek sha256:" not in done.stdout
    alone = run("create", f"oci:{tmp_path}/layout:app", "--seek-only", code=4)
    assert alone.stderr.startswith(b"error: ")
    assert alone.stdout == b""


def test_create_when_all_layers_are_small_then_a_table_but_no_index(app):
    out = lines("create", app, "--seek")
    platform = platform_of("index", "ls", app)
    assert platform["soci_indexes"] == []
    assert [line.split()[3] for line in out[2:4]] == ["skipped", "skipped"]
    assert out[4] == "skipped: smaller than 10 MiB"
    assert out[5] == "no index: no layer has a zTOC"
    assert out[6] == f"seek {platform['seek_tables'][0]['digest']}"
    assert out[-1].startswith("1 seek table for 2 layers, ")


# Options


@pytest.mark.parametrize("command", ["create", "convert"])
def test_help_when_read_then_it_explains_seek_tables(command):
    text = " ".join(run(command, "--help", COLUMNS="80").stdout.decode().split())
    assert "--seek Make a seek table too" in text
    assert "--seek-only Make only seek tables" in text
    assert "--seek-span-size SIZE Uncompressed bytes between" in text
    assert "[default: 256KiB]" in text


@pytest.mark.parametrize(
    ("size", "code"),
    [("65535", 2), ("64KiB", 0), ("64MiB", 0), ("67108865", 2), ("0", 2), ("-1", 2), ("x", 2)],
)
def test_span_size_when_outside_its_limits_then_a_usage_error(size, code, app):
    done = run("create", app, "--seek-only", "--seek-span-size", size, code=code)
    assert (b"'--seek-span-size'" in done.stderr) == (code == 2)


def test_span_size_when_smaller_then_more_spans_and_a_larger_table(app):
    small, large = (
        platform_of("create", app, "--seek-only", "--dry-run", "--seek-span-size", size)
        for size in ("64KiB", "1MiB")
    )
    assert small["seek_size"] > large["seek_size"]


@pytest.mark.parametrize("command", ["create", "convert"])
def test_dry_run_when_with_a_table_then_nothing_is_written(command, app):
    arguments = (app,) if command == "create" else (app, f"{app}-soci")
    stored = Stored(app)
    before = stored.files()
    dry = document(command, *arguments, "--seek-only", "--dry-run")
    assert stored.files() == before
    real = document(command, *arguments, "--seek-only")
    assert real["platforms"][0]["seek_table"] == dry["platforms"][0]["seek_table"]
    assert real["traffic"]["pushed"] == dry["traffic"]["pushed"] > 0


# index ls, info


def test_index_ls_when_there_are_both_then_it_says_what_is_used_and_why(app):
    run("create", app, *SMALL, "--seek", "-q")
    soci = f"{app}-soci"
    run("convert", app, soci, *SMALL, "--seek", "-q")
    for reference, kind, binding in (
        (app, "seek", "it refers to the image"),
        (soci, "seek, bound", "the image names it"),
    ):
        ((digest, _),) = kinds(reference).items()
        out = lines("index", "ls", reference)
        row = next(line for line in out if digest[:19] in line)
        assert row.startswith(f"linux/amd64  {kind} ")
        assert row.endswith("yes")
        assert f"{digest[:19]} is used: {binding}" in out
        assert any(line.endswith("is not used: a seek table comes first") for line in out)
        shown = lines("info", reference)
        at = shown.index(f"seek {digest}")
        assert shown[at + 1].startswith("seek table: ")
        assert shown[at + 1].endswith(f"of 3.0 MiB, {binding}")


def test_index_ls_and_info_when_they_show_a_table_then_the_same(app):
    run("create", app, "--seek-only", "-q")
    assert platform_of("info", app)["seek_tables"] == platform_of("index", "ls", app)["seek_tables"]


def test_index_ls_when_the_image_is_pinned_then_only_a_bound_table_is_used(app):
    run("create", app, "--seek-only", "-q")
    soci = f"{app}-soci"
    run("convert", app, soci, "--seek-only", "-q")
    place = app.removesuffix(":app")
    for reference, taken in ((app, False), (soci, True)):
        digest = document("index", "ls", reference)["manifest"]["digest"]
        (table,) = platform_of("index", "ls", f"{place}@{digest}")["seek_tables"]
        assert table["taken"] is taken, table["reason"]


@pytest.mark.parametrize("damage", ["root", "missing"])
def test_index_ls_and_info_when_a_table_is_broken_then_a_warning(damage, app):
    run("create", app, "--seek-only", "-q")
    ((digest, _),) = kinds(app).items()
    stored = Stored(app)
    manifest = stored.json(digest)
    lie = {**manifest, "config": {**manifest["config"], "size": manifest["config"]["size"] + 1}}
    lie["config"].pop("data", None)
    if damage == "missing":
        lie["config"]["digest"] = f"sha256:{'0' * 64}"
    with OciLayout(stored.directory, write=True) as store:
        media_type = "application/vnd.oci.image.manifest.v1+json"
        put = store.put_manifest(json.dumps(lie).encode(), media_type)
    run("index", "rm", app, digest)
    assert kinds(app) == {str(put.digest): False}
    for command in (("index", "ls"), ("info",)):
        done = run(*command, app)
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("warning: ")
        assert b"seek table: " not in done.stdout
    (row,) = [line for line in lines("index", "ls", app) if line.startswith("linux/amd64")]
    assert row.split()[-2:] == ["broken", "no"]
    (table,) = platform_of("index", "ls", app)["seek_tables"]
    assert table["problem"] is not None
    assert not table["taken"]


# index rm, copy


def test_index_rm_when_a_table_refers_to_the_image_then_removed(app):
    index, table = lines("create", app, *SMALL, "--seek", "-q")
    assert lines("index", "rm", app, "--dry-run", "-q") == [index, table]
    assert lines("index", "rm", app, table, "-q") == [table]
    assert lines("index", "ls", app, "-q") == [index]
    again = run("index", "rm", app, table, code=3)
    assert table in again.stderr.decode()
    (second,) = lines("create", app, "--seek-only", "-q")
    assert second == table
    assert lines("index", "rm", f"{app.removesuffix(':app')}@{table}", "-q") == [table]
    assert lines("index", "ls", app, "-q") == [index]


def test_index_rm_when_the_image_names_the_table_then_refused(app):
    soci = f"{app}-soci"
    run("convert", app, soci, "--seek-only", "-q")
    ((digest, is_bound),) = kinds(soci).items()
    assert is_bound
    assert b"no index refers to it" in run("index", "rm", soci, code=3).stderr
    done = run("index", "rm", f"{app.removesuffix(':app')}@{digest}", code=4)
    assert b"a seek table that an image names cannot be removed" in done.stderr
    assert b"hint: Delete the tag of the converted image" in done.stderr
    assert kinds(soci) == {digest: True}


def test_copy_when_tables_refer_to_the_image_then_listed_and_copied(app, tmp_path):
    index, table = lines("create", app, *SMALL, "--seek", "-q")
    target = f"oci:{tmp_path / 'other'}:app"
    out = lines("copy", app, target)
    assert out[1:] == [f"index {index}", f"seek {table}"]
    assert lines("index", "ls", target, "-q") == [index, table]
    made = document("copy", app, f"oci:{tmp_path / 'third'}:app")
    assert [each["digest"] for each in made["seek_tables"]] == [table]
    assert run("cat", target, "/usr/bin/app", "--index", "seek").stderr == b""


def test_copy_when_the_table_is_bound_then_it_is_part_of_the_image(app, tmp_path):
    soci = f"{app}-soci"
    run("convert", app, soci, "--seek-only", "-q")
    target = f"oci:{tmp_path / 'other'}:soci"
    made = document("copy", soci, target)
    assert made["seek_tables"] == []
    assert kinds(target) == kinds(soci) != {}
    assert run("ls", target, "/", "--index", "seek").stderr == b""


def test_platforms_when_tables_are_made_then_each_has_its_own(tmp_path):
    images = {
        name: make_image({name: noise(9000)}, platform=name)
        for name in ("linux/amd64", "linux/arm64")
    }
    with OciLayout(tmp_path / "many", write=True) as store:
        put_index(store, images, tag="app")
    many = f"oci:{tmp_path / 'many'}:app"
    amd64, arm64 = lines("create", many, "--seek-only", "-q")
    assert amd64 != arm64
    assert lines("index", "rm", many, "-p", "linux/arm64", "-q") == [arm64]
    assert lines("index", "ls", many, "-q") == [amd64]


# Other tables of the image


def test_create_when_another_table_exists_then_warn_skip_or_allow(app):
    (first,) = lines("create", app, "--seek-only", "-q")
    other = ("create", app, "--seek-only", "--seek-span-size", "64KiB")
    skipped = run(*other, "--existing-index", "skip")
    assert skipped.stdout.endswith(b"nothing was written\n")
    assert first in skipped.stdout.decode()
    assert run(*other, "--existing-index", "skip", "-q").stdout == b""
    warned = run(*other)
    (line,) = warned.stderr.decode().splitlines()
    assert line.startswith("warning: linux/amd64: other indexes also refer to the image")
    assert line.endswith(first)
    assert run(*other, "--existing-index", "allow").stderr == b""
    assert len(kinds(app)) == 2


# Registries


@APIS
def test_registry_when_a_table_is_created_then_every_command_finds_it(registry, elsewhere, api):
    for each in (registry, elsewhere):
        each.referrers_api = each.oci_subject = api
    image = put(registry)
    index, table = lines("create", image, *SMALL, "--seek", "-q")
    assert layer_reads(registry) == [1, 1]
    repository = registry.repository("team/app")
    stored = json.loads(repository.manifests[table][1])
    assert stored["config"]["mediaType"] == ROOT
    assert stored["subject"]["digest"] == document("index", "ls", image)["manifest"]["digest"]
    assert {entry["digest"] for entry in [stored["config"], *stored["layers"]]} <= set(
        repository.blobs
    )
    assert kinds(image) == {table: False}
    registry.requests.clear()
    assert run("cat", image, "/etc/motd").stdout == TEXT
    assert registry.asked("GET", f"/manifests/{index}") == []
    assert layer_reads(registry)[0] == 0
    copied = f"{elsewhere.host}/app:2"
    run("copy", image, copied)
    assert lines("index", "ls", copied, "-q") == [index, table]
    assert run("cat", copied, "/etc/motd", "--index", "seek").stdout == TEXT
    assert lines("index", "rm", image, table, "-q") == [table]
    assert table not in repository.manifests
    assert lines("index", "ls", image, "-q") == [index]


@APIS
def test_registry_when_converted_then_bound_and_read_by_digest(registry, api):
    registry.referrers_api = registry.oci_subject = api
    image = put(registry)
    soci = f"{registry.host}/other:1"
    made = document("convert", image, soci, *SMALL, "--seek")
    (platform,) = made["platforms"]
    table = platform["seek_table"]["digest"]
    manifests = {
        digest: json.loads(data)
        for digest, (_, data) in registry.repository("other").manifests.items()
    }
    assert [
        m["annotations"][BOUND] for m in manifests.values() if BOUND in m.get("annotations", {})
    ] == [table]
    entries = manifests[made["image"]["digest"]]["manifests"]
    (entry,) = [entry for entry in entries if entry["digest"] == table]
    assert entry["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert "subject" not in manifests[table]
    registry.requests.clear()
    pinned = f"{registry.host}/other@{made['image']['digest']}"
    assert run("cat", pinned, "/etc/motd", "--index", "seek").stdout == TEXT
    assert registry.asked("GET", "/referrers/") == []


def test_registry_and_layout_when_indexed_then_the_same_table(registry, tmp_path):
    image = put(registry)
    (there,) = lines("create", image, "--seek-only", "-q")
    run("copy", image, f"oci:{tmp_path}/layout:x")
    run("index", "rm", f"oci:{tmp_path}/layout:x")
    (here,) = lines("create", f"oci:{tmp_path}/layout:x", "--seek-only", "-q")
    assert here == there


@APIS
def test_registry_when_a_table_exists_then_skip_reads_no_layer(registry, api):
    registry.referrers_api = registry.oci_subject = api
    image = put(registry)
    run("create", image, "--seek-only", "-q")
    registry.requests.clear()
    skipped = document("create", image, "--seek-only", "--existing-index", "skip")
    assert skipped["platforms"][0]["skipped"]
    assert layer_reads(registry) == [0, 0]
    assert {request.method for request in registry.requests} <= {"GET", "HEAD"}


@APIS
def test_registry_when_ztocs_and_seek_blobs_exist_then_layers_are_not_read(registry, api):
    registry.referrers_api = registry.oci_subject = api
    image = put(registry)
    first = document("create", image, "--min-layer-size", "0", "--seek")
    registry.requests.clear()
    again = document("create", image, "--min-layer-size", "0", "--seek")
    assert layer_reads(registry) == [0, 0]
    assert again["traffic"]["ztocs"] == 0
    tables = [made["platforms"][0]["seek_table"] for made in (first, again)]
    assert tables[0] == tables[1]
    registry.requests.clear()
    run("create", image, "--min-layer-size", "0", "--seek", "--rebuild")
    assert layer_reads(registry) == [1, 1]


def test_registry_when_the_layer_is_damaged_then_no_table_is_pushed(registry):
    image = put(registry)
    digest = str(IMAGE.layer_descriptors[0].digest)
    before = set(registry.repository("team/app").manifests)
    registry.fault("GET", digest, times=99, corrupt=True)
    done = tocsin("create", image, "--seek-only")
    assert done.returncode in (1, 6)
    assert digest in done.stderr.decode()
    assert set(registry.repository("team/app").manifests) == before


# Trust


def test_convert_when_a_planted_seek_blob_fits_then_rebuild_ignores_it(tmp_path):
    """Documented in docs/security.md: like zTOCs, seek blobs at the destination are trusted."""
    layer, other = (tarmaker.tar(entry("file", byte * 300_000)) for byte in (b"a", b"b"))
    assert len(layer) == len(other)
    app, soci = (f"oci:{tmp_path}/layout:{tag}" for tag in ("app", "soci"))
    with OciLayout(tmp_path / "layout", write=True) as store:
        image_of((layer, OCI_LAYER)).put(store, "app")
        lie = make_table(other, span_size=256 << 10, digests=[Digest.of(layer)])
        add_referrer(store, "app", lie)
    options = ("--min-layer-size", "0", "--seek")
    run("create", app, "--min-layer-size", "0", "-q")
    planted = platform_of("convert", app, soci, *options)
    assert planted["layers"][0]["seek_blob"]["digest"] == str(Digest.of(lie.layers[0]))
    assert tocsin("cat", soci, "/file").returncode == 1
    assert tocsin("verify", soci).returncode == 1
    run("convert", app, soci, *options, "--rebuild", "--force", "-q")
    assert run("cat", soci, "/file", "--index", "seek").stdout == b"a" * 300_000
    run("verify", soci)
