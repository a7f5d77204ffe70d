"""Measure the memory needed to read hostile zTOCs of the maximum size.

::

    python benches/hostile_memory.py --size-mib 1023

Each shape of `hostile_ztocs` is written to a file and read by two child processes: one runs
``tocsin.Ztoc.from_bytes`` and ``info``, the other ``tocsin ztoc info``. The peak resident set of a
child that reads a small zTOC is subtracted from theirs. The report shows the difference as a
multiple of the file's size, and whether the zTOC was read or why it was rejected. The limit is 2.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import hostile_ztocs

MAX_FACTOR = 2.0
"""Peak memory as a multiple of the file's size, as docs/security.md promises."""
_PEAK = """
from pathlib import Path
print(Path('/proc/self/status').read_text('ascii').partition('VmHWM:')[2].split()[0])
"""
_LIBRARY = """
import sys, tocsin
try:
    ztoc = tocsin.Ztoc.from_bytes(open(sys.argv[1], 'rb').read())
    ztoc.info()
    print('read')
except tocsin.TocsinError as error:
    print(error.message)
"""
_COMMAND = """
import sys
from tocsin.cli import main
sys.argv = ['tocsin', 'ztoc', 'info', '-q', sys.argv[1]]
try:
    main()
except SystemExit:
    pass
"""


def main() -> int:
    """Run the command line; return 0, or 1 if a zTOC takes more than `MAX_FACTOR`."""
    parser = argparse.ArgumentParser(description="Measure the memory of hostile zTOCs.")
    parser.add_argument("--size-mib", type=int, default=1023, help="size in MiB (default: 1023)")
    args = parser.parse_args()
    worst = 0.0
    print("| shape | MiB | from_bytes | ztoc info | outcome |\n| --- | ---: | ---: | ---: | --- |")
    for shape, make in hostile_ztocs.SHAPES.items():
        blob = make(args.size_mib << 20)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "ztoc"
            path.write_bytes(blob)
            size = len(blob)
            del blob
            library, outcome = factor(path, command=False)
            command, _ = factor(path, command=True)
        worst = max(worst, library, command)
        print(f"| {shape} | {size >> 20} | {library:.2f} | {command:.2f} | {outcome} |")
    return int(worst > MAX_FACTOR)


def factor(path: Path, *, command: bool) -> tuple[float, str]:
    """Return the peak as a multiple of the file's size, and the outcome."""
    with tempfile.NamedTemporaryFile() as small:
        small.write(hostile_ztocs.SHAPES["entries"](100))
        small.flush()
        base, _ = peak(Path(small.name), command=command)
    taken, outcome = peak(path, command=command)
    return (taken - base) / path.stat().st_size, outcome


def peak(path: Path, *, command: bool) -> tuple[int, str]:
    """Return the peak resident set of a child that reads a zTOC, and the first line it prints.

    The child prints its own peak. The peak that the system reports for an exited child may be that
    of its parent, from which it was forked.
    """
    program = (_COMMAND if command else _LIBRARY) + _PEAK
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    return int(lines[-1]) * 1024, lines[0]


if __name__ == "__main__":
    sys.exit(main())
