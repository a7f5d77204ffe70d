"""The parts of `starting` that run over the link."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import containerd
import isolation
import link
import starting_images
import starting_mounts
import starting_registry
import tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_TIMEOUT = 600
_EVERYTHING_ROUNDS = 3

Figures = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """A way to run a program of an image.

    Attributes:
        title: description for the report.
        kind: the kind of image in the registry.
        snapshotter: with which snapshotter containerd runs it; empty if ``tocsin mount`` mounts it.
        listed: whether the list of an earlier run is given.
        background: whether the rest is loaded in the background.
    """

    title: str
    kind: str
    snapshotter: str = ""
    listed: bool = False
    background: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Options of ``tocsin mount``, except that for the list."""
        index = ("--index", "v2") if self.kind == "ztoc" else ()
        return (*index, "--background" if self.background else "--no-background")


WAYS = {
    "full": Way("containerd, overlayfs", "plain", "overlayfs"),
    "estargz": Way("containerd, optimized eStargz", "estargz", "stargz"),
    "ztoc": Way("zTOC", "ztoc"),
    "ztoc-list": Way("zTOC, list", "ztoc", listed=True),
    "tag": Way("seek table, tag", "tag"),
    "tag-list": Way("seek table, tag, list", "tag", listed=True),
    "pinned": Way("seek table, digest", "pinned"),
    "pinned-list": Way("seek table, digest, list", "pinned", listed=True),
    "pinned-background": Way("seek table, digest, background", "pinned", background=True),
    "pinned-list-background": Way(
        "seek table, digest, list, background", "pinned", listed=True, background=True
    ),
    "tag-background": Way("seek table, tag, background", "tag", background=True),
    "rpull": Way("containerd, tocsin, seek table", "tag", "tocsin"),
    "rpull-list": Way("containerd, tocsin, seek table, list", "list", "tocsin"),
    "rpull-pack": Way("containerd, tocsin, seek table, pack", "pack", "tocsin"),
}
START = tuple(name for name, way in WAYS.items() if way.snapshotter != "tocsin")
"""The ways that `start` measures if none are chosen."""
_SNAPSHOTTER = ("full", "estargz", "rpull", "rpull-list", "rpull-pack")
_OTHERS = ("full", "rpull", "rpull-list", "rpull-pack")
_FOR_PROGRAMS = ("full", "pinned")
_FOR_EVERYTHING = ("full", "pinned-background", "tag-background")


@dataclass(frozen=True)
class Place:
    """Where parts run, and with what.

    Attributes:
        corpus: directory of the images; its ``run`` is the place of runs.
        images: the images.
        rounds: how often everything is measured.
        tocsin: the tocsin command.
        stargz: the stargz snapshotter, if it was built.
        client: command prefix that runs a program at the client's end of the link.
        host: host and port of the registry.
        shaped: whether there is a link; without one, bytes are not counted.
    """

    corpus: Path
    images: dict[str, starting_images.Image]
    rounds: int
    tocsin: str
    stargz: Path | None
    client: list[str]
    host: str
    shaped: bool

    @property
    def registry(self) -> Path:
        """The registry's directory."""
        return self.corpus / "registry"

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Yield an empty directory that is removed in the end with all that is mounted in it."""
        with isolation.scratch(self.corpus / "run") as directory:
            yield directory

    def new_mount(self, directory: Path) -> starting_mounts.Mount:
        """Return a place for a mount in `directory`."""
        env = starting_images.ENVIRONMENT
        return starting_mounts.Mount(directory, self.client, self.tocsin, env)

    def reference(self, image: str, kind: str) -> str:
        """Return the reference of an image: by digest if it is converted, otherwise by tag."""
        name = starting_registry.repository(image, kind)
        if kind != "pinned":
            return f"{self.host}/{name}:1"
        return f"{self.host}/{name}@{starting_registry.digest(self.client, self.host, name)}"

    def received(self) -> int:
        """Return the bytes that have arrived at the client's end."""
        return link.received(self.client) if self.shaped else 0

    def settle(self, *repositories: str) -> None:
        """Drop the kernel's caches; then read again what is not part of what is measured.

        That is the registry's files of these repositories, which a real registry has in memory, and
        the programs.
        """
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")
        programs = ["containerd", "containerd-shim-runc-v2", "ctr", "ctr-remote", "runc", "mount"]
        found = [Path(program) for name in programs if (program := tools.find(name))]
        blobs = (starting_registry.blobs(self.registry, each) for each in repositories)
        for path in dict.fromkeys((*found, *chain.from_iterable(blobs))):
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass
        imported = [sys.executable, __file__, "import"]
        subprocess.run(imported, check=True, stdout=subprocess.DEVNULL)


def rounds(
    count: int, cases: Iterable[Any], one: Callable[[Any], Figures], *, title: str
) -> dict[str, list[Figures]]:
    """Measure all cases in turns; a case that fails is reported and left out from then on."""
    found: dict[str, list[Figures]] = {}
    cases = list(cases)
    for number in range(count):
        for case in cases:
            name = case if isinstance(case, str) else "/".join(case)
            runs = found.setdefault(name, [])
            if runs and "failed" in runs[-1]:
                continue
            try:
                figures = one(case)
            except (containerd.CommandError, subprocess.SubprocessError, OSError) as error:
                figures = {"failed": str(error)}
            runs.append(figures)
            said = {k: round(v, 3) for k, v in figures.items() if isinstance(v, int | float)}
            print(f"{title} {number + 1}: {name}: {said or figures}", file=sys.stderr)
    return found


# -- until the output of a program -------------------------------------------------------------


def start(place: Place, program: str, ways: Sequence[str]) -> Figures:
    """Measure all ways to run a program of each image, until its output."""
    found: Figures = {}
    for name, image in place.images.items():
        lists = record_lists(place, image, program, ways)
        runs = rounds(
            place.rounds,
            ways,
            lambda way: _run(place, image, program, way, lists),  # noqa: B023 (called in this round of the loop)
            title=f"{name} {program}",
        )
        _check_same(runs)
        found[name] = runs
    return found


def programs(place: Place) -> Figures:
    """Measure programs other than the main one."""
    return _other_programs(place, _FOR_PROGRAMS)


def _other_programs(place: Place, ways: Sequence[str]) -> Figures:
    found: Figures = {}
    for name, image in place.images.items():
        for program in image.programs:
            if program not in ("main", "everything"):
                one = {name: image}
                runs = start(_with(place, images=one), program, ways)
                found.setdefault(name, {})[program] = runs[name]
    return found


def snapshotter(place: Place) -> Figures:
    """Measure containerd with its own snapshotter, with stargz, and with tocsin's."""
    ways = [way for way in _SNAPSHOTTER if place.stargz or WAYS[way].snapshotter != "stargz"]
    return start(place, "main", ways)


def others(place: Place) -> Figures:
    """Measure programs that were not recorded, with the list and the pack of another program."""
    return _other_programs(place, _OTHERS)


def everything(place: Place) -> Figures:
    """Measure a program that reads every file."""
    fewer = _with(place, rounds=min(place.rounds, _EVERYTHING_ROUNDS))
    return start(fewer, "everything", _FOR_EVERYTHING)


def _with(place: Place, **changes: Any) -> Place:  # noqa: ANN401 (any field)
    return Place(**{**place.__dict__, **changes})


def _check_same(runs: dict[str, list[Figures]]) -> None:
    """Check that the program printed the same each time."""
    outputs = {run["output"] for each in runs.values() for run in each if "output" in run}
    if len(outputs) > 1:
        raise SystemExit(f"the program's output differs: {sorted(outputs)}")


def record_lists(
    place: Place, image: starting_images.Image, program: str, ways: Iterable[str]
) -> dict[str, Path]:
    """Record what a program uses, once for each kind of index; return the lists."""
    lists: dict[str, Path] = {}
    for kind in dict.fromkeys(WAYS[way].kind for way in ways if WAYS[way].listed):
        target = place.corpus / "lists" / f"{image.name}-{program}-{kind}.jsonl"
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)
        options = ("--index", "v2") if kind == "ztoc" else ()
        try:
            with place.fresh() as directory:
                mount = place.new_mount(directory)
                reference = place.reference(image.name, kind)
                mount.mount(reference, *options, "--no-background", "--record", os.fspath(target))
                mount.add_overlay()
                mount.run(image.programs[program])
                mount.unmount()
                # The record is written when the mount ends, and it ends after its unmount.
                _wait_for(target)
        except (containerd.CommandError, OSError) as error:
            print(f"{image.name}: no list for {kind}: {error}", file=sys.stderr)
            continue
        lists[kind] = target
    return lists


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > deadline:
            raise containerd.CommandError(f"{path.name}: not written")
        time.sleep(0.02)


def _run(
    place: Place, image: starting_images.Image, program: str, name: str, lists: dict[str, Path]
) -> Figures:
    way = WAYS[name]
    if way.snapshotter:
        return _run_containerd(place, image, program, way)
    if way.listed and way.kind not in lists:
        raise containerd.CommandError("there is no list")
    return _run_mount(place, image, program, way, lists[way.kind] if way.listed else None)


def _run_containerd(place: Place, image: starting_images.Image, program: str, way: Way) -> Figures:
    reference = place.reference(image.name, way.kind)
    stargz = place.stargz if way.snapshotter == "stargz" else None
    options = ("snapshotter", "--plain-http", "--no-background")
    tocsin = [*shlex.split(place.tocsin), *options] if way.snapshotter == "tocsin" else None
    with (
        place.fresh() as directory,
        containerd.running(directory, place.client, stargz=stargz, tocsin=tocsin) as running,
    ):
        place.settle(starting_registry.repository(image.name, way.kind))
        before, begun = place.received(), time.perf_counter()
        running.pull(reference)
        pulled = time.perf_counter()
        output = running.run(reference, image.programs[program])
        wall = time.perf_counter() - begun
        fetched = place.received() - before
    return {"wall": wall, "ready": pulled - begun, "bytes": fetched, "output": output}


def _run_mount(
    place: Place, image: starting_images.Image, program: str, way: Way, accesses: Path | None
) -> Figures:
    reference = place.reference(image.name, way.kind)
    given = ("--access-log", os.fspath(accesses)) if accesses else ()
    with place.fresh() as directory:
        mount = place.new_mount(directory)
        place.settle(starting_registry.repository(image.name, way.kind))
        before, begun = place.received(), time.perf_counter()
        mount.mount(reference, *way.options, *given)
        ready = time.perf_counter() - begun
        mount.add_overlay()
        output = mount.run(image.programs[program])
        wall = time.perf_counter() - begun
        fetched = place.received() - before
        status = mount.status()
        mount.unmount()
    wanted = "v2" if way.kind == "ztoc" else "seek"
    if status["index"] != wanted:
        raise containerd.CommandError(f"wrong index (found {status['index']}, expected {wanted})")
    return {"wall": wall, "ready": ready, "bytes": fetched, "output": output, "status": status}


# -- until all is loaded, until the mount is ready ----------------------------------------------


def background(place: Place) -> Figures:
    """Measure loading all of an image behind its mount, compared with a pull without a run."""
    found: Figures = {}
    for name, image in place.images.items():

        def one(way: str, image: starting_images.Image = image) -> Figures:
            if way == "full":
                figures = _run_containerd(place, image, "true", WAYS["full"])
                return {"wall": figures["ready"], "bytes": figures["bytes"]}
            kind = WAYS[way].kind
            reference = place.reference(image.name, kind)
            with place.fresh() as directory:
                place.settle(starting_registry.repository(image.name, kind))
                before = place.received()
                figures = _child(place, directory, "complete", reference)
                return {**figures, "bytes": place.received() - before}

        ways = ("full", "pinned-background", "tag-background")
        count = min(place.rounds, _EVERYTHING_ROUNDS)
        found[name] = rounds(count, ways, one, title=f"{name} background")
    return found


def ready(place: Place) -> Figures:
    """Measure the time until a mount can be used: the whole command, and without its imports."""
    found: Figures = {}
    for name, image in place.images.items():

        def one(case: tuple[str, str, str], image: starting_images.Image = image) -> Figures:
            kind, cached, what = case
            reference = place.reference(image.name, kind)
            with place.fresh() as directory:
                place.settle(starting_registry.repository(image.name, kind))
                if what == "call":
                    return _child(place, directory, "ready", reference, cached)
                mount = place.new_mount(directory)
                if cached == "cached":
                    mount.mount(reference, "--no-background")
                    mount.unmount()
                before, begun = place.received(), time.perf_counter()
                mount.mount(reference, "--no-background")
                wall = time.perf_counter() - begun
                fetched = place.received() - before
                mount.unmount()
                return {"wall": wall, "bytes": fetched}

        cases = [
            (kind, cached, what)
            for kind in ("pinned", "tag")
            for cached in ("cached", "fresh")
            for what in ("call", "command")
        ]
        found[name] = rounds(place.rounds, cases, one, title=f"{name} ready")
    return found


def _child(place: Place, directory: Path, name: str, *words: str) -> Figures:
    """Run a child of this module at the client's end, in `directory`; return what it prints."""
    child = [*place.client, sys.executable, __file__, name, os.fspath(directory), *words]
    environment = {**os.environ, "XDG_RUNTIME_DIR": os.fspath(directory)}
    directory.chmod(0o700)
    done = subprocess.run(
        child, check=False, capture_output=True, text=True, timeout=_TIMEOUT, env=environment
    )
    if done.returncode != 0:
        raise containerd.CommandError(f"{name}: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def _complete(directory: str, reference: str) -> None:
    """Mount an image, and wait until it is complete."""
    begun = time.perf_counter()
    import tocsin  # noqa: PLC0415 (only in a child process, and part of what is measured)

    options = tocsin.RegistryOptions(plain_http=True)
    mount = tocsin.mount(reference, registry=options, cache_dir=f"{directory}/cache")
    with mount:
        while mount.status().state != "complete":
            time.sleep(0.1)
        wall = time.perf_counter() - begun
    print(json.dumps({"wall": wall}))


def _ready(directory: str, reference: str, cached: str) -> None:
    """Measure ``tocsin mount`` in a process that has imported all that it needs."""
    from tocsin.cli import main as tocsin  # noqa: PLC0415 (only in a child process)

    _import()
    place = Path(directory) / "mount"
    place.mkdir()

    def run(*arguments: str) -> float:
        sys.argv = ["tocsin", *arguments]
        begun = time.perf_counter()
        status = tocsin()
        wall = time.perf_counter() - begun
        if status:
            raise SystemExit(f"{arguments[0]}: exit status {status}")
        return wall

    def mount(cache: str) -> float:
        options = ("--plain-http", "--no-background", "--cache-dir", f"{directory}/{cache}")
        wall = run("mount", reference, str(place), *options)
        run("umount", str(place))
        return wall

    mount("first")
    print(json.dumps({"wall": mount("first" if cached == "cached" else "second")}))


def _import() -> None:
    """Import all of tocsin and the HTTP client, so that their files are in memory."""
    import importlib  # noqa: PLC0415 (only in a child process)
    import pkgutil  # noqa: PLC0415

    import requests  # noqa: F401, PLC0415

    import tocsin  # noqa: PLC0415

    for module in pkgutil.walk_packages(tocsin.__path__, "tocsin."):
        # The integrations need the build systems.
        if not module.name.startswith("tocsin.integrations.") and "__main__" not in module.name:
            importlib.import_module(module.name)


_CHILDREN: dict[str, Callable[..., None]] = {
    "complete": _complete,
    "ready": _ready,
    "import": _import,
}

if __name__ == "__main__":
    _CHILDREN[sys.argv[1]](*sys.argv[2:])
