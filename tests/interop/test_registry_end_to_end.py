"""From a registry to another and into a container, with other tools.

docker-registry with tokens over TLS; skopeo brings the image and takes the converted one away;
containerd pulls it, runc runs it. ``TOCSIN_SLOW=1 pytest -s`` uses 1 GB and echoes the commands.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.cli_process import TOCSIN
from support.containerd import containerd
from support.machine_image import GREETING, put_machine_image
from support.registry_certificates import Authority
from support.registry_real import PASSWORD, USER, docker_registry, program, token_server
from support.shell import SLOW, Shell

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    "size",
    [60 << 20, pytest.param(1 << 30, marks=[pytest.mark.slow, SLOW])],
    ids=["60MB", "1GB"],
)
def test_image_when_indexed_in_a_registry_then_others_copy_pull_and_run_it(place, size):
    skopeo = (program("skopeo"), "--insecure-policy")
    for name in ("containerd", "ctr", "runc", "docker-registry", "busybox"):
        program(name)
    authority = Authority(_made(place / "ca"))
    (_made(place / "trusted") / "ca.crt").write_bytes(authority.cert.read_bytes())
    shell = Shell(_made(place / "home"))
    layer_size = put_machine_image(place / "layout", size=size)
    print(f"\nlayers: {layer_size} bytes")  # noqa: T201
    assert layer_size >= size
    with ExitStack() as stack:
        tokens = stack.enter_context(token_server(*authority.issue("tokens"), tls=True))
        cert, key = authority.issue("registry")
        tls = {"certificate": str(cert), "key": str(key)}
        host = stack.enter_context(
            docker_registry(_made(place / "r"), auth=tokens.auth(), http={"tls": tls})
        )
        other = stack.enter_context(docker_registry(_made(place / "other")))
        app, soci = f"{host}/team/app:1", f"{host}/team/app-soci:1"
        secure = (f"--creds={USER}:{PASSWORD}", f"--cert-dir={place / 'trusted'}")
        shell(
            *(*skopeo, "copy", "--all", *(f"--dest-{o.removeprefix('--')}" for o in secure)),
            *(f"oci:{place / 'layout'}:app", f"docker://{app}"),
        )

        def tocsin(*arguments):
            login = ("--username", USER, "--password-stdin", "--ca-cert", authority.cert)
            echo = "--json" not in arguments
            return shell(TOCSIN, *arguments, *login, stdin=f"{PASSWORD}\n", echo=echo)

        tocsin("create", app)
        tocsin("create", app)
        tocsin("convert", app, soci)
        tocsin("index", "ls", app)
        tocsin("index", "ls", soci)
        v1 = json.loads(tocsin("index", "ls", app, "--json"))
        v2 = json.loads(tocsin("index", "ls", soci, "--json"))

        # The result for the same image in a local layout.
        here = f"oci:{place / 'layout'}"
        created = json.loads(shell(TOCSIN, "create", f"{here}:app", "--json", echo=False))
        converted = json.loads(
            shell(TOCSIN, "convert", f"{here}:app", f"{here}:soci", "--json", echo=False)
        )
        assert indexes_made(created) == indexes_listed(v1)
        assert indexes_made(converted) == indexes_listed(v2)
        assert v2["manifest"]["digest"] == converted["image"]["digest"]
        there = json.loads(tocsin("info", app, "--json"))
        assert ztocs(there) == ztocs(created)
        assert all(layer["problem"] is None for p in there["platforms"] for layer in p["layers"])

        shell(
            *(*skopeo, "copy", "--all", *(f"--src-{o.removeprefix('--')}" for o in secure)),
            *("--dest-tls-verify=false", f"docker://{soci}", f"docker://{other}/away/app:1"),
        )
        raw = shell(
            *(*skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{other}/away/app:1"),
            echo=False,
        )
        assert digests(raw) == digests(
            shell(*skopeo, "inspect", "--raw", *secure, f"docker://{soci}", echo=False)
        )
        elsewhere = json.loads(shell(TOCSIN, "info", f"{other}/away/app:1", "--json", echo=False))
        assert ztocs(elsewhere) == ztocs(there)

        ctr = stack.enter_context(containerd(_made(place / "c")))
        # Without this file, containerd uses http for loopback addresses.
        (_made(_made(place / "hosts") / host) / "hosts.toml").write_text(
            f'[host."https://{host}"]\n  ca = "{authority.cert}"\n'
        )
        trusting = ("--hosts-dir", place / "hosts", "--tlscacert", authority.cert)
        pull_and_run(ctr, soci, "--user", f"{USER}:{PASSWORD}", *trusting)
        pull_and_run(ctr, f"{other}/away/app:1", "--plain-http")


def pull_and_run(ctr, reference, *options):
    pulled = ctr("image", "pull", *options, reference)
    print(f"\n$ ctr image pull {reference}\n{pulled.stdout[-400:]}")  # noqa: T201 (for pytest -s)
    assert pulled.returncode == 0, pulled.stderr
    ran = ctr.run(reference, "/bin/busybox", "echo", GREETING)
    print(f"$ ctr run --rm {reference} c1 /bin/busybox echo …\n{ran.stdout}")  # noqa: T201
    assert ran.stdout == f"{GREETING}\n", ran.stderr


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def digests(raw):
    return [entry["digest"] for entry in json.loads(raw)["manifests"]]


def indexes_made(document):
    return {p["platform"]: [p["soci_index"]["digest"]] for p in document["platforms"]}


def indexes_listed(document):
    return {
        p["platform"]: [index["digest"] for index in p["soci_indexes"]]
        for p in document["platforms"]
    }


def ztocs(document):
    return {
        layer["digest"]: layer["ztoc"] and layer["ztoc"]["digest"]
        for platform in document["platforms"]
        for layer in platform["layers"]
    }
