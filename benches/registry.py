"""Measure ``tocsin create`` with a docker-registry on loopback.

::

    python benches/registry.py

An image of four generated layers is pushed. Each round runs, in this order:

- ``download``: download and discard the layers with requests, ``--jobs`` at a time;
- ``local``: ``tocsin.build_ztoc`` of the same layers as files, ``--jobs`` at a time;
- ``create``: the whole command, with ``--rebuild``;
- ``again``: the whole command when everything exists already.

The report has wall times, the ratio of ``create`` to the slower of the first two in the same round
(the main figure is its median), the bytes that ``again`` read, and the peak memory of ``create``
minus that of an interpreter that has imported the same modules.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import measure
import streams

if TYPE_CHECKING:
    from collections.abc import Iterator

_GIB = 1 << 30
_LAYERS = 4
_WINDOW = 32 << 10  # bytes of a checkpoint's window
_PIECE = 1 << 20
_MORE = 8 << 20  # bytes by which each layer exceeds the previous one, so that digests differ
_OCTETS = "application/vnd.oci.image.layer.v1.tar+gzip"


def main() -> int:
    """Run the command line; return 0."""
    parser = argparse.ArgumentParser(description="Measure tocsin create on a local registry.")
    parser.add_argument("--layer-gib", type=float, default=1, help="size of each layer's tar")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments.add_record(parser)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _child(args.child[0], args.child[1:], args.jobs)
        return 0
    with tempfile.TemporaryDirectory() as name, _registry(Path(name)) as host:
        files = _make_layers(Path(name), int(args.layer_gib * _GIB))
        # In a child process, since this one must stay small (see `measure.Cost.peak`).
        push = [sys.executable, __file__, "--child", "push", host, *map(str, files)]
        measure.run(push)
        figures = _measure(host, files, args.jobs, args.rounds)
    figures = {"machine": measure.machine(), "layer_gib": args.layer_gib, **figures}
    report = report_text(figures)
    print(report)
    if not args.no_record:
        print(f"recorded in {measure.record('registry', figures, report, folder=args.record)}")
    return 0


def _measure(host: str, files: list[Path], jobs: int, rounds: int) -> dict[str, Any]:
    image = f"{host}/bench/app:1"
    urls = [f"http://{host}/v2/bench/app/blobs/sha256:{file.name}" for file in files]
    python = [sys.executable, __file__, "--jobs", str(jobs), "--child"]
    create = [sys.executable, "-m", "tocsin", "create", image, "--jobs", str(jobs), "-q"]
    walls: dict[str, list[float]] = {"download": [], "local": [], "create": [], "again": []}
    peak = 0
    for _ in range(rounds):
        walls["download"].append(measure.run([*python, "download", *urls]).wall)
        walls["local"].append(measure.run([*python, "local", *map(str, files)]).wall)
        cost = measure.run([*create, "--rebuild"])
        walls["create"].append(cost.wall)
        peak = max(peak, cost.peak)
        walls["again"].append(measure.run(create).wall)
    idle = measure.run([*python, "idle"]).peak
    again = json.loads(subprocess.check_output([*create[:-1], "--json"], stderr=subprocess.DEVNULL))
    spans = sum(layer["span_count"] for layer in again["platforms"][0]["layers"])
    return {
        "jobs": jobs,
        "layers": [file.stat().st_size for file in files],
        "spans": spans,
        "wall": walls,
        "ratio": statistics.median(
            ours / max(download, local)
            for download, local, ours in zip(
                walls["download"], walls["local"], walls["create"], strict=True
            )
        ),
        "idle": idle,
        "peak": peak,
        "per_layer": (peak - idle - spans * _WINDOW) / min(jobs, len(files)),
        "again_read": again["traffic"]["read"],
        "ztocs": sum(layer["ztoc"]["size"] for layer in again["platforms"][0]["layers"]),
    }


def _child(kind: str, arguments: list[str], jobs: int) -> None:
    """Run one of the comparisons with ``tocsin create``, or push the image."""
    if kind == "push":
        _push(arguments[0], [Path(name) for name in arguments[1:]])
        return
    import requests  # noqa: PLC0415 (not needed by the parent)

    import tocsin  # noqa: PLC0415
    from tocsin.indexing import create  # noqa: F401, PLC0415
    from tocsin.stores import registry  # noqa: F401, PLC0415

    def download(url: str) -> None:
        with requests.get(url, stream=True, timeout=60) as answer:
            while answer.raw.read(_PIECE):
                pass

    def build(path: str) -> None:
        tocsin.build_ztoc(path).to_bytes()

    if kind != "idle":
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(download if kind == "download" else build, arguments))


def _make_layers(directory: Path, size: int) -> list[Path]:
    """Write distinct layers, each named after its digest."""
    import hashlib  # noqa: PLC0415 (only needed here)

    files = []
    for number in range(_LAYERS):
        path = directory / f"layer-{number}"
        sha256 = hashlib.sha256()
        with path.open("wb") as out:
            for piece in streams.layer(size + number * _MORE):
                sha256.update(piece)
                out.write(piece)
        files.append(path.rename(directory / sha256.hexdigest()))
    return files


def _push(host: str, files: list[Path]) -> None:
    from tocsin.model.descriptor import Descriptor  # noqa: PLC0415 (not needed by other children)
    from tocsin.model.digest import Digest  # noqa: PLC0415
    from tocsin.model.manifest import Manifest  # noqa: PLC0415
    from tocsin.model.media_types import OCI_CONFIG, OCI_MANIFEST  # noqa: PLC0415
    from tocsin.model.reference import RegistryReference  # noqa: PLC0415
    from tocsin.stores.registry import open_repository  # noqa: PLC0415

    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{file.name}" for file in files]},
        }
    ).encode()
    with open_repository(RegistryReference(host, "bench/app"), write=True) as store:
        layers = []
        for file in files:
            digest, size = Digest.parse(f"sha256:{file.name}"), file.stat().st_size
            with file.open("rb") as source:
                store.put_blob(iter(lambda: source.read(_PIECE), b""), digest=digest, size=size)
            layers.append(Descriptor(_OCTETS, digest, size))
        store.put_blob(config)
        manifest = Manifest(
            Descriptor.of(config, OCI_CONFIG), tuple(layers), media_type=OCI_MANIFEST
        )
        store.put_manifest(manifest.to_json(), OCI_MANIFEST, tag="1")


@contextmanager
def _registry(directory: Path) -> Iterator[str]:
    """Run Debian's docker-registry; yield its host and port."""
    config = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": "127.0.0.1:0", "secret": "x"},
    }
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is valid YAML
    with subprocess.Popen(
        ["docker-registry", "serve", directory / "config.yml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "listening on" in line:
                    host = json.loads(line)["msg"].removeprefix("listening on ").partition(",")[0]
                    break
            else:
                raise SystemExit("docker-registry did not start")
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield host
        finally:
            process.terminate()


def report_text(figures: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    sizes = ", ".join(f"{size / 1e6:.0f}" for size in figures["layers"])
    wall = {name: statistics.median(values) for name, values in figures["wall"].items()}
    return f"""# Registry

`tocsin create` of an image with four layers of {figures["layer_gib"]:g} GiB ({sizes} MB
compressed) on docker-registry over loopback, `--jobs {figures["jobs"]}`; wall seconds, median of
{len(figures["wall"]["create"])} rounds in rotation.

| download | local build | create | create / larger of both | again | again: read | zTOCs, bytes |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| {wall["download"]:.2f} | {wall["local"]:.2f} | {wall["create"]:.2f} | {figures["ratio"]:.2f} \
| {wall["again"]:.2f} | {figures["again_read"]} | {figures["ztocs"]} |

| idle, MiB | checkpoints, MiB | peak of create, MiB | above both, per active layer, MiB |
| ---: | ---: | ---: | ---: |
| {_mib(figures["idle"])} | {_mib(figures["spans"] * _WINDOW)} | {_mib(figures["peak"])} \
| {_mib(figures["per_layer"])} |
"""


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f}"


if __name__ == "__main__":
    sys.exit(main())
