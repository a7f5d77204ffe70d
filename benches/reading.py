"""Measure lazy reading of single files, compared with a full copy and ``indexed_gzip``.

::

    python benches/reading.py --corpus .build/corpus

``remote``: a converted image of the corpus's layers in docker-registry, over a link of 200 Mbit/s
and 20 ms (`link`) and over loopback. It measures reading one file of 10 KiB with ``tocsin.open`` in
a separate process and the bytes fetched, compared with ``skopeo copy`` of the whole image; and
reading a file of about 500 MB from start to end, compared with a plain download of the same
compressed bytes.

``local``: TOC lookups, the merged tree of 200,000 files, warm and cold random reads (one CPU)
compared with ``indexed_gzip`` in the same run, and extraction compared with ``tar xzf``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arguments
import link
import measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin import Image, RegistryOptions
    from tocsin.model.descriptor import Descriptor
    from tocsin.reading.layer import Layer

RATE, ROUND_TRIP = 200e6, 0.02
_FILES = 200_000
_COLD_READS = 200
_SPACING = 4 << 20


def main() -> int:
    """Run the command line; return 0."""
    parser = argparse.ArgumentParser(description="Measure lazy reading.")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--only", choices=("remote", "local"))
    arguments.add_record(parser)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _CHILDREN[args.child[0]](*args.child[1:])
        return 0
    figures: dict[str, Any] = {"machine": measure.machine()}
    with tempfile.TemporaryDirectory() as name:
        if args.only != "local":
            image = _make_image(Path(name), args.corpus)
            figures["loopback"] = _remote(Path(name), image, None)
            if os.geteuid() == 0:
                figures["link"] = _remote(Path(name), image, (RATE, ROUND_TRIP))
        if args.only != "remote":
            figures["local"] = _local(Path(name), args.corpus)
    report = report_text(figures)
    print(report)
    if not args.no_record:
        print(f"recorded in {measure.record('reading', figures, report, folder=args.record)}")
    return 0


# -- remote ------------------------------------------------------------------------------------


def make_big(source: Path, out: Path, size: int) -> None:
    """Make a layer with the start of `source` as a single file, ``/data/big``."""
    with subprocess.Popen(["gzip", "-6"], stdin=subprocess.PIPE, stdout=out.open("wb")) as gzip:
        assert gzip.stdin is not None
        with tarfile.open(fileobj=gzip.stdin, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("data/big")
            info.size = min(size, source.stat().st_size)
            with source.open("rb") as data:
                tar.addfile(info, data)
        gzip.stdin.close()


def put_image(directory: Path, files: Iterable[Path], *, tag: str) -> tuple[Descriptor, ...]:
    """Put an image with gzip layers into a layout, and return the descriptors of the layers."""
    from tocsin.model.descriptor import Descriptor  # noqa: PLC0415 (children must stay small)
    from tocsin.model.manifest import Manifest  # noqa: PLC0415
    from tocsin.stores.layout import OciLayout  # noqa: PLC0415

    octets = "application/vnd.oci.image.layer.v1.tar+gzip"
    with OciLayout(directory, write=True) as store:
        layers = []
        for file in files:
            with file.open("rb") as data:
                put = store.put_blob(iter(lambda: data.read(1 << 20), b""))
            layers.append(Descriptor(octets, put.digest, put.size))
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers]},
            }
        ).encode()
        described = store.put_blob(config)
        manifest = Manifest(
            Descriptor("application/vnd.oci.image.config.v1+json", described.digest, len(config)),
            tuple(layers),
            media_type="application/vnd.oci.image.manifest.v1+json",
        )
        store.put_manifest(manifest.to_json(), manifest.media_type, tag=tag)
    return tuple(layers)


def _make_image(directory: Path, corpus: Path) -> dict[str, Any]:
    """Make a layout with a converted image of the corpus's layers and one large file."""
    import tocsin  # noqa: PLC0415 (children of `measure.run` must stay small)

    big = directory / "big.tar.gz"
    make_big(corpus / "rootfs.tar", big, 500_000_000)
    files = [corpus / f"{name}.gzip.gz" for name in ("rootfs", "ml", "node", "packed", "text")]
    layers = put_image(directory / "layout", [*files, corpus / "node.go.gz", big], tag="plain")
    reference = f"oci:{directory}/layout"
    tocsin.convert(f"{reference}:plain", f"{reference}:soci")
    with tocsin.open(f"{reference}:soci") as opened:
        small = min(
            (f for f in opened.find("/") if f.is_file and f.layer == 0),
            key=lambda found: abs(found.size - 10_240),
        )
    return {
        "reference": f"{reference}:soci",
        "size": sum(layer.size for layer in layers),
        "small": small.path,
        "small_size": small.size,
        "big_digest": str(layers[-1].digest),
        "big_size": layers[-1].size,
    }


@contextmanager
def registry(directory: Path, before: list[str], host: str) -> Iterator[str]:
    """Run docker-registry with the command prefix `before`; yield its host and port."""
    config = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": f"{host}:5077", "secret": "x"},
    }
    path = directory / "config.yml"
    path.write_text(json.dumps(config))  # JSON is valid YAML
    with subprocess.Popen(
        [*before, "docker-registry", "serve", path],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            ready = [*before, sys.executable, __file__, "--corpus", ".", "--child", "wait", host]
            subprocess.run(ready, check=True)
            yield f"{host}:5077"
        finally:
            process.terminate()


def _remote(
    directory: Path, image: dict[str, Any], shape: tuple[float, float] | None
) -> dict[str, Any]:
    if shape is None:
        return _measure_remote(directory, image, [], [], "127.0.0.1")
    with link.link(*shape) as (server, client):
        return _measure_remote(directory, image, server, client, link.SERVER)


def _measure_remote(
    directory: Path, image: dict[str, Any], server: list[str], client: list[str], address: str
) -> dict[str, Any]:
    with registry(directory, server, address) as host:
        # Push from the server's end, which the slow link does not affect.
        copy = ["skopeo", "--insecure-policy", "copy", "--all", "-q", "--dest-tls-verify=false"]
        pushed = f"{host}/bench/read:soci"
        subprocess.run([*server, *copy, image["reference"], f"docker://{pushed}"], check=True)
        child = [*client, sys.executable, __file__, "--corpus", ".", "--child"]
        found: dict[str, Any] = {"image": image}
        runs = [run_json([*child, "small", pushed, image["small"]]) for _ in range(3)]
        found["small"] = min(runs, key=lambda run: run["wall"])
        copied = directory / "copied"
        found["skopeo"] = measure.run(
            [
                *client, "skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false",
                f"docker://{pushed}", f"oci:{copied}:x",
            ]
        ).wall  # fmt: skip
        shutil.rmtree(copied)
        url = f"http://{host}/v2/bench/read/blobs/{image['big_digest']}"
        pairs = []
        for _ in range(3):
            download = run_json([*child, "download", url])["wall"]
            pairs.append((download, run_json([*child, "big", pushed])["wall"]))
        found["download"] = statistics.median(pair[0] for pair in pairs)
        found["big"] = statistics.median(pair[1] for pair in pairs)
        found["rate_ratio"] = statistics.median(pair[0] / pair[1] for pair in pairs)
        return found


def run_json(command: list[str]) -> dict[str, Any]:
    """Run a command and return the JSON object that it prints."""
    found = json.loads(subprocess.check_output(command))
    assert isinstance(found, dict)
    return found


def _wait(host: str) -> None:
    import socket  # noqa: PLC0415 (only in a child process)

    for _ in range(500):
        try:
            socket.create_connection((host, 5077), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit("docker-registry did not start")


def options() -> RegistryOptions:
    """Return the options for the registry of `registry`."""
    import tocsin  # noqa: PLC0415 (only in a child process)

    return tocsin.RegistryOptions(plain_http=True)


def _small(reference: str, path: str) -> None:
    import tocsin  # noqa: PLC0415 (only in a child process)
    from tocsin.model.index_choice import IndexChoice  # noqa: PLC0415 (only in a child process)

    plain = options()
    tocsin.Image  # noqa: B018 (import it before measuring)
    requests: list[str] = []
    begun = time.perf_counter()
    with tocsin.open(reference, registry=_counting(plain, requests)) as image:
        data = image.cat(path)
        wall = time.perf_counter() - begun
        layer = image._merged.layers[image.stat(path).layer]
        json.dump(
            {
                "wall": wall,
                "size": len(data),
                "read": image.traffic.read,
                "requests": sum(line.startswith("> ") for line in requests),
                "ztocs": sum(
                    d.size
                    for index in image._opener.indexes(
                        image.descriptor, image.manifest, IndexChoice(), pinned=False
                    )
                    if index.soci_index
                    for d in index.soci_index.ztocs
                ),
                "span": _span_bytes(layer, image, path),
            },
            sys.stdout,
        )


def _counting(options: RegistryOptions, requests: list[str]) -> RegistryOptions:
    from dataclasses import replace  # noqa: PLC0415 (only in a child process)

    return replace(options, debug=requests.append)


def _span_bytes(layer: Layer, image: Image, path: str) -> int:
    node = image._merged.tree.find(path)[1]
    _, data = image._merged.file_data(node)
    extent = data.extents[0]
    ids = layer.spans.span_ids(extent.offset - 512, extent.offset + extent.size)
    ranges = [layer._ztoc.span_range(span_id) for span_id in ids]
    return ranges[-1][1] - ranges[0][0]


def _big(reference: str) -> None:
    import tocsin  # noqa: PLC0415 (only in a child process)

    with tocsin.open(reference, registry=options()) as image:
        image._merged.tree  # noqa: B018 (fetch it first, so that only the read is measured)
        begun = time.perf_counter()
        with image.open("/data/big") as file:
            while file.read(1 << 20):
                pass
        json.dump({"wall": time.perf_counter() - begun}, sys.stdout)


def _download(url: str) -> None:
    import requests  # noqa: PLC0415 (only in a child process)

    begun = time.perf_counter()
    with requests.get(url, stream=True, timeout=60) as answer:
        while answer.raw.read(1 << 20):
            pass
    json.dump({"wall": time.perf_counter() - begun}, sys.stdout)


# -- local -------------------------------------------------------------------------------------


def _local(directory: Path, corpus: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"files": _FILES}
    many = directory / "many"
    child = [sys.executable, __file__, "--corpus", str(corpus), "--child"]
    subprocess.run([*child, "make-many", str(many)], check=True)
    found["tree"] = min(
        (run_json([*child, "tree", f"oci:{many}:soci"]) for _ in range(3)), key=lambda r: r["tree"]
    )
    found["warm"] = run_json([*child, "warm", f"oci:{many}:soci"])
    layer = corpus / "rootfs.gzip.gz"
    found["build"] = min(run_json([*child, "build", str(layer)])["wall"] for _ in range(3))
    pin = ["taskset", "-c", "1"]
    subprocess.run([*child, "export", str(layer), str(directory / "index")], check=True)
    runs = []
    for _ in range(3):
        ours = run_json([*pin, *child, "cold", str(layer)])
        peer, tuned = (
            run_json([*pin, *child, "cold-peer", str(layer), str(directory / "index"), kind])
            for kind in ("default", "tuned")
        )
        runs.append((ours, peer, tuned))
    found["cold"] = {
        "ours": statistics.median(run[0]["median"] for run in runs),
        "indexed_gzip": statistics.median(run[1]["median"] for run in runs),
        "tuned": statistics.median(run[2]["median"] for run in runs),
        "ratio": statistics.median(run[0]["median"] / run[1]["median"] for run in runs),
        "ratio_tuned": statistics.median(run[0]["median"] / run[2]["median"] for run in runs),
        "sizes": runs[0][0]["sizes"],
        "hashing": statistics.median(run[0]["hashing"] for run in runs),
        "inflating": statistics.median(run[0]["inflating"] for run in runs),
    }
    found["extract"] = {}
    for name in ("rootfs", "ml", "node"):
        one = directory / f"one-{name}"
        gz = corpus / f"{name}.gzip.gz"
        subprocess.run([*child, "make-one", str(one), str(gz)], check=True)
        pairs = []
        for _ in range(3):
            for place in (directory / "out-ours", directory / "out-tar"):
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
            ours = run_json([*child, "extract", f"oci:{one}:soci", str(directory / "out-ours")])
            tar = measure.run(["tar", "xzf", str(gz), "-C", str(directory / "out-tar")])
            pairs.append((ours["wall"], tar.wall))
        found["extract"][name] = {
            "ours": statistics.median(pair[0] for pair in pairs),
            "tar": statistics.median(pair[1] for pair in pairs),
            "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
        }
        shutil.rmtree(one)
    return found


def _put_layer(directory: Path, data: bytes | Path) -> None:
    import tocsin  # noqa: PLC0415 (only in a child process)
    from tocsin.model.descriptor import Descriptor  # noqa: PLC0415
    from tocsin.model.manifest import Manifest  # noqa: PLC0415
    from tocsin.stores.layout import OciLayout  # noqa: PLC0415

    blob = data if isinstance(data, bytes) else data.read_bytes()
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    ).encode()
    with OciLayout(directory, write=True) as store:
        layer = Descriptor.of(blob, "application/vnd.oci.image.layer.v1.tar+gzip")
        store.put_blob(blob)
        store.put_blob(config)
        manifest = Manifest(
            Descriptor.of(config, "application/vnd.oci.image.config.v1+json"),
            (layer,),
            media_type="application/vnd.oci.image.manifest.v1+json",
        )
        store.put_manifest(manifest.to_json(), manifest.media_type, tag="plain")
    tocsin.convert(f"oci:{directory}:plain", f"oci:{directory}:soci")


def _make_many(directory: str) -> None:
    import gzip  # noqa: PLC0415 (only in a child process)
    import io  # noqa: PLC0415

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        body = random.Random(1).randbytes(1 << 20)  # noqa: S311 (not a secret)
        info = tarfile.TarInfo("data")
        info.size = len(body)
        tar.addfile(info, io.BytesIO(body))
        for number in range(_FILES):
            name = f"usr/lib/python3/dist-packages/pkg{number // 50:05}/module_{number % 50:02}.py"
            info = tarfile.TarInfo(name)
            info.size = 20
            tar.addfile(info, io.BytesIO(b"%020d" % number))
        noise = random.Random(2).randbytes(12 << 20)  # noqa: S311 (so that the layer is not small)
        info = tarfile.TarInfo("noise")
        info.size = len(noise)
        tar.addfile(info, io.BytesIO(noise))
    _put_layer(Path(directory), gzip.compress(out.getvalue(), 1))


def _make_one(directory: str, layer: str) -> None:
    _put_layer(Path(directory), Path(layer))


def _tree(reference: str) -> None:
    import tocsin  # noqa: PLC0415 (only in a child process)

    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            with tocsin.open(reference, cache_dir=cache) as image:
                begun = time.perf_counter()
                tree = image._merged.tree
                ready = time.perf_counter() - begun
                rng = random.Random(5)  # noqa: S311 (not a secret)
                paths = [path for path, _ in tree.walk("")]
                wanted = [rng.choice(paths) for _ in range(100_000)]
                begun = time.perf_counter()
                for path in wanted:
                    tree.find(path)
                each = (time.perf_counter() - begun) / len(wanted)
    json.dump({"tree": ready, "find": each, "count": len(paths)}, sys.stdout)


def _warm(reference: str) -> None:
    import tocsin  # noqa: PLC0415 (only in a child process)

    with tocsin.open(reference) as image, image.open("data") as file:
        file.read()
        rng = random.Random(6)  # noqa: S311 (not a secret)
        places = [rng.randrange(0, (1 << 20) - 4096) for _ in range(200_000)]
        begun = time.perf_counter()
        for place in places:
            file.seek(place)
            file.read(4096)
        wall = time.perf_counter() - begun
    json.dump({"rate": len(places) / wall}, sys.stdout)


def _build(layer: str) -> None:
    import tocsin  # noqa: PLC0415 (only in a child process)

    begun = time.perf_counter()
    tocsin.build_ztoc(layer)
    json.dump({"wall": time.perf_counter() - begun}, sys.stdout)


def _chosen(layer: str) -> tuple[Any, list[tuple[str, int, int]]]:
    """Return the zTOC and random regular files of up to 64 KiB: name, offset, size."""
    import tocsin  # noqa: PLC0415 (only in a child process)

    ztoc = tocsin.build_ztoc(layer, span_size=_SPACING)
    small = [
        (entry.name, entry.uncompressed_offset, entry.uncompressed_size)
        for entry in ztoc.entries
        if entry.type == "reg" and 0 < entry.uncompressed_size <= 64 << 10
    ]
    return ztoc, random.Random(8).sample(small, _COLD_READS)  # noqa: S311 (not a secret)


def _cold(layer: str) -> None:
    from tocsin import _core  # noqa: PLC0415 (only in a child process)

    ztoc, chosen = _chosen(layer)
    core = _core.Ztoc.from_bytes(ztoc.to_bytes())
    took, hashing, inflating = [], [], []
    with open(layer, "rb") as file:  # noqa: PTH123 (as the peer does)
        for _, offset, size in chosen:
            begun = time.perf_counter()
            data = b""
            for span_id in range(
                core.span_of(offset) or 0, (core.span_of(offset + size - 1) or 0) + 1
            ):
                start, end = core.span_range(span_id)
                file.seek(start)
                span = _core.SpanReader(core, span_id, file.read(end - start))
                data += span.read(offset, offset + size)
            took.append(time.perf_counter() - begun)
            assert len(data) == size
        # Again, measuring separately the two parts that no reader can leave out.
        for _, offset, size in chosen:
            span_id = core.span_of(offset) or 0
            start, end = core.span_range(span_id)
            file.seek(start)
            compressed = file.read(end - start)
            begun = time.perf_counter()
            hashlib.sha256(compressed).digest()
            hashing.append(time.perf_counter() - begun)
            span = _core.SpanReader(core, span_id, compressed)
            begun = time.perf_counter()
            span.read(offset, offset + size)
            inflating.append(time.perf_counter() - begun)
    sizes = [size for _, _, size in chosen]
    figures = {"median": took, "sizes": sizes, "hashing": hashing, "inflating": inflating}
    json.dump({name: statistics.median(values) for name, values in figures.items()}, sys.stdout)


def _export(layer: str, index: str) -> None:
    import indexed_gzip  # noqa: PLC0415 (only in a child process)

    with indexed_gzip.IndexedGzipFile(layer, spacing=_SPACING) as file:
        file.build_full_index()
        file.export_index(index)


def _cold_peer(layer: str, index: str, kind: str) -> None:
    import indexed_gzip  # noqa: PLC0415 (only in a child process)

    _, chosen = _chosen(layer)
    took = []
    # Its default buffer of 1 MiB is filled at each seek; small reads need a small buffer.
    tuned = {"readbuf_size": 1 << 20, "buffer_size": 1 << 16} if kind == "tuned" else {}
    with indexed_gzip.IndexedGzipFile(layer, spacing=_SPACING, index_file=index, **tuned) as file:
        for _, offset, size in chosen:
            begun = time.perf_counter()
            file.seek(offset)
            data = file.read(size)
            took.append(time.perf_counter() - begun)
            assert len(data) == size
    json.dump({"median": statistics.median(took)}, sys.stdout)


def _extract(reference: str, destination: str) -> None:
    import tocsin  # noqa: PLC0415 (only in a child process)

    begun = time.perf_counter()
    with tocsin.open(reference) as image:
        image.extract("/", destination)
    json.dump({"wall": time.perf_counter() - begun}, sys.stdout)


_CHILDREN = {
    "wait": _wait,
    "small": _small,
    "big": _big,
    "download": _download,
    "make-many": _make_many,
    "make-one": _make_one,
    "tree": _tree,
    "warm": _warm,
    "build": _build,
    "cold": _cold,
    "cold-peer": _cold_peer,
    "export": _export,
    "extract": _extract,
}


def report_text(figures: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = ["# Reading", ""]
    for name, title in (("loopback", "loopback"), ("link", "200 Mbit/s, 20 ms")):
        if name not in figures:
            continue
        found = figures[name]
        small, image = found["small"], found["image"]
        needed = small["read"] * 8 / RATE + small["requests"] * ROUND_TRIP
        lines += [
            f"## docker-registry over {title}",
            "",
            f"An image of {image['size'] / 1e6:.0f} MB compressed. One file of "
            f"{small['size']} bytes, best of 3:",
            "",
            "| wall, s | fetched, bytes | zTOCs | spans of the file | requests | skopeo copy, s |",
            "| ---: | ---: | ---: | ---: | ---: | ---: |",
            f"| {small['wall']:.2f} | {small['read']} | {small['ztocs']} | {small['span']} "
            f"| {small['requests']} | {found['skopeo']:.1f} |",
            "",
        ]
        if name == "link":
            lines += [
                f"Minimum, with one round trip per request and the bytes at the link's rate: "
                f"{needed:.2f} s; the wall time is {small['wall'] / needed:.2f} times that.",
                "",
            ]
        lines += [
            f"A file of 500 MB from end to end ({image['big_size'] / 1e6:.0f} MB compressed): "
            f"{found['big']:.2f} s; plain download of the layer {found['download']:.2f} s; "
            f"rate / download's {found['rate_ratio']:.2f} (medians of 3).",
            "",
        ]
    if "local" in figures:
        found = figures["local"]
        cold = found["cold"]
        lines += [
            "## On this machine",
            "",
            f"- merged tree of {found['tree']['count']} names from cached zTOCs: "
            f"{found['tree']['tree']:.3f} s; a look-up {found['tree']['find'] * 1e6:.2f} µs",
            f"- random 4 KiB reads, warm: {found['warm']['rate']:,.0f}/s",
            f"- `build_ztoc` of rootfs (gzip): {found['build']:.2f} s",
            f"- cold random read (median {cold['sizes']:.0f} bytes), digests checked, one CPU: "
            f"{cold['ours'] * 1e3:.2f} ms, indexed_gzip {cold['indexed_gzip'] * 1e3:.2f} ms, ratio "
            f"{cold['ratio']:.2f}; with its buffers chosen for small reads "
            f"{cold['tuned'] * 1e3:.2f} ms, ratio {cold['ratio_tuned']:.2f}; of ours the SHA-256 "
            f"of the span takes {cold['hashing'] * 1e3:.2f} ms and inflating up to the file "
            f"{cold['inflating'] * 1e3:.2f} ms",
        ]
        lines += [
            f"- extraction of {name}: {times['ours']:.2f} s, `tar xzf` {times['tar']:.2f} s, ratio "
            f"{times['ratio']:.2f}"
            for name, times in found["extract"].items()
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
