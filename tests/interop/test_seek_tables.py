"""Seek tables next to other tools: registries keep them, copies carry them, containers run.

skopeo, docker-registry (without the referrers API), go-containerregistry's registry (with it), and
containerd. ``TOCSIN_SLOW=1 pytest -s`` echoes the commands with realistic times.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.cli_process import TOCSIN
from support.containerd import containerd
from support.machine_image import GREETING, put_machine_image
from support.registry_real import docker_registry, go_registry, program
from support.shell import Shell

pytestmark = pytest.mark.interop

OWN = f"linux/{'arm64' if os.uname().machine == 'aarch64' else 'amd64'}"
SEEK_TYPE = "application/vnd.tocsin.seek.v1"
HERE, THERE = "--src-tls-verify=false", "--dest-tls-verify=false"


@pytest.fixture
def shell(place):
    return Shell(_made(place / "home"))


@pytest.fixture
def skopeo(shell):
    def run(*arguments, echo=False):
        return shell(program("skopeo"), "--insecure-policy", *arguments, echo=echo)

    return run


def test_converted_image_when_copied_by_skopeo_then_read_and_run_anywhere(place, shell, skopeo):
    for name in ("containerd", "ctr", "runc"):
        program(name)
    put_machine_image(place / "layout", size=20 << 20, layer_count=2)
    with ExitStack() as stack:
        host = stack.enter_context(docker_registry(_made(place / "r")))
        other = stack.enter_context(docker_registry(_made(place / "other")))
        app, soci, away = f"{host}/team/app:1", f"{host}/team/app:1-soci", f"{other}/away/app:1"
        skopeo("copy", "--all", THERE, f"oci:{place / 'layout'}:app", f"docker://{app}")
        shell(TOCSIN, "convert", app, soci, "--seek", "--min-layer-size", "0")

        # Copies of the whole image carry the tables.
        skopeo("copy", "--all", HERE, THERE, f"docker://{soci}", f"docker://{away}")
        skopeo("copy", "--all", HERE, f"docker://{away}", f"oci:{place / 'back'}:1")
        tables = seek_tables(shell, soci)
        assert all(table["bound"] and table["taken"] for table in tables.values())
        assert set(tables) == {OWN, "linux/riscv64"}
        back = f"oci:{place / 'back'}:1"
        for copy in (away, back):
            assert seek_tables(shell, copy) == tables
            for platform in tables:
                only_seek = ("--index", "seek", "--platform", platform)
                assert "ballast" in shell(TOCSIN, "ls", *only_seek, copy, "/", echo=False)
            assert busybox_in(copy, shell) == Path(program("busybox")).read_bytes()

        # The manifest of one platform names a table that was not copied; layers are read instead.
        skopeo("copy", HERE, f"docker://{soci}", f"oci:{place / 'one'}:1")
        assert "busybox" in shell(TOCSIN, "ls", f"oci:{place / 'one'}:1", "/bin", echo=False)

        ctr = stack.enter_context(containerd(_made(place / "c")))
        pull_and_run(ctr, soci)
        pull_and_run(ctr, away)


@pytest.mark.parametrize("registry", [docker_registry, go_registry])
def test_created_table_when_in_a_registry_then_found_copied_and_removed(
    registry, place, shell, skopeo
):
    put_machine_image(place / "layout", size=4 << 20, layer_count=1)
    with registry(_made(place / "r")) as host, go_registry(place) as other:
        app, away = f"{host}/team/app:1", f"{other}/away/app:1"
        skopeo("copy", "--all", THERE, f"oci:{place / 'layout'}:app", f"docker://{app}")
        before = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{app}")
        shell(TOCSIN, "create", app, "--seek-only")
        after = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{app}")
        assert after == before
        tables = seek_tables(shell, app)
        assert set(tables) == {OWN, "linux/riscv64"}
        assert all(table["taken"] and not table["bound"] for table in tables.values())
        for table in tables.values():
            name = f"docker://{app.rpartition(':')[0]}@{table['digest']}"
            manifest = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", name))
            assert manifest["config"]["mediaType"] == SEEK_TYPE
            assert manifest["subject"]["digest"] in before

        shell(TOCSIN, "copy", app, away)
        assert seek_tables(shell, away) == tables
        only_seek = ("--index", "seek", "--platform", OWN)
        assert "busybox" in shell(TOCSIN, "ls", *only_seek, away, "/bin", echo=False)

        shell(TOCSIN, "index", "rm", app)
        assert seek_tables(shell, app) == {}
        assert "busybox" in shell(TOCSIN, "ls", "--platform", OWN, app, "/bin", echo=False)


def test_soci_indexes_when_a_seek_table_is_made_too_then_the_same_bytes(place, shell):
    """soci-snapshotter finds its indexes, and in them only what it found before."""
    put_machine_image(place / "layout", size=4 << 20, layer_count=1)
    here = f"oci:{place / 'layout'}"
    small = ("--min-layer-size", "0", "--json")
    made = {
        options: json.loads(
            shell(TOCSIN, "convert", f"{here}:app", f"{here}:{tag}", *options, *small, echo=False)
        )
        for tag, options in (("plain", ()), ("both", ("--seek",)))
    }
    plain, both = ([p["soci_index"] for p in m["platforms"]] for m in made.values())
    assert plain == both
    blobs = place / "layout" / "blobs" / "sha256"
    for index in both:
        manifest = json.loads((blobs / index["digest"].removeprefix("sha256:")).read_bytes())
        assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/octet-stream"}
    image = json.loads((blobs / made["--seek",]["image"]["digest"][7:]).read_bytes())
    kinds = [
        (entry.get("artifactType"), entry["platform"]["architecture"])
        for entry in image["manifests"]
    ]
    assert kinds[-2:] == [(None, "unknown")] * 2
    assert "unknown" not in [architecture for _, architecture in kinds[:-2]]


def seek_tables(shell, reference):
    """Return the seek table of each platform that has one."""
    listed = json.loads(shell(TOCSIN, "index", "ls", reference, "--json", echo=False))
    return {p["platform"]: p["seek_tables"][0] for p in listed["platforms"] if p["seek_tables"]}


def busybox_in(reference, shell):
    """Return a file that is read with the seek table."""
    copied = shell.home / "busybox"
    only_seek = ("--index", "seek", "--platform", OWN)
    shell(TOCSIN, "cp", *only_seek, reference, "/bin/busybox", copied)
    data = copied.read_bytes()
    copied.unlink()
    return data


def pull_and_run(ctr, reference):
    pulled = ctr("image", "pull", "--plain-http", reference)
    assert pulled.returncode == 0, pulled.stderr
    # Every platform: the entries of the tables are fetched too, and are not taken for images.
    fetched = ctr("content", "fetch", "--plain-http", "--all-platforms", reference)
    assert fetched.returncode == 0, fetched.stderr
    ran = ctr.run(reference, "/bin/busybox", "echo", GREETING)
    assert ran.stdout == f"{GREETING}\n", ran.stderr


def _made(path: Path) -> Path:
    path.mkdir()
    return path
