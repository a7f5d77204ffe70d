"""Measure seek tables: their size, the cost of making them, and reading with them.

::

    TMPDIR=/dev/shm python benches/seek.py --corpus .build/corpus

The image has four layers of the full corpus and of PyPI: a Debian root file system, Python packages
with numpy and pandas, packages for machine learning, and node_modules. Every figure is measured
next to that of zTOCs, in the same run and on the same image:

- ``size``: bytes of the tables of each layer and of the image, at span sizes of 256 KiB and 1 MiB,
  and bytes of the file list per entry;
- ``build``: CPU time on one core and wall time on two for indexing with a seek table, divided by
  that without;
- ``remote``: reading a file of 10 KiB, listing ``/``, and reading the first 300 files that ``import
  numpy, pandas`` opens, from docker-registry over a link of 200 Mbit/s and 20 ms; then a file of
  500 MB from start to end;
- ``local``: cold random reads of files up to 64 KiB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import goals
import link
import measure
import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tocsin.layers.ztoc import Ztoc

LAYERS = ("rootfs", "python", "ml", "node")
SPAN_SIZES = (256 << 10, 1 << 20)
_COMPRESSOR = "go"  # as in container tools
_ROUNDS = 5
_COLD_READS = 200
_PACKAGES = ("numpy", "pandas")
_SITE = "usr/local/lib/python3/site-packages"
_BIG_SIZE = 500_000_000
_IMPORTED_COUNT = 300
_PARTS = ("size", "build", "remote", "local")


def main() -> int:
    """Run the command line; return 0."""
    parser = argparse.ArgumentParser(description="Measure seek tables.")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--only", choices=_PARTS, action="append")
    parser.add_argument("--python-layer", type=Path, help="directory to keep the Python layer in")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    arguments.add_record(parser)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _CHILDREN[args.child[0]](*args.child[1:])
        return 0
    wanted = args.only or _PARTS
    figures: dict[str, Any] = {"machine": measure.machine(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        files, imported = _layers(args.python_layer or directory, args.corpus)
        figures["imported"] = len(imported)
        if "build" in wanted:
            figures["build"] = _build(files, args.rounds)
        if {"size", "remote"} & set(wanted):
            image = _make_image(directory, files, args.corpus / "rootfs.tar")
            figures["size"] = _sizes(image, files)
        if "remote" in wanted and os.geteuid() == 0:
            figures["remote"] = _remote(directory, image, imported, args.rounds)
        if "local" in wanted:
            figures["local"] = _local(files["rootfs"], args.rounds)
    report = report_text(figures)
    print(report)
    if not args.no_record:
        print(f"recorded in {measure.record('seek', figures, report, folder=args.record)}")
    return 0


# -- layers ------------------------------------------------------------------------------------


def _layers(directory: Path, corpus: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the compressed layers, and the paths in them that the import opens."""
    files = {name: corpus / f"{name}.{_COMPRESSOR}.gz" for name in LAYERS if name != "python"}
    files["python"] = directory / "python.tar.gz"
    names = directory / "imported.json"
    if not names.exists():
        root = directory / "python"
        site = root / _SITE
        pip = [sys.executable, "-m", "pip", "install", "-q", "--root-user-action=ignore"]
        subprocess.run([*pip, "--target", str(site), *_PACKAGES], check=True)
        names.write_text(json.dumps(_imported(root, site)))
        tar = ["tar", "-C", str(root), "--sort=name", "--owner=0", "--group=0", "-c", "usr"]
        with (
            files["python"].open("wb") as out,
            subprocess.Popen(tar, stdout=subprocess.PIPE) as process,
        ):
            subprocess.run(["gzip", "-6", "-n"], stdin=process.stdout, stdout=out, check=True)
        shutil.rmtree(root)
    return {name: files[name] for name in LAYERS}, json.loads(names.read_text())


def _imported(root: Path, site: Path) -> list[str]:
    """Return the files below `root` that the import opens, in the order of their first use."""
    trace = root.parent / "strace"
    run = ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", str(trace)]
    code = f"import {', '.join(_PACKAGES)}"
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*run, sys.executable, "-S", "-c", code], env=environment, check=True)
    opened = re.findall(r'"([^"]+)", [^)]*\) += \d', trace.read_text())
    found = [Path(path) for path in dict.fromkeys(opened) if path.startswith(str(site))]
    return [f"/{path.relative_to(root)}" for path in found if path.is_file()]


def _make_image(directory: Path, files: dict[str, Path], tar: Path) -> dict[str, Any]:
    """Make a layout with the image, and one with the start of `tar` as a file, both indexed."""
    import tocsin  # noqa: PLC0415 (children of `measure.run` must stay small)

    reference = f"oci:{directory}/layout"
    reading.put_image(directory / "layout", files.values(), tag="plain")
    for span_size in SPAN_SIZES:
        options = tocsin.IndexingOptions(seek=True, seek_span_size=span_size)
        made = tocsin.convert(
            f"{reference}:plain", f"{reference}:s{span_size >> 10}", options=options
        )
        if made.platforms[0].seek_problem is not None:
            raise SystemExit(f"no seek table: {made.platforms[0].seek_problem}")
    with tocsin.open(f"{reference}:s{SPAN_SIZES[0] >> 10}", index="v2") as opened:
        small = min(
            (found for found in opened.find("/") if found.is_file and found.layer == 0),
            key=lambda found: abs(found.size - 10_240),
        )
    big = directory / "big.tar.gz"
    reading.make_big(tar, big, _BIG_SIZE)
    reading.put_image(directory / "layout", [big], tag="big")
    options = tocsin.IndexingOptions(seek=True)
    tocsin.convert(f"{reference}:big", f"{reference}:bigs", options=options)
    big.unlink()
    return {"reference": reference, "small": small.path, "small_size": small.size}


# -- size --------------------------------------------------------------------------------------


def _sizes(image: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    """Return the table sizes of each layer and the image, and the entry count of the file list."""
    from tocsin import _core  # noqa: PLC0415 (children must stay small)
    from tocsin.images.seek_tables import bound_seek_table  # noqa: PLC0415
    from tocsin.images.selection import platform_images, resolve_image  # noqa: PLC0415
    from tocsin.images.soci_indexes import soci_indexes_of  # noqa: PLC0415
    from tocsin.stores.opening import open_source  # noqa: PLC0415
    from tocsin.stores.places import reference_of  # noqa: PLC0415

    found: dict[str, Any] = {}
    for span_size in SPAN_SIZES:
        reference = reference_of(f"{image['reference']}:s{span_size >> 10}")
        with open_source(reference) as store:
            target = resolve_image(store, reference.selector)
            (one,) = platform_images(store, target, None)
            table = bound_seek_table(store, one.manifest)
            (index,) = soci_indexes_of(store, one.descriptor, one.manifest)
        assert table is not None
        assert table.manifest is not None
        assert table.root is not None
        assert index.soci_index is not None
        layers = one.manifest.layers or ()
        blobs = [blob.size for blob in table.manifest.layers]
        whole = len(table.root) + table.manifest.file_list.size
        ztocs = [index.soci_index.ztoc_of(layer.digest) for layer in layers]
        found[str(span_size)] = {
            "layers": dict(zip(files, blobs, strict=True)),
            "root": len(table.root),
            "file_list": table.manifest.file_list.size,
            "entries": _core.SeekRoot(table.root).entry_count,
            "image": whole + sum(blobs),
        }
        found["compressed"] = dict(zip(files, (layer.size for layer in layers), strict=True))
        found["ztocs"] = dict(zip(files, (ztoc.size for ztoc in ztocs if ztoc), strict=True))
    root, blob = _core.build_seek_table([(*_indexed(files["node"]), f"sha256:{'0' * 64}")])
    node = _core.SeekRoot(root)
    size = len(blob) - node.positions_range[1]
    found["node"] = {"entries": node.entry_count, "file_list": size}
    return found


def _indexed(layer: Path, *, seek: int | None = SPAN_SIZES[0], threads: int = 2) -> Any:  # noqa: ANN401 (objects of `_core`)
    """Return the zTOC and the seek blob of a layer, as `_core` objects."""
    from tocsin import _core  # noqa: PLC0415 (children must stay small)

    indexer = _core.LayerIndexer(
        format="gzip",
        span_size=4 << 20,
        build_tool_identifier="benches",
        diff_id=False,
        reference_identical=False,
        threads=threads,
        seek_span_size=seek,
    )
    with layer.open("rb") as file:
        while piece := file.read(1 << 20):
            indexer.push(piece)
    found = indexer.finish()
    return found.ztoc, found.seek


# -- build -------------------------------------------------------------------------------------


def _build(files: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Return the costs of indexing each layer, without and with a seek table, in turns."""
    found: dict[str, Any] = {}
    for name, path in files.items():
        found[name] = {}
        for cpus in (1, 2):
            measure.pin(cpus)
            pairs = []
            for number in range(rounds + 1):
                pair = [
                    reading.run_json(_child("index", str(path), str(seek), str(cpus)))
                    for seek in (0, SPAN_SIZES[0])
                ]
                if number:
                    pairs.append(pair)
            found[name][str(cpus)] = {
                "pairs": pairs,
                "cpu": _ratio(pairs, "cpu"),
                "wall": _ratio(pairs, "wall"),
                "peak": _ratio(pairs, "peak"),
            }
    measure.pin(len(os.sched_getaffinity(0)))
    return found


def _child(*words: str) -> list[str]:
    return [sys.executable, __file__, "--corpus", ".", "--child", *words]


def _ratio(pairs: Iterable[list[dict[str, float]]], figure: str) -> float:
    return statistics.median(pair[1][figure] / pair[0][figure] for pair in pairs)


def _index(layer: str, seek: str, threads: str) -> None:
    from tocsin import _core  # noqa: F401, PLC0415 (imported before measuring)

    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    _indexed(Path(layer), seek=int(seek) or None, threads=int(threads))
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    json.dump({"wall": wall, "cpu": cpu, "peak": after.ru_maxrss}, sys.stdout)


# -- remote ------------------------------------------------------------------------------------


def _remote(
    directory: Path, image: dict[str, Any], imported: list[str], rounds: int
) -> dict[str, Any]:
    names = directory / "names.json"
    names.write_text(json.dumps(imported[:_IMPORTED_COUNT]))
    copy = ["skopeo", "--insecure-policy", "copy", "--all", "-q", "--dest-tls-verify=false"]
    found: dict[str, Any] = {}
    with (
        link.link(reading.RATE, reading.ROUND_TRIP) as (server, client),
        reading.registry(directory, server, link.SERVER) as host,
    ):
        for tag in (f"s{SPAN_SIZES[0] >> 10}", "bigs"):
            source = f"{image['reference']}:{tag}"
            target = f"docker://{host}/bench/seek:{tag}"
            subprocess.run([*server, *copy, source, target], check=True)
        pushed = f"{host}/bench/seek"
        for name, words in {
            "ls": ("ls", f"{pushed}:s{SPAN_SIZES[0] >> 10}", "/"),
            "small": ("small", f"{pushed}:s{SPAN_SIZES[0] >> 10}", image["small"]),
            "import": ("import", f"{pushed}:s{SPAN_SIZES[0] >> 10}", str(names)),
            "big": ("big", f"{pushed}:bigs", "/data/big"),
        }.items():
            runs = [
                [reading.run_json([*client, *_child(*words, index)]) for index in ("v2", "seek")]
                for _ in range(rounds if name != "big" else min(rounds, 3))
            ]
            _check_same(runs)
            found[name] = {
                "runs": runs,
                "ratio": _ratio(runs, "wall"),
                "ztoc": min((pair[0] for pair in runs), key=lambda run: run["wall"]),
                "seek": min((pair[1] for pair in runs), key=lambda run: run["wall"]),
            }
    return found


def _check_same(runs: list[list[dict[str, Any]]]) -> None:
    """Check that all runs read the same."""
    found = {
        (run.get("digest"), run.get("size"), run.get("names")) for pair in runs for run in pair
    }
    if len(found) != 1:
        raise SystemExit(f"the runs read different data: {found}")


def _opened(
    reference: str, index: str, work: Callable[[Any, str], dict[str, Any]], given: str
) -> None:
    """Open an image, run `work` on it with what is given, and print time and traffic."""
    import tocsin  # noqa: PLC0415 (only in a child process)

    tocsin.Image  # noqa: B018 (import it before measuring)
    requests: list[str] = []
    options = replace(reading.options(), debug=requests.append)
    begun = time.perf_counter()
    with tocsin.open(reference, index=index, registry=options) as image:
        more = work(image, given)
        figures = {
            "wall": time.perf_counter() - begun,
            "read": image.traffic.read,
            "requests": sum(line.startswith("> ") for line in requests),
        }
        json.dump({**figures, **more}, sys.stdout)


def _ls(image: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 (imported only in a child process)
    return {"names": len(list(image.ls(path)))}


def _small(image: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 (as above)
    data = image.cat(path)
    return {"size": len(data), "digest": hashlib.sha256(data).hexdigest()}


def _big(image: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 (as above)
    size = 0
    with image.open(path) as file:
        while data := file.read(1 << 20):
            size += len(data)
    return {"size": size}


def _import(reference: str, names: str, index: str) -> None:
    """Read the files of the import all at once, as a loader that knows the list does."""
    from tocsin.reading.filesystem import TocsinFileSystem  # noqa: PLC0415 (only in a child process)

    paths = json.loads(Path(names).read_text())
    begun = time.perf_counter()
    files = TocsinFileSystem(reference, index=index, plain_http=True)
    data = files.cat_ranges(paths, None, None, on_error="raise")
    figures = {
        "wall": time.perf_counter() - begun,
        "read": files.image.traffic.read,
        "files": len(data),
        "size": sum(map(len, data)),
        "digest": hashlib.sha256(b"".join(data)).hexdigest(),  # type: ignore[arg-type]  # or it has raised
        "touched": _touched(files.image, paths),
    }
    json.dump(figures, sys.stdout)


def _touched(image: Any, paths: list[str]) -> int:  # noqa: ANN401 (imported only in a child process)
    """Return the compressed bytes of the spans that hold files and their headers."""
    total: dict[tuple[int, int, int], int] = {}
    for path in paths:
        node = image._merged.tree.find(path)[1]
        layer = image._merged.layers[node.layer]
        place = layer.place(node.entry)
        table = layer.spans.table
        last_byte = place.offset + max(place.size, 1) - 1
        first, last = table.span_of(place.start), table.span_of(last_byte)
        for span_id in range(first, last + 1):
            start, end = table.compressed_range(span_id)
            total[node.layer, start, end] = end - start
    return sum(total.values())


# -- local -------------------------------------------------------------------------------------


def _local(layer: Path, rounds: int) -> dict[str, Any]:
    pairs = [
        [
            reading.run_json(["taskset", "-c", "1", *_child("cold", str(layer), kind)])
            for kind in ("ztoc", "seek")
        ]
        for _ in range(rounds)
    ]
    _check_same(pairs)
    return {
        "pairs": pairs,
        "ztoc": statistics.median(pair[0]["median"] for pair in pairs),
        "seek": statistics.median(pair[1]["median"] for pair in pairs),
        "ratio": _ratio(pairs, "median"),
        "ratio_mean": _ratio(pairs, "mean"),
    }


def _cold(layer: str, kind: str) -> None:
    """Read random files, each from the start of its span, with all checkpoints in memory."""
    from tocsin import _core  # noqa: PLC0415 (only in a child process)
    from tocsin.layers.ztoc import Ztoc  # noqa: PLC0415

    path = Path(layer)
    ztoc, seek = _indexed(path, threads=1)
    spans: Any = ztoc
    if kind == "seek":
        spans = seek.spans()
        for chunk in range(seek.chunk_count):
            start, end = seek.chunk_range(chunk)
            spans.add_chunk(chunk, seek.blob[start:end])
    range_of = spans.compressed_range if kind == "seek" else spans.span_range
    took, digest = [], hashlib.sha256()
    with path.open("rb") as file:
        for offset, size in _chosen(Ztoc(ztoc)):
            end = offset + size
            begun = time.perf_counter()
            data = b""
            for span_id in range(spans.span_of(offset), spans.span_of(end - 1) + 1):
                first, last = range_of(span_id)
                file.seek(first)
                span = _core.SpanReader(spans, span_id, file.read(last - first))
                data += span.read(max(offset, span.start), min(end, span.end))
            took.append(time.perf_counter() - begun)
            assert len(data) == size
            digest.update(data)
    figures = {"median": statistics.median(took), "mean": statistics.mean(took)}
    json.dump({**figures, "digest": digest.hexdigest()}, sys.stdout)


def _chosen(ztoc: Ztoc) -> list[tuple[int, int]]:
    """Return offset and size of random regular files of up to 64 KiB."""
    small = [
        (entry.uncompressed_offset, entry.uncompressed_size)
        for entry in ztoc.entries
        if entry.type == "reg" and 0 < entry.uncompressed_size <= 64 << 10
    ]
    return random.Random(8).sample(small, _COLD_READS)  # noqa: S311 (not a secret)


_CHILDREN: dict[str, Callable[..., None]] = {
    "index": _index,
    "ls": lambda reference, path, index: _opened(reference, index, _ls, path),
    "small": lambda reference, path, index: _opened(reference, index, _small, path),
    "big": lambda reference, path, index: _opened(reference, index, _big, path),
    "import": _import,
    "cold": _cold,
}


# -- report ------------------------------------------------------------------------------------


def report_text(figures: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = ["# Seek tables", "", f"Load of the machine at the start: {figures['load']:.1f}.", ""]
    reached: dict[goals.Goal, dict[str, float | None]] = {}
    for name, part in (
        ("size", _size_report),
        ("build", _build_report),
        ("remote", _remote_report),
        ("local", _local_report),
    ):
        if name in figures:
            lines += [*part(figures[name], reached), ""]
    return "\n".join([*lines, "## Goals", "", *goals.table(reached)]) + "\n"


_Goals = dict[goals.Goal, dict[str, "float | None"]]


def _size_report(found: dict[str, Any], reached: _Goals) -> list[str]:
    compressed, ztocs = found["compressed"], found["ztocs"]
    total = sum(compressed.values())
    node = found["node"]["file_list"] / found["node"]["entries"]
    lines = [
        "## Size",
        "",
        "Sizes in bytes: seek blobs; root, position map and file list; zTOCs (4 MiB).",
        "",
        "| | compressed | zTOC | 256 KiB | of the layer | 1 MiB | of the layer |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    tables = [found[str(span_size)] for span_size in SPAN_SIZES]
    for name in LAYERS:
        sizes = [table["layers"][name] for table in tables]
        lines.append(_size_row(name, compressed[name], ztocs[name], sizes))
    wholes = [table["root"] + table["file_list"] for table in tables]
    lines.append(_size_row("root, positions, file list", total, 0, wholes))
    images = [table["image"] for table in tables]
    lines.append(_size_row("image", total, sum(ztocs.values()), images))
    lines += [
        "",
        f"The file list of node_modules alone has {found['node']['entries']:,} entries in "
        f"{found['node']['file_list']:,} bytes, {node:.2f} each.",
    ]
    for table, of_image, of_layer, name in zip(
        tables, (1.6, 0.4), (1.9, 0.5), ("256 KiB", "1 MiB"), strict=True
    ):
        largest = max(table["layers"][one] / compressed[one] for one in LAYERS)
        goal = goals.Goal(f"size of the image's table at {name}, %", of_image, at_most=True)
        reached[goal] = {"seek table": table["image"] / total * 100}
        goal = goals.Goal(f"largest share of a layer at {name}, %", of_layer, at_most=True)
        reached[goal] = {"seek table": largest * 100}
    goal = goals.Goal("bytes of the file list for each entry of node_modules", 6, at_most=True)
    reached[goal] = {"seek table": node}
    return lines


def _size_row(name: str, compressed: int, ztoc: int, sizes: list[int]) -> str:
    cells = [f"{size:,} | {size / compressed * 100:.2f} %" for size in sizes]
    return f"| {name} | {compressed:,} | {ztoc:,} | {' | '.join(cells)} |"


def _build_report(found: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Build",
        "",
        "Indexing with a seek table (256 KiB) divided by indexing without; medians, runs in turns.",
        "",
        "| layer | CPU, one core | wall, two cores | CPU, two cores | peak memory |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, cells in found.items():
        one, two = cells["1"], cells["2"]
        lines.append(
            f"| {name} | {one['cpu']:.2f} | {two['wall']:.2f} | {two['cpu']:.2f} "
            f"| {one['peak']:.2f} |"
        )
    for text, bound, cpus, figure in (
        ("CPU time of a build on one core, over one without", 1.35, "1", "cpu"),
        ("wall time of a build on two cores, over one without", 1.25, "2", "wall"),
    ):
        values: dict[str, float | None] = {name: found[name][cpus][figure] for name in found}
        reached[goals.Goal(text, bound, at_most=True)] = values
    return lines


def _remote_report(found: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## docker-registry over 200 Mbit/s, 20 ms",
        "",
        "The fastest run with zTOCs (`--index v2`) and with the seek table (256 KiB), each in its "
        "own process, not counting its start; the ratio is the median of runs in turns.",
        "",
        "| | wall, s | bytes | requests | seek table: wall, s | bytes | requests | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    titles = {
        "ls": "`ls /`",
        "small": "`cat` of 10 KiB",
        "import": f"{found['import']['seek']['files']} files of the import",
        "big": "500 MB from start to end",
    }
    for name, title in titles.items():
        cells = [
            f"{run['wall']:.2f} | {run['read']:,} | {run.get('requests', '-')}"
            for run in (found[name]["ztoc"], found[name]["seek"])
        ]
        lines.append(f"| {title} | {' | '.join(cells)} | {found[name]['ratio']:.2f} |")
    many = found["import"]["seek"]
    lines += [
        "",
        f"The files of the import have {many['size']:,} bytes; their spans {many['touched']:,} "
        "compressed bytes.",
    ]
    for text, bound, value in (
        ("wall time of `cat` of 10 KiB, s", 0.40, found["small"]["seek"]["wall"]),
        ("bytes of `cat` of 10 KiB, KB", 250, found["small"]["seek"]["read"] / 1e3),
        ("wall time of `ls /`, s", 0.25, found["ls"]["seek"]["wall"]),
        ("bytes of `ls /`, KB", 60, found["ls"]["seek"]["read"] / 1e3),
        ("wall time of the import's files, over zTOCs", 0.35, found["import"]["ratio"]),
        ("bytes of the import, over its spans", 1.35, many["read"] / many["touched"]),
        ("wall time of a sequential file, over zTOCs", 1.0, found["big"]["ratio"]),
    ):
        reached[goals.Goal(text, bound, at_most=True)] = {"seek table": value}
    return lines


def _local_report(found: dict[str, Any], reached: _Goals) -> list[str]:
    goal = goals.Goal("cold random read, over the zTOC (4 MiB)", 0.12, at_most=True)
    reached[goal] = {"seek table": found["ratio"]}
    return [
        "## Local",
        "",
        f"Cold random read of a file up to 64 KiB, digests checked, one CPU: zTOC "
        f"{found['ztoc'] * 1e3:.2f} ms, seek table {found['seek'] * 1e3:.2f} ms; ratio of the "
        f"medians {found['ratio']:.3f}, of the means {found['ratio_mean']:.3f}.",
    ]


if __name__ == "__main__":
    sys.exit(main())
