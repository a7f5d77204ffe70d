"""The build files of docs/, run by the real build systems against Debian's docker-registry."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import tocsin
from support.cli_process import TIMEOUT, environment
from support.docs_pages import DOCS, REGISTRY, blocks
from support.images import make_image
from support.python_tools import DOIT, INVOKE, NOX, PANTS, SCONS, SNAKEMAKE, PythonTool
from support.registry_client import noise
from support.registry_real import docker_registry
from tocsin.stores.layout import OciLayout

pytestmark = pytest.mark.interop

RUN_HERE = "<!-- run by tests/interop/test_build_systems.py -->"


@dataclass(frozen=True)
class System:
    """A build system.

    Attributes:
        tool: the package from PyPI.
        files: names of its build files, the titles of the blocks on its page.
        command: arguments of Python that build everything.
        current: what it prints if nothing has to be done.
    """

    tool: PythonTool
    files: tuple[str, ...]
    command: tuple[str, ...]
    current: str


SYSTEMS = {
    "scons": System(SCONS, ("SConstruct",), ("-m", "SCons"), "is up to date"),
    "doit": System(DOIT, ("dodo.py",), ("-m", "doit"), "-- index"),
    "snakemake": System(
        SNAKEMAKE, ("Snakefile",), ("-m", "snakemake", "--cores", "1"), "Nothing to be done"
    ),
    "invoke": System(INVOKE, ("tasks.py",), ("-m", "invoke", "index"), "up to date"),
    "nox": System(NOX, ("noxfile.py",), ("-m", "nox"), "up to date"),
    "pants": System(
        PANTS,
        ("pants.toml", "BUILD", "index.py"),
        # Without its daemon, which would outlast the test.
        ("-m", "pants", "--no-pantsd", "run", "//:index"),
        "up to date",
    ),
}


# Each run of Pants without its daemon takes several seconds.
_PARAMS = [
    pytest.param(name, marks=pytest.mark.slow if system is SYSTEMS["pants"] else ())
    for name, system in SYSTEMS.items()
]


@pytest.fixture(scope="module", params=_PARAMS)
def system(request):
    return request.param, SYSTEMS[request.param]


@pytest.fixture
def registry(tmp_path):
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as host:
        push(host, tmp_path, seed=1)
        yield host


def push(host, directory, *, seed):
    """Push another image as ``team/app:1``."""
    layout = directory / f"layout-{seed}"
    with OciLayout(layout, write=True) as store:
        make_image({"usr/bin/app": noise(11 << 20, seed)}).put(store, "1")
    tocsin.copy(f"oci:{layout}:1", f"{host}/team/app:1", force=True)


def build_files(page):
    return {b.title: b.code for b in blocks(DOCS / f"{page}.md") if b.comment == RUN_HERE}


def build(system, directory):
    # A tool with another Python starts the one of the tests, which can import tocsin.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: S603 (a tool of the test machine)
        [system.tool.python(), *system.command],
        cwd=directory,
        env=environment(HOME=str(directory), PATH=path, PYTHONDONTWRITEBYTECODE="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_build_file_when_built_again_then_it_is_up_to_date(tmp_path, registry, system):
    page, system = system
    directory = tmp_path / "work"
    directory.mkdir()
    files = build_files(page)
    assert tuple(files) == system.files
    for name, code in files.items():
        (directory / name).write_text(code.replace(REGISTRY, registry))
    stamp = directory / "app.json"

    first = build(system, directory)
    made = tocsin.resolve(f"{registry}/team/app:1-soci").digest
    recorded = json.loads(stamp.read_text())
    assert recorded["made"] == [str(made)]
    assert recorded["result"]["platforms"][0]["soci_index"]
    assert system.current not in first

    before = stamp.stat()
    second = build(system, directory)
    after = stamp.stat()
    assert system.current in second
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    push(registry, tmp_path, seed=2)
    third = build(system, directory)
    assert system.current not in third
    assert tocsin.resolve(f"{registry}/team/app:1-soci").digest != made
    image = tocsin.resolve(f"{registry}/team/app:1").digest
    assert json.loads(stamp.read_text())["image_digest"] == str(image)
    assert system.current in build(system, directory)


def test_pages_when_read_then_each_names_the_version_of_the_tool(system):
    page, system = system
    name, _, version = system.tool.package.partition("==")
    text = Path(DOCS / f"{page}.md").read_text()
    assert version in text, name
