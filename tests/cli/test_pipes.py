"""In a pipe, every command writes results to stdout and one line per problem to stderr.

All commands of the parser are tested: one that is missing from `RUNS` fails a test.
"""

from __future__ import annotations

import json
import re
import shutil

import click
import pytest

import tocsin
from support.cli_in_process import tocsin as run
from support.cli_inputs import Files, put_files, put_image
from support.cli_process import tocsin as run_process
from tocsin.cli.root import root

ALL = ("--min-layer-size", "0", "--span-size", "1MiB")
OPTIONS = tocsin.IndexingOptions(min_layer_size=0, span_size=1 << 20)


def commands(group=root, above=()):
    """Yield the name of every command that is not a group."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*above, name))
        else:
            yield " ".join((*above, name))


class Place:
    """Images for every outcome: correctly indexed, with damaged zTOCs, and damaged."""

    def __init__(self, directory):
        self.directory = directory
        self.files = Files(directory / "layer.tar.gz", directory / "layer.ztoc")
        self.plain = f"oci:{directory / 'good'}:app"
        self.good, self.doubtful, self.bad = (
            f"oci:{directory / name}:soci" for name in ("good", "doubtful", "bad")
        )
        self.bad_plain = f"oci:{directory / 'bad'}:app"
        self.missing = f"oci:{directory / 'good'}:missing"
        self.new = f"oci:{directory / 'new'}:x"
        self.out = directory / "out"

    def make(self):
        put_files(self.directory)
        image = put_image(self.directory / "good")
        tocsin.convert(self.plain, self.good, options=OPTIONS)
        tocsin.create(self.good, options=OPTIONS)
        (platform,) = tocsin.info(self.good).platforms
        self.damage("doubtful", [layer.ztoc.digest for layer in platform.layers])
        self.damage("bad", [layer.digest for layer in image.layer_descriptors])

    def damage(self, name, digests):
        """Copy the good image, and change one bit of some blobs."""
        shutil.copytree(self.directory / "good", self.directory / name)
        for digest in digests:
            blob = self.directory / name / "blobs/sha256" / digest.hex
            data = bytearray(blob.read_bytes())
            data[len(data) // 2] ^= 1
            blob.chmod(0o644)
            blob.write_bytes(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made")
    Place(directory).make()
    return directory


@pytest.fixture
def place(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path)


GOOD, WARNED, FAILED = "good", "warned", "failed"
RUNS = {
    "create": {
        GOOD: lambda p: (p.plain, *ALL),
        WARNED: lambda p: (p.plain, *ALL, "--prefetch", "/no", "--prefetch", "no"),
        FAILED: lambda p: (p.plain,),  # all layers are too small
    },
    "convert": {
        GOOD: lambda p: (p.plain, p.new, *ALL),
        WARNED: lambda p: (p.plain, p.new, *ALL, "--prefetch", "/no"),
        FAILED: lambda p: (p.bad_plain, p.new, *ALL),
    },
    "copy": {
        GOOD: lambda p: (p.good, p.new),
        FAILED: lambda p: (p.bad, p.new),
    },
    "info": {
        GOOD: lambda p: (p.good,),
        WARNED: lambda p: (p.doubtful,),
        FAILED: lambda p: (p.missing,),
    },
    "ls": {
        GOOD: lambda p: (p.good, "/usr"),
        WARNED: lambda p: (p.doubtful, "/usr"),
        FAILED: lambda p: (p.good, "/no"),
    },
    "cat": {
        GOOD: lambda p: (p.good, "/etc/small"),
        WARNED: lambda p: (p.doubtful, "/etc/small"),
        FAILED: lambda p: (p.bad, "/etc/small"),
    },
    "cp": {
        GOOD: lambda p: (f"{p.good}:/usr", p.out),
        WARNED: lambda p: (f"{p.doubtful}:/usr", p.out),
        FAILED: lambda p: (f"{p.bad}:/", p.out),
    },
    "find": {
        GOOD: lambda p: (p.good,),
        WARNED: lambda p: (p.doubtful,),
        FAILED: lambda p: (p.good, "/no"),
    },
    "stat": {
        GOOD: lambda p: (p.good, "/usr"),
        WARNED: lambda p: (p.doubtful, "/usr"),
        FAILED: lambda p: (p.good, "/no"),
    },
    "verify": {
        GOOD: lambda p: (p.good,),
        FAILED: lambda p: (p.missing,),
    },
    "ztoc build": {
        GOOD: lambda p: (p.files.layer,),
        FAILED: lambda p: (p.files.ztoc,),
    },
    "ztoc info": {
        GOOD: lambda p: (p.files.ztoc,),
        FAILED: lambda p: (p.files.layer,),
    },
    "ztoc ls": {
        GOOD: lambda p: (p.files.ztoc,),
        FAILED: lambda p: (p.files.ztoc, "no"),
    },
    "ztoc cat": {
        GOOD: lambda p: (p.files.ztoc, p.files.layer, "etc/os-release"),
        FAILED: lambda p: (p.files.ztoc, p.files.layer, "no"),
    },
    "ztoc extract": {
        GOOD: lambda p: (p.files.ztoc, p.files.layer, "etc/os-release", "-o", p.out),
        FAILED: lambda p: (p.files.ztoc, p.files.layer, "no", "-o", p.out),
    },
    "cache ls": {
        GOOD: lambda p: ("--cache-dir", p.directory / "good"),
        FAILED: lambda p: ("--cache-dir", p.files.layer),
    },
    "cache prune": {
        GOOD: lambda p: ("--cache-dir", p.directory / "good"),
        FAILED: lambda p: ("--cache-dir", p.files.layer),
    },
    "fetch": {
        GOOD: lambda p: (p.good, "--cache-dir", p.out),
        FAILED: lambda p: (p.missing, "--cache-dir", p.out),
    },
    "index ls": {
        GOOD: lambda p: (p.good,),
        FAILED: lambda p: (p.missing,),
    },
    "index info": {
        GOOD: lambda p: (p.good,),
        FAILED: lambda p: (p.missing,),
    },
    "index rm": {
        GOOD: lambda p: (p.good,),
        FAILED: lambda p: (p.missing,),
    },
}
ON_MACHINES = {
    *("am-i-lazy", "doctor", "mount", "mounts", "record", "run", "snapshotter", "status", "umount"),
}
"""Commands that depend on the machine or change it; tests/mounts and unit/mounting test them."""
IN_REGISTRIES = {"fleet plan", "fleet run", "fleet status"}
"""Commands that need a registry; test_fleet.py tests them."""
NO_RESULT = {"cp", "ztoc extract"}
"""Commands whose result is a file."""
NO_JSON = {"cat", "ztoc cat"}
NO_QUIET = {"ztoc cat"}


def outcomes(kind, *, without=()):
    return [name for name, runs in RUNS.items() if kind in runs and name not in without]


def problems(done):
    """Return the lines of stderr, each with its kind: error, warning or hint."""
    lines = done.stderr.decode().splitlines()
    found = [re.fullmatch(r"(warning|error|hint): (.+)", line) for line in lines]
    assert all(found), lines
    assert len(set(lines)) == len(lines)
    return [match.groups() for match in found]


def reason_of(message):
    """Return the problem without its subject."""
    return message.rpartition(": ")[2]


def test_every_command_is_tested():
    assert set(RUNS) | ON_MACHINES | IN_REGISTRIES == set(commands())
    assert all({GOOD, FAILED} <= runs.keys() for runs in RUNS.values())


@pytest.mark.parametrize("name", RUNS)
def test_when_a_command_succeeds_then_stderr_is_empty(place, name):
    done = run(*name.split(), *RUNS[name][GOOD](place))
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (name not in NO_RESULT)


@pytest.mark.parametrize("name", outcomes(WARNED))
def test_each_warning_is_one_line_and_only_on_stderr(place, name):
    good = run(*name.split(), *RUNS[name][GOOD](place))
    shutil.rmtree(place.out, ignore_errors=True)
    shutil.rmtree(place.directory / "new", ignore_errors=True)
    done = run(*name.split(), *RUNS[name][WARNED](place))
    found = problems(done)
    assert done.returncode == 0
    assert found
    assert {kind for kind, _ in found} == {"warning"}
    assert not any(reason_of(text) in done.stdout.decode() for _, text in found)
    assert bool(done.stdout) == bool(good.stdout)


@pytest.mark.parametrize("name", outcomes(WARNED))
def test_quiet_hides_warnings(place, name):
    done = run(*name.split(), *RUNS[name][WARNED](place), "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("quiet", [False, True], ids=["plain", "quiet"])
@pytest.mark.parametrize("name", RUNS)
def test_a_failure_is_one_error_that_states_its_reason_once(place, name, quiet):
    more = ["--quiet"] if quiet and name not in NO_QUIET else []
    done = run(*name.split(), *RUNS[name][FAILED](place), *more)
    (kind, message), *rest = problems(done)
    assert done.returncode != 0
    assert kind == "error"
    assert [kind for kind, _ in rest] in ([], ["hint"])
    assert done.stderr.decode().count(reason_of(message)) == 1
    assert done.stdout == b""


@pytest.mark.parametrize("kind", [GOOD, WARNED, FAILED])
@pytest.mark.parametrize("name", sorted(RUNS.keys() - NO_JSON))
def test_with_json_stdout_is_one_document(place, name, kind):
    if kind not in RUNS[name]:
        kind = GOOD
    if name == "index info":  # one document is one index
        run("index", "rm", place.good)
    arguments = RUNS[name][kind](place)
    done = run(*name.split(), *arguments, "--json")
    document = json.loads(done.stdout)
    assert ("error" in document) == (kind == FAILED) == (done.returncode != 0)
    kinds = [kind for kind, _ in problems(done)]
    assert kinds[:1] == (["error"] if kind == FAILED else kinds[:1] and ["warning"])


def test_verify_prints_its_findings_to_stdout(place):
    done = run("verify", place.doubtful)
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.count(b"error: ztoc.digest: ") == 2


def test_real_pipes_receive_the_same_output(place):
    """Runs separate processes, which write to pipes; other tests stay in this process."""
    for command in (
        ("create", place.plain),
        ("create", place.plain, *ALL),
        ("ls", place.doubtful, "/usr"),
    ):
        inside, outside = run(*command), run_process(*command)
        # Layers are opened at the same time, so the order of their warnings varies.
        assert sorted(outside.stderr.splitlines()) == sorted(inside.stderr.splitlines())
        assert outside.returncode == inside.returncode
