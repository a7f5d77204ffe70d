"""The parts of `starting` with several containers behind one containerd."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import containerd
import corpus
import images
import isolation
import reading
import starting_images
import starting_registry
import tools
from starting_remote import Figures, Place, rounds

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 20
"""Number of images that are started at the same time."""
_COMPLETE_TIMEOUT = 300
_ALLOWANCE = 2
"""Seconds that the goal for many images adds to the time of their bytes and of their CPU."""
_PULLS = {"native": "plain", "tocsin": "tag"}


@contextmanager
def _running(
    place: Place, directory: Path, *options: str, native: bool = False
) -> Iterator[containerd.Containerd]:
    """Run containerd, with tocsin's snapshotter unless it is ``native``."""
    given = ("snapshotter", "--plain-http", *options)
    tocsin = None if native else [*shlex.split(place.tocsin), *given]
    with containerd.running(directory, place.client, tocsin=tocsin) as running:
        yield running


# -- second containers -------------------------------------------------------------------------


def second(place: Place) -> Figures:
    """Measure the second container of an image that is complete, compared with native overlayfs."""
    found: Figures = {}
    for name, image in place.images.items():

        def one(way: str, image: starting_images.Image = image) -> Figures:
            reference = place.reference(image.name, _PULLS[way])
            with (
                place.fresh() as directory,
                _running(place, directory, "--background", native=way == "native") as running,
            ):
                place.settle(starting_registry.repository(image.name, _PULLS[way]))
                running.pull(reference)
                first = running.run(reference, image.programs["main"], name="first")
                if way == "tocsin":
                    _wait_until_complete(place, directory)
                begun = time.perf_counter()
                output = running.run(reference, image.programs["main"], name="second")
                wall = time.perf_counter() - begun
                begun = time.perf_counter()
                running.run(reference, image.programs["main"], name="third")
                third = time.perf_counter() - begun
            assert first == output
            return {"wall": wall, "third": third, "output": output}

        found[name] = rounds(place.rounds, _PULLS, one, title=f"{name} second")
    return found


def _wait_until_complete(place: Place, directory: Path) -> None:
    deadline = time.monotonic() + _COMPLETE_TIMEOUT
    given = (f"--root={directory / 'tocsin'}", f"--address={directory / 'tocsin.sock'}", "--json")
    command = [*place.client, *shlex.split(place.tocsin), "status", *given]
    while True:
        found = json.loads(tools.output(command[0], *command[1:]))["images"]
        # Then the layers have been verified, and the image has a mount that needs no process.
        mounts = list((directory / "tocsin" / "images").glob("*/complete"))
        is_complete = found and all(each["state"] == "complete" for each in found)
        if is_complete and all(each.is_mount() for each in mounts):
            return
        if time.monotonic() > deadline:
            raise containerd.CommandError(f"not complete after {_COMPLETE_TIMEOUT} s")
        time.sleep(0.2)


# -- many images at the same time --------------------------------------------------------------


def many(place: Place) -> Figures:
    """Measure starting many different images at the same time.

    For each: a pull, and a container whose program imports numpy. Then, when all have been started,
    the CPU time of starting each again, one after the other.
    """
    image = place.images.get("A")
    if image is None:
        raise containerd.CommandError("needs image A")
    return {"runs": rounds(place.rounds, ["tocsin"], partial(_many, place, image), title="many")}


def _many(place: Place, image: starting_images.Image, _way: str) -> Figures:
    references = [f"{place.host}/{_repository(number)}:1" for number in range(MANY)]
    with place.fresh() as directory, _running(place, directory, "--no-background") as running:
        place.settle(*(_repository(number) for number in range(MANY)))

        def start(number: int) -> str:
            running.pull(references[number])
            return running.run(references[number], image.programs["main"], name=f"many-{number}")

        before, begun = place.received(), time.perf_counter()
        with ThreadPoolExecutor(MANY) as threads:
            outputs = set(threads.map(start, range(MANY)))
        wall = time.perf_counter() - begun
        fetched = place.received() - before
        assert len(outputs) == 1, outputs
        busy = _busy()
        for number, reference in enumerate(references):
            running.run(reference, image.programs["main"], name=f"warm-{number}")
        busy = _busy() - busy
    bound = fetched * 8 / reading.RATE + busy / (os.cpu_count() or 1) + _ALLOWANCE
    return {"wall": wall, "bytes": fetched, "cpu": busy, "bound": bound}


def _busy() -> float:
    """Return the seconds that all processors have been busy; containers are not our children."""
    words = Path("/proc/stat").read_text("ascii").splitlines()[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = map(int, words[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _repository(number: int) -> str:
    return starting_registry.repository(f"many-{number}", "tag")


def prepare_many(directory: Path, registry: Path, image: starting_images.Image) -> None:
    """Push the images of `many`, with seek tables that refer to them, unless that has been done.

    They have the lowest layer of `image` in common. The others are those of `image` with one file
    more at their start, so all their spans differ.

    Args:
        directory: where to keep what is made.
        registry: directory of the registry.
        image: the image.
    """
    import tocsin  # noqa: PLC0415 (children must stay small)

    marker = registry / "many.json"
    made = json.dumps([MANY, *(layer.stat().st_mtime_ns for layer in image.layers)])
    if marker.exists() and marker.read_text("ascii") == made:
        return
    compressor = corpus.build_go(directory / "bin" / "gocompress")
    with (
        reading.registry(registry, [], "127.0.0.1") as host,
        isolation.scratch(directory / "many") as scratch,
    ):
        for number in range(MANY):
            print(f"many: pushing image {number + 1} of {MANY}", file=sys.stderr)
            source = _variant(scratch, image, number, compressor)
            name = f"{host}/{_repository(number)}:1"
            subprocess.run([*starting_registry.COPY, source, f"docker://{name}"], check=True)
            options = tocsin.IndexingOptions(seek=True)
            tocsin.create(name, options=options, registry=reading.options())
    marker.write_text(made, "ascii")


def _variant(scratch: Path, image: starting_images.Image, number: int, compressor: Path) -> str:
    """Write an image to a layout below `scratch`, and return its reference."""
    added = scratch / "added" / "variant"
    added.mkdir(parents=True, exist_ok=True)
    (added / "number").write_text(f"{number}\n", "ascii")
    layers = [image.layers[0]]
    diff_ids = [(image.layers[0].parent / "base.diff-id").read_text("ascii")]
    for place, folder in enumerate(image.directories[1:], 1):
        tar, packed = scratch / f"{place}.tar", scratch / f"{place}.tar.gz"
        options = ["--format=gnu", "--sort=name", "--numeric-owner", "-cf", tar]
        tools.run("tar", *options, "-C", added.parent, "variant", "-C", folder, ".")
        diff_ids.append(f"sha256:{corpus.digest_of(tar)}")
        tools.filter_file(tar, packed, os.fspath(compressor))
        tar.unlink()
        layers.append(packed)
    config = {
        "config": {"Env": list(starting_images.ENVIRONMENT)},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    layout = scratch / "layout"
    shutil.rmtree(layout, ignore_errors=True)
    return images.write_image(layout, layers, tag="1", config=config)
