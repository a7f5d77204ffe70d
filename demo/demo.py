"""The main job on real input: index an image made of this machine's files, then take a file out.

Run by ``make demo``. Everything it makes is below ``.build/demo``.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import image

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".build" / "demo"
TOCSIN = Path(sys.executable).parent / "tocsin"


def main() -> int:
    """Make the image, index it twice, read one file, compare."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    say("An image of this machine's files, as a build would make it")
    original = image.make(PLACE / "image", tag="app")

    say("A converted image with version 2 SOCI indexes, under a tag of its own")
    run("convert", "oci:image:app", "oci:image:app-soci")

    say("Version 1 SOCI indexes beside the unchanged image")
    run("create", "oci:image:app")

    say("What the image has now")
    run("info", "oci:image:app-soci")

    say("One file out of a layer, by its spans alone")
    return 0 if take_out(original) else 1


def take_out(original: Path) -> bool:
    """Extract `original` through its layer's zTOC and compare it with the file on this machine."""
    name = str(original).lstrip("/")
    ztoc, layer = next(
        pair for pair in blobs_of_index("oci:image:app-soci") if holds(pair[0], name)
    )
    run("ztoc", "extract", ztoc, layer, name, "-o", "taken-out")
    taken = PLACE / "taken-out"
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (original, taken)]
    print(f"  sha256 {digests[0]}  {original}")
    print(f"  sha256 {digests[1]}  {taken.relative_to(ROOT)}")
    equal = digests[0] == digests[1]
    print("  equal" if equal else "  DIFFERENT")
    return equal


def holds(ztoc: str, name: str) -> bool:
    """Return whether a zTOC lists `name`."""
    listing = json.loads(ask("ztoc", "ls", ztoc, "--json"))
    return any(entry["name"] == name for entry in listing["entries"])


def blobs_of_index(reference: str) -> list[tuple[str, str]]:
    """Return the paths of each zTOC and its layer in the layout, largest layer last."""
    layers = json.loads(ask("info", reference, "--json"))["platforms"][0]["layers"]
    return [
        (blob_path(layer["ztoc"]["digest"]), blob_path(layer["digest"]))
        for layer in layers
        if layer.get("ztoc")
    ]


def blob_path(digest: str) -> str:
    """Return where the layout keeps a blob."""
    return f"image/blobs/{digest.replace(':', '/')}"


def ask(*arguments: str) -> bytes:
    """Return what a command prints, without showing it."""
    return subprocess.run([TOCSIN, *arguments], cwd=PLACE, check=True, capture_output=True).stdout


def run(*arguments: str) -> None:
    """Show a command, then run it where the image is."""
    print(f"  $ tocsin {shlex.join(arguments)}", flush=True)
    subprocess.run([TOCSIN, *arguments], cwd=PLACE, check=True)


def say(title: str) -> None:
    """Begin a step."""
    print(f"\n==> {title}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
