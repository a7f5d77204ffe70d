"""``--json``: each command prints ``to_dict()`` of its result, and what docs/json.md says."""

import json
import os
import re
import shutil

import click
import pytest

import tocsin
from support import json_page
from support.cli_inputs import put_files, put_image
from support.cli_process import tocsin as run
from tocsin.cli.root import root
from tocsin.layers.cache_contents import cache_contents, prune_cache
from tocsin.layers.indexer import index_layer
from tocsin.model.reference import parse_reference
from tocsin.mounting.doctor import diagnose
from tocsin.mounting.fetch import fetch_image
from tocsin.mounting.machine import Machine
from tocsin.mounting.options import MountOptions

ALL = tocsin.IndexingOptions(min_layer_size=0)


class Place:
    """An image with indexes of both versions; tests that change it get a copy."""

    def __init__(self, directory):
        self.directory = directory
        self.layout, self.kept = directory / "layout", directory / "kept"
        self.files = put_files(directory)
        put_image(self.layout)
        self.plain, self.name = f"oci:{self.layout}:app", f"oci:{self.layout}:soci"
        tocsin.convert(self.plain, self.name, options=ALL)
        tocsin.create(self.name, options=ALL)
        shutil.copytree(self.layout, self.kept)

    def restore(self):
        """Undo the changes of a command or of the equivalent Python call."""
        shutil.rmtree(self.layout)
        shutil.copytree(self.kept, self.layout)
        for made in ("new", "out"):
            shutil.rmtree(self.directory / made, ignore_errors=True)

    def printed(self, *arguments):
        self.restore()
        done = run(*arguments, "--json", "--quiet")
        assert (done.returncode, done.stderr) == (0, b"")
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("place"))


def image_of(place):
    return tocsin.open(place.name)


def created(place):
    return tocsin.create(place.plain, options=ALL).to_dict()


def converted(place):
    new = f"oci:{place.directory / 'new'}:x"
    return tocsin.convert(place.plain, new, options=ALL).to_dict()


def copied(place):
    return tocsin.copy(place.name, f"oci:{place.directory / 'new'}:x").to_dict()


def listed(place):
    with image_of(place) as image:
        return {
            "image": place.name,
            "path": "/usr",
            "entries": [file.to_dict() for file in image.ls("/usr")],
        }


def found(place):
    with image_of(place) as image:
        files = [file.to_dict() for file in image.find("/usr")]
    return {"image": place.name, "path": "/usr", "entries": files}


def statted(place):
    with image_of(place) as image:
        return {"image": place.name, "files": [image.stat("/usr/bin/app").to_dict()]}


def extracted(place):
    out = place.directory / "out"
    with image_of(place) as image:
        result = image.extract("/usr", out)
    return {"image": place.name, "path": "/usr", "destination": str(out), **result.to_dict()}


def removed(place):
    indexes = tocsin.remove_indexes(place.name)
    return {
        "image": place.name,
        "dry_run": False,
        "removed": [index.to_dict() for index in indexes],
    }


def index_shown(place):
    (platform,) = tocsin.indexes(f"oci:{place.layout}:soci").platforms
    return platform.soci_indexes[0].soci_index.to_dict()


def built(place):
    indexed = index_layer(place.files.layer, span_size=1 << 20)
    return {**indexed.to_dict(), "output": None, "seconds": 0}


def ztoc_of(place):
    return tocsin.Ztoc.from_bytes(place.files.ztoc.read_bytes())


def entries_listed(place):
    ztoc = ztoc_of(place)
    spans = [ztoc.files[["first_span", "end_span"]][at].tolist() for at in range(ztoc.entry_count)]
    entries = [
        {**entry.to_dict(), "first_span": first, "end_span": end}
        for entry, (first, end) in zip(ztoc.entries, spans, strict=True)
    ]
    return {"ztoc": ztoc.digest, "entries": entries}


def one_extracted(place):
    path = "usr/bin/app"
    return {
        "path": path,
        "output": str(place.directory / "out"),
        "size": len(ztoc_of(place).cat(path, place.files.layer)),
        "span_count": len(ztoc_of(place).spans_for(path)),
    }


def filled_cache(place):
    """Make a cache with one inflated layer and one compressed span."""
    directory = place.directory / "filled"
    layer = directory / "inflated" / f"{'a' * 64}-{'b' * 64}"
    span = directory / "spans" / ("a" * 64) / ("b" * 64) / "0"
    for path in (layer / "data", span):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (5, 5))
    return directory


def cache_listed(place):
    return cache_contents(filled_cache(place)).to_dict()


def cache_pruned(place):
    return prune_cache(filled_cache(place), max_size=0).to_dict()


def fetched(place):
    options = MountOptions(
        reference=parse_reference(place.name), cache_dir=place.directory / "cache"
    )
    fetch_image(options)
    return fetch_image(options).to_dict()


def doctor_arguments(place):
    return ("--cache-dir", place.directory)


SMALL = ("--min-layer-size", "0")
OF_MOUNTS = {"mount", "mounts", "record", "snapshotter", "status"}
"""Commands whose documents tests/mounts and tests/snapshotter compare with the page."""
IN_REGISTRIES = {"fleet plan", "fleet run", "fleet status"}
"""Commands whose documents test_fleet.py compares with the page."""
COMMANDS = {
    "create": (created, lambda p: (p.plain, *SMALL)),
    "convert": (converted, lambda p: (p.plain, f"oci:{p.directory / 'new'}:x", *SMALL)),
    "copy": (copied, lambda p: (p.name, f"oci:{p.directory / 'new'}:x")),
    "verify": (lambda p: tocsin.verify(p.name).to_dict(), lambda p: (p.name,)),
    "info": (lambda p: tocsin.info(p.name).to_dict(), lambda p: (p.name,)),
    "ls": (listed, lambda p: (p.name, "/usr")),
    "find": (found, lambda p: (p.name, "/usr")),
    "stat": (statted, lambda p: (p.name, "/usr/bin/app")),
    "cp": (extracted, lambda p: (f"{p.name}:/usr", p.directory / "out")),
    "index ls": (lambda p: tocsin.indexes(p.name).to_dict(), lambda p: (p.name,)),
    "index rm": (removed, lambda p: (p.name,)),
    "index info": (
        index_shown,
        lambda p: (f"oci:{p.layout}@{tocsin.indexes(p.name).platforms[0].soci_indexes[0].digest}",),
    ),
    "fetch": (fetched, lambda p: (p.name, "--cache-dir", p.directory / "cache")),
    "doctor": (lambda p: diagnose(Machine.this(p.directory)).to_dict(), doctor_arguments),
    "cache ls": (cache_listed, lambda p: ("--cache-dir", p.directory / "filled")),
    "cache prune": (cache_pruned, lambda p: ("--all", "--cache-dir", filled_cache(p))),
    "ztoc build": (built, lambda p: (p.files.layer, "--span-size", "1MiB")),
    "ztoc info": (lambda p: ztoc_of(p).info().to_dict(), lambda p: (p.files.ztoc,)),
    "ztoc ls": (entries_listed, lambda p: (p.files.ztoc,)),
    "ztoc extract": (
        one_extracted,
        lambda p: (p.files.ztoc, p.files.layer, "usr/bin/app", "-o", p.directory / "out"),
    ),
}
"""For each command, the document from Python, and the arguments that print it."""
RAW = "index info"
"""A command that prints an OCI document, which the page does not describe."""


def timeless(value):
    """Return a document without durations and free disk space, which differ each time."""
    if isinstance(value, str):
        return re.sub(r"[0-9.,]+ GiB free", "", value)
    if isinstance(value, dict):
        return {k: 0 if k == "seconds" else timeless(v) for k, v in value.items()}
    return [timeless(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("command", COMMANDS)
def test_document_when_printed_then_it_is_to_dict_and_as_documented(place, command):
    of_python, arguments = COMMANDS[command]
    place.restore()
    wanted = of_python(place)
    printed = place.printed(*command.split(), *arguments(place))
    assert timeless(printed) == timeless(wanted)
    assert json.loads(json.dumps(wanted)) == wanted, "only what JSON has"
    if command != RAW:
        assert json_page.problems(f"tocsin {command}", printed) == []


def json_commands(group, name=""):
    context = click.Context(group)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        if isinstance(command, click.Group):
            yield from json_commands(command, f"{each} ")
        elif any(parameter.name == "json" for parameter in command.params):
            yield name + each


def test_page_when_read_then_it_has_a_heading_for_each_command_with_json():
    commands = {*COMMANDS, *OF_MOUNTS, *IN_REGISTRIES}
    assert set(json_commands(root)) == commands
    headings = {name for name in json_page.sections() if name.startswith("tocsin ")}
    assert headings == {f"tocsin {command}" for command in commands}


def test_page_when_a_document_differs_then_each_difference_is_named():
    document = {"media_type": "", "digest": None, "other": 1}
    assert sorted(json_page.problems("descriptor", document)) == [
        "descriptor.digest: None is not string",
        "descriptor: other is not documented",
        "descriptor: size is missing",
    ]
