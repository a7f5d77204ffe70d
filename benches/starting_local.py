"""The parts of `starting` that run over loopback."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import containerd
import isolation
import reading
import starting_images
import starting_registry
from starting_remote import Figures, Place, rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import starting_mounts

_ROUNDS = 3
_RANDOM_READS = 1500
_COMPLETE_TIMEOUT = 300
_KINDS = ("pinned", "tag")
# Into the cache; copied; copied once it is in the cache.
_WAYS = ("fetch", "cp", "fetched")
# Native overlayfs on the files; the two fronts on a complete cache; a front that was mounted with
# an empty cache, and whose image has become complete since.
VARIANTS = {
    "native": (),
    "fuse": ("--front", "fuse"),
    "erofs": ("--allow-other", "--front", "erofs"),
    "erofs-live": ("--allow-other", "--front", "erofs"),
}


def fetch(place: Place) -> Figures:
    """Measure downloading all of an image, compared with a copy and an unpack."""
    found: Figures = {}
    for name, image in place.images.items():

        def one(case: tuple[str, str], image: starting_images.Image = image) -> Figures:
            way, kind = case
            reference = place.reference(image.name, kind)
            with place.fresh() as directory:
                mount = place.new_mount(directory)
                place.settle(starting_registry.repository(image.name, kind))
                cache = ("--cache-dir", os.fspath(mount.cache), "--plain-http")
                if way == "fetched":
                    mount.tocsin("fetch", reference, *cache)
                begun = time.perf_counter()
                target = os.fspath(directory / "copied")
                if way == "peer":
                    _copy_and_unpack(reference, directory)
                elif way == "fetch":
                    mount.tocsin("fetch", reference, *cache)
                elif way == "fetched":
                    mount.tocsin("cp", *cache, f"{reference}:/", target)
                else:
                    mount.tocsin("cp", "--plain-http", f"{reference}:/", target)
                return {"wall": time.perf_counter() - begun}

        cases = [("peer", "plain"), *((way, kind) for way in _WAYS for kind in _KINDS)]
        count = min(place.rounds, _ROUNDS)
        found[name] = rounds(count, cases, one, title=f"{name} fetch")
    return found


def _copy_and_unpack(reference: str, directory: Path) -> None:
    copy = ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false"]
    layout = f"{directory}/layout:x"
    unpack = ["umoci", "unpack", "--image", layout, f"{directory}/unpacked"]
    for command in ([*copy, f"docker://{reference}", f"oci:{layout}"], unpack):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# -- complete ----------------------------------------------------------------------------------


def complete(place: Place) -> Figures:
    """Measure work on complete mounts: the first pass, and one after it."""
    return {name: _complete(place, image) for name, image in place.images.items()}


def _complete(place: Place, image: starting_images.Image) -> Figures:
    found: Figures = {}
    with isolation.scratch(place.corpus / "complete") as kept:
        filled = place.new_mount(kept)
        with starting_images.overlay(image.directories, kept / "native") as root:
            largest = _largest(root)
        works = _works(image, largest)
        cases = [(variant, work) for variant in VARIANTS for work in works]
        if failed := _fill(filled, place.reference(image.name, "pinned")):
            cases = [case for case in cases if case[0] == "native"]
        runs = rounds(
            # One more, after which the files of all variants are in memory.
            min(place.rounds, _ROUNDS) + 1,
            cases,
            lambda case: _one_work(place, image, case[0], works[case[1]], filled.cache),
            title=f"{image.name} complete",
        )
    for name, each in runs.items():
        found[name] = [run for run in each if "failed" in run] or each[1:]
    return {"runs": found, "largest": os.fspath(largest), "failed": failed}


def _fill(mount: starting_mounts.Mount, reference: str) -> str | None:
    """Mount an image, wait until it is complete, and unmount it; return what failed."""
    try:
        mount.mount(reference, "--background")
        _wait_until_complete(mount)
        mount.unmount()
    except (containerd.CommandError, OSError) as error:
        return str(error)
    return None


def _wait_until_complete(mount: starting_mounts.Mount) -> None:
    deadline = time.monotonic() + _COMPLETE_TIMEOUT
    while mount.status()["state"] != "complete":
        if time.monotonic() > deadline:
            raise containerd.CommandError(f"not complete after {_COMPLETE_TIMEOUT} s")
        time.sleep(0.2)


def _one_work(
    place: Place,
    image: starting_images.Image,
    variant: str,
    work: Callable[[Path], None],
    cache: Path,
) -> Figures:
    with place.fresh() as directory, _mounted(place, image, variant, directory, cache) as root:
        begun = time.perf_counter()
        work(root)
        between = time.perf_counter()
        work(root)
        return {"first": between - begun, "warm": time.perf_counter() - between}


@contextmanager
def _mounted(
    place: Place, image: starting_images.Image, variant: str, directory: Path, cache: Path
) -> Iterator[Path]:
    """Mount an image in one of the variants, with an overlay on it; yield the overlay."""
    if variant == "native":
        with starting_images.overlay(image.directories, directory / "native") as root:
            yield root
        return
    mount = place.new_mount(directory)
    live = variant == "erofs-live"
    if not live:
        mount.cache = cache
    background = "--background" if live else "--no-background"
    mount.mount(place.reference(image.name, "pinned"), *VARIANTS[variant], background)
    try:
        front = VARIANTS[variant][-1]
        if (found := mount.status()["front"]) != front:
            raise containerd.CommandError(f"wrong front (found {found}, expected {front})")
        if live:
            _wait_until_complete(mount)
        yield mount.add_overlay()
    finally:
        mount.unmount()


def _works(image: starting_images.Image, largest: Path) -> dict[str, Callable[[Path], None]]:
    def run(root: Path, *command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=root)

    return {
        "find": lambda root: run(root, "find", ".", "-printf", r"%s %m %T@\n"),
        "tar": lambda root: run(root, "sh", "-c", "tar -cf - . | cat"),
        "random": lambda root: _read_randomly(root / largest),
        "program": lambda root: run(
            root, "chroot", ".", "env", *starting_images.ENVIRONMENT, *image.programs["main"]
        ),
    }


def _read_randomly(path: Path) -> None:
    chosen = random.Random(1)  # noqa: S311 (not a secret)
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        pages = os.fstat(file).st_size // 4096
        for _ in range(_RANDOM_READS):
            assert len(os.pread(file, 4096, chosen.randrange(pages) * 4096)) == 4096
    finally:
        os.close(file)


def _largest(root: Path) -> Path:
    sizes = (
        (path.lstat().st_size, path)
        for folder, _, names in os.walk(root)
        for name in names
        if not (path := Path(folder, name)).is_symlink() and path.is_file()
    )
    return max(sizes)[1].relative_to(root)


# -- memory ------------------------------------------------------------------------------------


def memory(place: Place) -> Figures:
    """Measure the memory of the process behind a mount of 200,000 files, after reading them all."""
    import tocsin  # noqa: PLC0415 (children must stay small)

    with isolation.scratch(place.corpus / "many") as kept:
        child = [sys.executable, reading.__file__, "--corpus", ".", "--child", "make-many"]
        subprocess.run([*child, os.fspath(kept / "layout")], check=True)
        plain, target = f"oci:{kept}/layout:plain", f"oci:{kept}/layout:seek"
        tocsin.convert(plain, target, options=tocsin.IndexingOptions(seek=True))

        def one(front: str) -> Figures:
            with place.fresh() as directory:
                mount = place.new_mount(directory)
                mount.mount(target, "--allow-other", "--front", front)
                process = isolation.process_with(os.fspath(mount.directory))
                mounted = _memory_of(process, mount.cache, "Rss")
                subprocess.run(
                    ["sh", "-c", "tar -cf - . | cat"],
                    check=True, stdout=subprocess.DEVNULL, cwd=mount.directory,
                )  # fmt: skip
                found = _memory_of(process, mount.cache, "Rss")
                anonymous = _memory_of(process, mount.cache, "Anonymous")
                mount.unmount()
            return {"mounted": mounted, "read": found, "anonymous": anonymous}

        return rounds(1, ("fuse", "erofs"), one, title="memory")


def _memory_of(process: int, cache: Path, figure: str) -> int:
    """Return a figure of a process in bytes, without files of the cache that it has mapped."""
    total = 0
    counted = True
    for line in Path(f"/proc/{process}/smaps").read_text("utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counted = os.fspath(cache) not in line
        elif counted and line.startswith(f"{figure}:"):
            total += int(line.split()[1]) * 1024
    return total
