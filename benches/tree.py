"""Measure the cost of building, listing and searching the merged tree.

::

    python benches/tree.py --before OLD/python

Each case runs in a separate process. `--before` names the ``python`` directory of another, built
checkout to compare with. Cases:

- ``flat``: a million files in a thousand directories. Peak memory of the tree per entry, without
  the zTOC; CPU time of ``ls -R``, ``find -name`` and ``Image.find``.
- ``deep``: 400 names of 4,090 bytes, 2,042 directories each. Peak memory of the whole process.
- ``opaque``: 6,000 files and as many opaque markers in one directory. CPU time of the tree.
- ``links``: 30,000 files behind 39 links with targets of 4,079 bytes. CPU time of the tree.
- ``warm``: one ``stat``, ``open`` and ``exists`` in an open image with a million files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SOURCES = Path(__file__).resolve().parents[1] / "python"
_DEEP = "a/" * 2042
_TARGET = "x/../" * 815
_LINKS = 39
_FIGURES = {
    "flat: tree, bytes per entry": ("flat", "memory"),
    "flat: tree, CPU s": ("flat", "tree"),
    "flat: ls -R, CPU s": ("flat", "ls"),
    "flat: find -name, CPU s": ("flat", "find"),
    "flat: Image.find, CPU s": ("flat", "walk"),
    "deep: whole process, MiB": ("deep", "whole"),
    "opaque: tree, CPU s": ("opaque", "tree"),
    "links: tree, CPU s": ("links", "tree"),
    "warm: stat, µs": ("warm", "stat"),
    "warm: open, µs": ("warm", "open"),
    "warm: exists, µs": ("warm", "exists"),
}
"""Figures in the report, with their case and measurement."""


def main() -> int:
    """Run the command line; return 0."""
    parser = argparse.ArgumentParser(description="Measure the merged tree.")
    parser.add_argument(
        "--before", type=Path, metavar="DIR", help="python directory of another checkout"
    )
    parser.add_argument("--files", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of rounds; the minimum counts"
    )
    arguments.add_record(parser)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        case, measurement = args.child
        print(json.dumps(MEASUREMENTS[measurement](case)))
        return 0

    versions = {"now": _SOURCES} | ({"before": args.before} if args.before else {})
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for case in dict.fromkeys(case for case, _ in _FIGURES.values()):
            make_image(case, args.files)
        for name, (case, measurement) in _FIGURES.items():
            figures[name] = {
                version: min(run_child(sources, case, measurement) for _ in range(args.rounds))
                for version, sources in versions.items()
            }
            print(name, figures[name], flush=True)
    report = report_text(figures, args.files)
    print(report)
    if not args.no_record:
        data = {"machine": measure.machine(), "files": args.files, "figures": figures}
        print(f"recorded in {measure.record('tree', data, report, folder=args.record)}")
    return 0


def run_child(sources: Path, case: str, measurement: str) -> float:
    """Run one measurement with the tocsin in `sources`."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", case, measurement],
        env={**os.environ, "PYTHONPATH": str(sources.resolve())},
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(json.loads(done.stdout))


# -- images ----------------------------------------------------------------------------------------


def entries(case: str, files: int) -> Iterator[tuple[str, bytes, str]]:
    """Yield the name, type and link target of each entry in a case's layer."""
    file, directory, link = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE
    if case in ("flat", "warm"):
        for number in range(files):
            yield f"usr/share/d{number // 1000}/file-{number}.txt", file, ""
    elif case == "deep":
        for number in range(400):
            yield f"{number:05}/{_DEEP}f"[-4090:], file, ""
    elif case == "opaque":
        for number in range(6000):
            yield f"d/f{number}", file, ""
        for _ in range(6000):
            yield "d/.wh..wh..opq", file, ""
    elif case == "links":
        yield "x", directory, ""
        for number in range(_LINKS):
            yield f"s{number}", link, f"{_TARGET}s{number + 1}"
        yield f"s{_LINKS}", directory, ""
        for number in range(30_000):
            yield f"s0/f{number}", file, ""


def make_image(case: str, files: int) -> None:
    """Write an image layout with one layer and no zTOC to the directory `case`."""
    blobs = Path(case, "blobs", "sha256")
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{digest}",
            "size": len(data),
        }

    packed, plain = io.BytesIO(), hashlib.sha256()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as layer:
        for name, kind, target in entries(case, files):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            block = info.tobuf(tarfile.PAX_FORMAT)
            plain.update(block)
            layer.write(block)
        plain.update(bytes(1024))
        layer.write(bytes(1024))
    layers = [blob(packed.getvalue(), "layer.v1.tar+gzip")]
    diff_ids = [f"sha256:{plain.hexdigest()}"]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": layers,
    }
    top = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    Path(case, "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    Path(case, "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))


# -- in the child ----------------------------------------------------------------------------------


def memory(case: str) -> float:
    """Return the peak memory of building the tree in bytes per entry, without the zTOC."""
    import tocsin  # noqa: PLC0415 (the version to measure)

    with tocsin.open(f"oci:{case}:t") as image:
        count = merged(image).layers[0].entry_count
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        assert merged(image).tree
        return (status("VmHWM") - before) / count


def tree(case: str) -> float:
    """Return the CPU time of building the tree."""
    import tocsin  # noqa: PLC0415

    with tocsin.open(f"oci:{case}:t") as image:
        assert merged(image).layers
        return cpu_of(lambda: merged(image).tree)


def whole(case: str) -> float:
    """Return the peak memory of a process that runs stat on the root, in MiB."""
    return command("stat", case, "/").peak / (1 << 20)


def ls(case: str) -> float:
    """Return the CPU time of ``tocsin ls -R``."""
    return command("ls", case, "-R").cpu


def find(case: str) -> float:
    """Return the CPU time of ``tocsin find -name``."""
    return command("find", case, "-name", "*-77*.txt").cpu


def command(name: str, case: str, *more: str) -> measure.Cost:
    """Run a tocsin command."""
    return measure.run([sys.executable, "-m", "tocsin", name, f"oci:{case}:t", *more])


def walk(case: str) -> float:
    """Return the CPU time of iterating over ``Image.find``."""
    import tocsin  # noqa: PLC0415

    with tocsin.open(f"oci:{case}:t") as image:
        assert merged(image).tree
        return cpu_of(lambda: sum(1 for _ in image.find()))


def once(call: str) -> Callable[[str], float]:
    """Return a measurement of one method call on an open image, in microseconds."""

    def measurement(case: str) -> float:
        import tocsin  # noqa: PLC0415

        with tocsin.open(f"oci:{case}:t") as image:
            method = getattr(image, call)
            numbers = range(0, merged(image).layers[0].entry_count, 997)
            paths = [f"/usr/share/d{number // 1000}/file-{number}.txt" for number in numbers]

            def all_paths() -> None:
                for path in paths:
                    method(path)

            all_paths()
            return min(cpu_of(all_paths) for _ in range(5)) / len(paths) * 1e6

    return measurement


MEASUREMENTS: dict[str, Callable[[str], float]] = {
    "memory": memory,
    "tree": tree,
    "whole": whole,
    "ls": ls,
    "find": find,
    "walk": walk,
    "stat": once("stat"),
    "open": once("open"),
    "exists": once("exists"),
}


def merged(image: Any) -> Any:  # noqa: ANN401 (the class depends on the version)
    """Return the object that has the image's tree; in older checkouts, the image itself."""
    return getattr(image, "_merged", image)


def cpu_of(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def status(field: str) -> int:
    """Return a size in bytes from the status of this process."""
    text = Path("/proc/self/status").read_text("ascii")
    return int(text.partition(f"{field}:")[2].split()[0]) * 1024


# -- the report ------------------------------------------------------------------------------------


def report_text(figures: dict[str, dict[str, float]], files: int) -> str:
    """Return the record as Markdown."""
    lines = [
        "# The merged tree\n",
        f"`benches/tree.py`; flat and warm have {files:,} files. Minimum of the rounds, each in "
        "a separate process. The images have no zTOCs, so commands build one first.\n",
        "| case | before | now | now / before |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, found in figures.items():
        before, now = found.get("before"), found["now"]
        ratio = "-" if not before else f"{now / before:.3f}"
        lines.append(
            f"| {name} | {'-' if before is None else f'{before:,.2f}'} | {now:,.2f} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
