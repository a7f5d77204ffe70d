"""Demo: index an image made of this machine's files, extract a file, then mount the image.

Run by ``make demo``. All output is in ``.build/demo``.
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
WORK_DIR = ROOT / ".build" / "demo"
TOCSIN = Path(sys.executable).parent / "tocsin"


def main() -> int:
    """Make an image, index it, and compare one file that is extracted and mounted."""
    shutil.rmtree(WORK_DIR, ignore_errors=True)
    WORK_DIR.mkdir(parents=True)
    print_step("Make an image of this machine's files")
    original = image.make(WORK_DIR / "image", tag="app")

    print_step("Convert it to an image with a version 2 SOCI index, under a new tag")
    run("convert", "oci:image:app", "oci:image:app-soci")

    print_step("Create a version 1 SOCI index for the unchanged image")
    run("create", "oci:image:app")

    print_step("Show the converted image")
    run("info", "oci:image:app-soci")

    print_step("Extract one file from a layer, reading only its spans")
    is_equal = extract_and_compare(original)

    print_step("Mount the image with a seek table, without unpacking it")
    return 0 if mount_and_compare(original) and is_equal else 1


def extract_and_compare(original: Path) -> bool:
    """Extract `original` through its layer's zTOC and compare it with the file on this machine."""
    name = str(original).lstrip("/")
    ztoc, layer = next(
        pair for pair in blobs_of_index("oci:image:app-soci") if contains(pair[0], name)
    )
    run("ztoc", "extract", ztoc, layer, name, "-o", "extracted")
    extracted = WORK_DIR / "extracted"
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (original, extracted)]
    print(f"  sha256 {digests[0]}  {original}")
    print(f"  sha256 {digests[1]}  {extracted.relative_to(ROOT)}")
    equal = digests[0] == digests[1]
    print("  equal" if equal else "  DIFFERENT")
    return equal


def mount_and_compare(original: Path) -> bool:
    """Mount the image, if this machine can, and compare `original` with the file in the mount."""
    if subprocess.run([TOCSIN, "doctor"], capture_output=True, check=False).returncode != 0:
        print("  left out, since this machine cannot mount images; tocsin doctor says why")
        return True
    run("convert", "--seek", "oci:image:app", "oci:image:app-seek")
    directory = WORK_DIR / "mounted"
    directory.mkdir()
    run("mount", "--cache-dir", "cache", "oci:image:app-seek", "mounted")
    try:
        mounted = (directory / str(original).lstrip("/")).read_bytes()
        run("status", "mounted")
    finally:
        run("umount", "mounted")
    equal = mounted == original.read_bytes()
    print(f"  {original} in the mount: {'equal' if equal else 'DIFFERENT'}")
    return equal


def contains(ztoc: str, name: str) -> bool:
    """Return whether a zTOC has an entry `name`."""
    listing = json.loads(output_of("ztoc", "ls", ztoc, "--json"))
    return any(entry["name"] == name for entry in listing["entries"])


def blobs_of_index(reference: str) -> list[tuple[str, str]]:
    """Return the paths of each zTOC and its layer in the layout."""
    layers = json.loads(output_of("info", reference, "--json"))["platforms"][0]["layers"]
    return [
        (blob_path(layer["ztoc"]["digest"]), blob_path(layer["digest"]))
        for layer in layers
        if layer.get("ztoc")
    ]


def blob_path(digest: str) -> str:
    """Return the path of a blob in the layout."""
    return f"image/blobs/{digest.replace(':', '/')}"


def output_of(*arguments: str) -> bytes:
    """Return the output of a command, without printing it."""
    return subprocess.run(
        [TOCSIN, *arguments], cwd=WORK_DIR, check=True, capture_output=True
    ).stdout


def run(*arguments: str) -> None:
    """Print a command and run it in the work directory."""
    print(f"  $ tocsin {shlex.join(arguments)}", flush=True)
    subprocess.run([TOCSIN, *arguments], cwd=WORK_DIR, check=True)


def print_step(title: str) -> None:
    """Print the title of a step."""
    print(f"\n==> {title}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
