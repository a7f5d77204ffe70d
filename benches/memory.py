"""Measure how much memory building a zTOC takes for huge layers.

::

    python benches/memory.py

``tocsin.build_ztoc`` reads two layers from a stream, without a file:

- ``layer``: 4 GiB of files that compress about 3:1, with small files between them;
- ``bomb``: several GiB of zeros in one deflate block, 1000:1, to check that memory does not grow
  with the output.

One process makes the stream, and another imports tocsin and reads the stream from a pipe. The
figure is the peak resident set size of the second one, minus its size after importing tocsin. The
report also has the size of the result's checkpoints, 32 KiB each, and the peak after ``to_bytes``.
``--threads`` sets the numbers of threads to build with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import measure
import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_GIB = 1 << 30
_PIECE = 64 << 10  # bytes per read, about what a socket returns
_WINDOW = 32 << 10  # bytes of a checkpoint's window


def main() -> int:
    """Run the command line; return 0, or 1 if a build failed."""
    parser = argparse.ArgumentParser(description="Measure the memory of building huge layers.")
    parser.add_argument("--layer-gib", type=int, default=4, help="size of the layer (default: 4)")
    parser.add_argument("--bomb-gib", type=int, default=6, help="size of the bomb (default: 6)")
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2"
    )
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter with tocsin (default: this one)"
    )
    arguments.add_record(parser)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(build_from_stdin(*args.threads)))
        return 0

    journeys: dict[str, tuple[int, Callable[[int], Iterable[bytes]]]] = {
        "layer": (args.layer_gib, streams.layer),
        "bomb": (args.bomb_gib, streams.bomb),
    }
    results: dict[str, dict[str, Any]] = {}
    for name, (gib, stream) in journeys.items():
        for threads in args.threads:
            found = measure_build(args.python, stream(gib * _GIB), threads)
            if found is None:
                print(f"memory: {name}: the build failed, see above", file=sys.stderr)
                return 1
            results[f"{name}, threads {threads}"] = {"GiB": gib, "threads": threads, **found}
    report = report_text(results)
    print(report)
    if not args.no_record:
        figures = {"machine": measure.machine(), "journeys": results}
        print(f"recorded in {measure.record('memory', figures, report, folder=args.record)}")
    return 0


def measure_build(python: str, stream: Iterable[bytes], threads: int) -> dict[str, Any] | None:
    """Feed `stream` to a child that builds its zTOC; return its figures, or None if it fails."""
    started = time.perf_counter()
    sent = 0
    child = subprocess.Popen(
        [python, __file__, "--child", "--threads", str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with child.stdin as stdin:
            for piece in stream:
                stdin.write(piece)
                sent += len(piece)
    except BrokenPipeError:
        pass  # the child has reported on stderr why it stopped reading
    with child.stdout as stdout:
        answer = stdout.read()
    if child.wait() != 0:
        return None
    return {"compressed": sent, "seconds": time.perf_counter() - started, **json.loads(answer)}


def build_from_stdin(threads: int) -> dict[str, int]:
    """Build a zTOC of the layer on stdin; return sizes and peaks in bytes."""
    import tocsin  # noqa: PLC0415 the parent, which makes the stream, does not need tocsin

    before = peak()
    pieces = iter(partial(sys.stdin.buffer.read, _PIECE), b"")
    ztoc = tocsin.build_ztoc(pieces, threads=threads)
    spans, files = len(ztoc.spans), len(ztoc.files)
    built = peak()
    size = len(ztoc.to_bytes())
    return {
        "before": before,
        "peak": built - before,
        "peak with bytes": peak() - before,
        "spans": spans,
        "files": files,
        "ztoc": size,
    }


def peak() -> int:
    """Return the peak resident set size of this process in bytes."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def report_text(results: dict[str, dict[str, Any]]) -> str:
    """Return the record as Markdown."""
    lines = [
        "# Memory\n",
        "Peak resident set minus that of an interpreter with tocsin imported, in MiB. Checkpoints: "
        "32 KiB for each span, which any result must hold. The bound is 64 MiB plus 24 MiB per "
        "thread.\n",
        "| layer | compressed MB | files | spans | checkpoints | build | with bytes | "
        "build minus checkpoints | bound | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in results.items():
        windows = row["spans"] * _WINDOW
        bound = 64 + 24 * row["threads"]
        lines.append(
            f"| {name}, {row['GiB']} GiB | {row['compressed'] / 1e6:.1f} | {row['files']} "
            f"| {row['spans']} | {_mib(windows)} | {_mib(row['peak'])} "
            f"| {_mib(row['peak with bytes'])} | {_mib(row['peak'] - windows)} "
            f"| {bound} | {row['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


if __name__ == "__main__":
    sys.exit(main())
