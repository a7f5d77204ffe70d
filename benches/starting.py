"""Measure starting a program from an image that has not been downloaded.

::

    python benches/starting.py --corpus DIR [--images A B] [--only start ready] [--rounds 3]
    python benches/starting.py --corpus DIR --quick

It makes three images of real packages (`starting_images`), pushes them to docker-registry, and
measures over a link of 200 Mbit/s and 20 ms (`link`), each time from nothing, in turns:

- ``start``: until the output of a program: containerd with overlayfs, which downloads the image
  first; containerd with an eStargz that was optimized for the program; ``tocsin mount`` with zTOCs
  and with seek tables, by tag and by digest, without and with the recorded list of an earlier run;
- ``programs``: the same for other programs;
- ``everything``: the same for a program that reads every file;
- ``background``: until all of the image is loaded behind the mount;
- ``ready``: until a mount can be used;
- ``snapshotter``: the same as ``start`` with ``tocsin snapshotter`` and containerd, also with an
  access log beside the image and with a pack;
- ``others``: the same for programs that were not recorded;
- ``many``: starting 20 different images at the same time with it;

and over loopback:

- ``loopback``: the same as ``start``;
- ``fetch``: ``tocsin fetch`` and ``tocsin cp``, compared with ``skopeo copy`` and ``umoci unpack``;
- ``second``: the second container of a complete image with containerd, compared with overlayfs;
- ``complete``: work on a mount whose image is complete, compared with native overlayfs;
- ``memory``: memory of the process behind a mount of 200,000 files.

What it makes is kept in DIR (about 8 GB). Needs root. Nothing that it starts or mounts survives it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import containerd
import isolation
import link
import measure
import reading
import starting_containers
import starting_images
import starting_local
import starting_mounts
import starting_registry
import starting_remote
import starting_report
import tools

if TYPE_CHECKING:
    from collections.abc import Callable

_REMOTE = (
    "start",
    "programs",
    "everything",
    "background",
    "ready",
    "snapshotter",
    "others",
    "many",
)
_LOCAL = ("loopback", "fetch", "second", "complete", "memory")
_QUICK = ("start", "ready")
_ROUNDS = 5
_PROGRAMS = ("ip", "nsenter", "unshare", "mount", "umoci", *starting_images.PROGRAMS)


def main() -> int:
    """Run the command line; return 0, or 2 if a required program is missing."""
    args = _arguments()
    isolation.enter()
    args.corpus.mkdir(parents=True, exist_ok=True)
    with (args.corpus / "lock").open("w") as lock:
        try:
            # Runs that share a directory would also disturb each other's times.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"starting: {args.corpus}: in use by another run", file=sys.stderr)
            return 2
        try:
            figures = _measure(args)
        except tools.ToolMissingError as error:
            print(f"starting: {error}", file=sys.stderr)
            return 2
    report = starting_report.text(figures)
    print(report)
    if not args.no_record:
        print(f"recorded in {measure.record('starting', figures, report, folder=args.record)}")
    return 0


def _arguments() -> argparse.Namespace:
    names = starting_images.recipes()
    parser = argparse.ArgumentParser(description="Measure starting programs from remote images.")
    parser.add_argument("--corpus", type=Path, required=True, help="directory to keep images in")
    parser.add_argument("--images", choices=names, nargs="+", default=list(names))
    parser.add_argument("--only", choices=(*_REMOTE, *_LOCAL), nargs="+")
    parser.add_argument(
        "--ways", nargs="+", choices=starting_remote.WAYS, help="ways to start (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument(
        "--quick", action="store_true", help="image A, one round, start and ready: five minutes"
    )
    parser.add_argument(
        "--tocsin",
        default=starting_mounts.COMMAND,
        metavar="COMMAND",
        help="tocsin command to measure (default: that of this interpreter)",
    )
    parser.add_argument(
        "--prepare", action="store_true", help="convert the images again, with tocsin as it is now"
    )
    arguments.add_record(parser)
    args = parser.parse_args()
    if args.quick:
        args.images, args.rounds, args.only = ["A"], 1, args.only or list(_QUICK)
    args.only = args.only or [*_REMOTE, *_LOCAL]
    args.ways = args.ways or list(starting_remote.START)
    args.corpus = args.corpus.resolve()
    return args


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    tools.require([*_PROGRAMS, *starting_registry.PROGRAMS, *starting_mounts.PROGRAMS])
    figures: dict[str, Any] = {
        "machine": measure.machine(),
        "load": os.getloadavg()[0],
        "command": sys.argv[1:],
    }
    stargz: Path | None = None
    try:
        tools.require(containerd.PROGRAMS)
        stargz = containerd.build_stargz(args.corpus / "bin" / "stargz")
    except (tools.ToolMissingError, subprocess.CalledProcessError) as error:
        figures["no estargz"] = str(error)
        args.ways = [way for way in args.ways if way != "estargz"]
    images = starting_images.make(args.corpus, args.images)
    store = args.corpus / "registry"
    figures["failed"] = starting_registry.prepare(
        store, images.values(), stargz, again=args.prepare
    )
    if "many" in args.only and "A" in images:
        starting_containers.prepare_many(args.corpus, store, images["A"])
    figures["images"] = {
        name: {
            "title": image.title,
            "size": image.size,
            "layers": [layer.stat().st_size for layer in image.layers],
            "files": image.files,
            "estargz": starting_registry.layers_size(
                store, starting_registry.repository(name, "estargz")
            ),
        }
        for name, image in images.items()
    }
    parts: dict[str, Callable[[starting_remote.Place], dict[str, Any]]] = {
        "start": lambda place: starting_remote.start(place, "main", args.ways),
        "programs": starting_remote.programs,
        "everything": starting_remote.everything,
        "background": starting_remote.background,
        "ready": starting_remote.ready,
        "snapshotter": starting_remote.snapshotter,
        "others": starting_remote.others,
        "many": starting_containers.many,
        "loopback": lambda place: starting_remote.start(place, "main", args.ways),
        "fetch": starting_local.fetch,
        "second": starting_containers.second,
        "complete": starting_local.complete,
        "memory": starting_local.memory,
    }
    with ExitStack() as stack:
        server, client = stack.enter_context(link.link(reading.RATE, reading.ROUND_TRIP))
        host = stack.enter_context(reading.registry(store, server, link.SERVER))
        given = (args.corpus, images, args.rounds, args.tocsin, stargz)
        _run_parts(
            figures, [part for part in _REMOTE if part in args.only], parts,
            starting_remote.Place(*given, client, host, shaped=True),
        )  # fmt: skip
    with reading.registry(store, [], "127.0.0.1") as host:
        _run_parts(
            figures, [part for part in _LOCAL if part in args.only], parts,
            starting_remote.Place(*given, [], host, shaped=False),
        )  # fmt: skip
    return figures


def _run_parts(
    figures: dict[str, Any],
    names: list[str],
    parts: dict[str, Callable[[starting_remote.Place], dict[str, Any]]],
    place: starting_remote.Place,
) -> None:
    for name in names:
        print(f"== {name}", file=sys.stderr)
        try:
            figures[name] = parts[name](place)
        except Exception as error:
            traceback.print_exc()
            figures["failed"][name] = repr(error)
        (place.corpus / "last.json").write_text(json.dumps(figures), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
