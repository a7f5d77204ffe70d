"""A run that is killed at any moment leaves the store unchanged or complete."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.images import make_image
from tocsin.model.manifest import Manifest
from tocsin.stores.archive import OciArchive
from tocsin.stores.layout import OciLayout

WRITER = """
import os, sys
from pathlib import Path
from tocsin.stores.{module} import {kind}
from tocsin.model.media_types import OCI_MANIFEST
from support.images import make_image
print("up", flush=True)
round = 0
while True:
    with {kind}(Path(sys.argv[1]), write=True) as store:
        image = make_image({{"f": os.urandom(300_000)}})
        image.put(store, f"t{{round % 3}}")
    round += 1
"""


def run_and_kill(module, kind, place, after):
    paths = [p for p in sys.path if p] + [str(Path(__file__).parents[2])]
    process = subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-c", WRITER.format(module=module, kind=kind), str(place)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    time.sleep(after)  # an arbitrary moment, not a wait for something
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()


def read_all(store):
    """Read all images of a store with their blobs."""
    for tag in store.tags():
        manifest = Manifest.from_json(store.manifest(store.resolve(tag)))
        for descriptor in (manifest.config, *manifest.layers):
            for _ in store.blob(descriptor):
                pass
    return store.tags()


@pytest.mark.parametrize(("module", "kind"), [("layout", OciLayout), ("archive", OciArchive)])
def test_store_when_its_writer_is_killed_then_valid_and_cleaned_later(tmp_path, module, kind):
    place = tmp_path / "place"
    with kind(place, write=True) as store:
        make_image({"first": b"1"}).put(store, "first")
    dice = random.Random(11)  # noqa: S311 (a seed, not a secret)
    for _ in range(6):
        run_and_kill(module, kind.__name__, place, dice.uniform(0, 0.15))
        with kind(place) as store:
            assert "first" in read_all(store)
    with kind(place, write=True) as store:
        make_image({"last": b"1"}).put(store, "last")
    leftovers = [p for p in tmp_path.rglob("*") if p.name.startswith(".tocsin")]
    assert leftovers == []
    with kind(place) as store:
        assert {"first", "last"} <= set(read_all(store))
