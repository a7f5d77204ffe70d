"""What works on Windows and macOS, in processes that look like them; see support.other_system."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tocsin
from support.images import make_image
from support.registry import Registry
from support.registry_client import noise, store_of
from tocsin.operating_system import lock, lock_shared, read_at, try_lock, unlock, write_at
from tocsin.stores.layout import OciLayout

PROGRAM = """
import json, sys
from support.other_system import pretend
pretend(sys.argv[1])
import tocsin
from tocsin.cli import main

def outcome(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def work(place, host):
"""
IMAGE = make_image({"usr/bin/app": noise(3 << 20)}, {"b": b"b" * 9_000})
OPTIONS = tocsin.IndexingOptions(min_layer_size=1024, span_size=1 << 20)
CONVERT = "options=tocsin.IndexingOptions(min_layer_size=1024, span_size=1 << 20)"
BOTH = pytest.mark.parametrize("platform", ["win32", "darwin"])


@pytest.fixture
def registry():
    with Registry() as running:
        with store_of(running, "team/app") as store:
            IMAGE.put(store, "1")
        yield running


def on(platform, body, place="", host=""):
    """Run statements in a process that looks like another system; return what they return."""
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    program = f"{PROGRAM}{indented}\nprint(json.dumps(work(sys.argv[2], sys.argv[3])))"
    paths = [path for path in sys.path if path] + [str(Path(__file__).parents[1])]
    done = subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-c", program, platform, str(place), host],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


@BOTH
def test_public_names_when_on_another_system_then_each_can_be_imported(platform):
    body = "return [n for n in tocsin.__all__ if isinstance(outcome(getattr, tocsin, n), str)]"
    assert on(platform, body) == []


@BOTH
def test_commands_when_on_another_system_then_each_has_help(platform):
    body = """
from tocsin.cli.root import root
import click, contextlib, io
def codes(group, words):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        with contextlib.redirect_stdout(io.StringIO()):
            yield words + [name], main([*words, name, "--help"])
        if isinstance(command, click.Group):
            yield from codes(command, words + [name])
return list(codes(root, []))
"""
    found = on(platform, body)
    assert len(found) > 20
    assert [words for words, code in found if code != 0] == []


@BOTH
def test_build_ztoc_when_on_another_system_then_the_same_bytes(tmp_path, platform):
    layer = tmp_path / "layer.tar.gz"
    layer.write_bytes(IMAGE.layers[0])
    body = """
ztoc = tocsin.build_ztoc(place)
with open(place, "rb") as file:
    data = ztoc.cat("usr/bin/app", file)
import hashlib
with tocsin.open_layer(place, ztoc.to_bytes()) as files:
    return [ztoc.digest, hashlib.sha256(data).hexdigest(), data == files.cat("/usr/bin/app")]
"""
    expected = hashlib.sha256(noise(3 << 20)).hexdigest()
    assert on(platform, body, layer) == [tocsin.build_ztoc(layer).digest, expected, True]


@BOTH
def test_images_when_indexed_on_another_system_then_as_on_linux(registry, platform):
    name = f"{registry.host}/team/app:1"
    body = f"""
tocsin.create(f"{{host}}/team/app:1", {CONVERT})
done = tocsin.convert(f"{{host}}/team/app:1", f"{{host}}/team/app:2", {CONVERT})
verified = tocsin.verify(f"{{host}}/team/app:2").ok
with tocsin.open(f"{{host}}/team/app:2") as image:
    return [str(done.image.digest), image.cat("/b").decode(), verified]
"""
    found = on(platform, body, host=registry.host)
    expected = tocsin.convert(name, f"{registry.host}/team/other:1", options=OPTIONS)
    assert found == [str(expected.image.digest), "b" * 9_000, True]
    assert tocsin.verify(name).ok  # the index that `create` stored beside it


@BOTH
def test_layouts_and_archives_when_on_another_system_then_complete(tmp_path, platform):
    IMAGE.put(OciLayout(tmp_path / "from", write=True), "1")
    abandoned = tmp_path / "to" / ".tocsin-0123.tmp"
    abandoned.parent.mkdir()
    abandoned.write_bytes(b"of a killed run")
    os.utime(abandoned, (0, 0))
    body = f"""
import os
os.chdir(place)
tocsin.convert("oci:from:1", "oci:to:1", {CONVERT})
tocsin.copy("oci:to:1", "oci-archive:archive.tar:1")
return [tocsin.verify("oci:to:1").ok, tocsin.verify("oci-archive:archive.tar:1").ok]
"""
    assert on(platform, body, tmp_path) == [True, True]
    assert not abandoned.exists()
    assert not list(tmp_path.rglob(".tocsin-*"))
    assert tocsin.verify(f"oci-archive:{tmp_path}/archive.tar:1").ok


@BOTH
def test_mounting_when_on_another_system_then_unsupported(platform, registry):
    body = """
return [outcome(tocsin.mount, f"{host}/team/app:1"), main(["mounts"]), main(["run", "a/b", "ls"])]
"""
    name = {"win32": "Windows", "darwin": "macOS"}[platform]
    expected = f"UnsupportedError: mounting: supported on Linux only (found {name})"
    assert on(platform, body, host=registry.host) == [expected, 4, 4]


def test_directories_when_on_windows_then_unsupported(tmp_path):
    (tmp_path / "layer").write_bytes(IMAGE.layers[0])
    body = """
import os
os.chdir(place)
ztoc = tocsin.build_ztoc("layer").to_bytes()
with tocsin.open_layer("layer", ztoc) as files:
    extracted = outcome(files.extract, "/usr", "out")
return [outcome(tocsin.open_layer, "layer", ztoc, cache_dir="cache"), extracted]
"""
    says = "supported on Linux and macOS only (found Windows)"
    assert on("win32", body, tmp_path) == [
        f"UnsupportedError: cache_dir: {says}",
        f"UnsupportedError: extracting files: {says}",
    ]


def test_extract_when_on_macos_then_files_and_cache_are_used(tmp_path):
    (tmp_path / "layer").write_bytes(IMAGE.layers[0])
    body = """
import os
os.chdir(place)
ztoc = tocsin.build_ztoc("layer").to_bytes()
with tocsin.open_layer("layer", ztoc, cache_dir="cache") as files:
    files.extract("/usr", "out")
    return files.extract("/usr", "out").files
"""
    assert on("darwin", body, tmp_path) == 0  # all were extracted already
    assert (tmp_path / "out/bin/app").read_bytes() == noise(3 << 20)


@pytest.fixture
def two(tmp_path):
    """Two descriptors of one file, as two processes have them."""
    opened = [os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    yield opened
    for fd in opened:
        os.close(fd)


def test_lock_when_held_then_others_fail_until_it_is_released(two):
    lock(two[0])
    assert not try_lock(two[1])
    unlock(two[0])
    assert try_lock(two[1])


def test_lock_when_shared_then_only_exclusive_ones_fail(two):
    lock_shared(two[0])
    lock_shared(two[1])
    assert not try_lock(two[1])


def test_position_when_reading_and_writing_at_an_offset_then_unchanged(two):
    assert write_at(two[0], b"abc", 4) == 3
    assert read_at(two[0], 2, 5) == b"bc"
    assert os.lseek(two[0], 0, os.SEEK_CUR) == 0
    assert os.pread(two[1], 16, 0) == bytes(4) + b"abc"


def test_fcntl_when_imported_then_by_one_module():
    root = Path(tocsin.__file__).parent
    names = ("import fcntl", "import msvcrt", "import pwd", "import grp", "import resource")
    users = {
        path.name
        for path in root.rglob("*.py")
        if any(line.strip() in names for line in path.read_text().splitlines())
    }
    assert users == {"operating_system.py"}
