"""The registry of `starting`: each image as the peers and tocsin want it, in docker-registry.

What is pushed is kept for later runs. Each kind of image is a repository of its own, so that an
index of one is not found by a reader of another; docker-registry stores layers that are the same
only once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import containerd
import isolation
import reading
import starting_images
import tools

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import tocsin

# Kinds of an image: unchanged; converted to eStargz; converted with zTOCs only; converted with a
# seek table; unchanged, with a seek table that refers to it; the same, also with an access log of
# the main program; converted with a seek table and a pack of that program.
KINDS = ("plain", "estargz", "ztoc", "pinned", "tag", "list", "pack")
PROGRAMS = ("docker-registry", "skopeo")
_INDEX = "application/vnd.oci.image.index.v1+json"
COPY = ("skopeo", "--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false")


def repository(image: str, kind: str) -> str:
    """Return the name of an image's repository."""
    return f"start/{image.lower()}-{kind}"


def prepare(
    directory: Path, images: Iterable[starting_images.Image], stargz: Path | None, *, again: bool
) -> dict[str, str]:
    """Push what is missing of all kinds of images; return what could not be made, and why.

    Args:
        directory: the registry's directory.
        images: the images.
        stargz: the stargz snapshotter; without it, eStargz is left out.
        again: whether to make again what tocsin made, with the tocsin of now.
    """
    directory.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    with reading.registry(directory, [], "127.0.0.1") as host:
        for image in images:
            for kind in KINDS:
                if kind == "estargz" and stargz is None:
                    continue
                marker = directory / f"{image.name}-{kind}.json"
                made = json.dumps([layer.stat().st_mtime_ns for layer in image.layers])
                ours = kind not in ("plain", "estargz")
                if marker.exists() and marker.read_text() == made and not (ours and again):
                    continue
                print(f"{image.name}: pushing as {kind}", file=sys.stderr)
                try:
                    _push(directory, host, image, kind)
                except (containerd.CommandError, subprocess.CalledProcessError) as error:
                    failed[f"{image.name}-{kind}"] = str(error)
                    continue
                marker.write_text(made)
    return failed


def _push(directory: Path, host: str, image: starting_images.Image, kind: str) -> None:
    import tocsin  # noqa: PLC0415 (children must stay small)

    name = f"{host}/{repository(image.name, kind)}:1"
    shutil.rmtree(_repositories(directory) / repository(image.name, kind), ignore_errors=True)
    plain = reading.options()
    if kind == "estargz":
        scratch = directory / "optimizing"
        with isolation.scratch(scratch) as place, containerd.running(place, []) as running:
            source = f"{host}/{repository(image.name, 'plain')}:1"
            command = image.programs["main"]
            containerd.optimize(running, source, name, command, env=starting_images.ENVIRONMENT)
    elif kind in ("ztoc", "pinned", "pack"):
        log = _recorded(directory, host, image) if kind == "pack" else None
        options = tocsin.IndexingOptions(seek=kind != "ztoc", pack=log)
        tocsin.convert(image.reference, name, options=options, registry=plain)
    else:
        subprocess.run([*COPY, image.reference, f"docker://{name}"], check=True)
        if kind in ("tag", "list"):
            tocsin.create(name, options=tocsin.IndexingOptions(seek=True), registry=plain)
        if kind == "list":
            tocsin.push_access_log(name, _recorded(directory, host, image), registry=plain)


def _recorded(directory: Path, host: str, image: starting_images.Image) -> tocsin.AccessLog:
    """Return what the main program of an image reads."""
    import tocsin  # noqa: PLC0415 (children must stay small)

    with isolation.scratch(directory / "recording") as place:
        target = place / "log"
        name = f"{host}/{repository(image.name, 'pinned')}:1"
        options = ("--plain-http", "--cache-dir", place / "cache", "-o", target)
        command = [sys.executable, "-m", "tocsin", "record", name, *map(str, options), "--"]
        subprocess.run([*command, *image.programs["main"]], check=True, stdout=subprocess.DEVNULL)
        return tocsin.AccessLog.read(target)


def digest(before: list[str], host: str, name: str) -> str:
    """Return the digest of tag 1 of a repository, from the end of the link that `before` is at."""
    child = [*before, sys.executable, __file__, f"http://{host}/v2/{name}/manifests/1"]
    return tools.output(child[0], *child[1:]).strip()


def blobs(directory: Path, name: str) -> tuple[Path, ...]:
    """Return the files of a repository's blobs."""
    place = directory / "data/docker/registry/v2/blobs"
    found = []
    for link in sorted((_repositories(directory) / name).rglob("link")):
        algorithm, _, hexes = link.read_text("ascii").partition(":")
        if (data := place / algorithm / hexes[:2] / hexes / "data").exists():
            found.append(data)
    return tuple(dict.fromkeys(found))


def layers_size(directory: Path, name: str) -> int:
    """Return the bytes of a repository's blobs."""
    return sum(path.stat().st_size for path in blobs(directory, name))


def _repositories(directory: Path) -> Path:
    return directory / "data/docker/registry/v2/repositories"


def _print_digest(url: str) -> None:
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": _INDEX})  # noqa: S310 (our registry)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (as above)
        print(answer.headers["Docker-Content-Digest"])


if __name__ == "__main__":
    _print_digest(sys.argv[1])
