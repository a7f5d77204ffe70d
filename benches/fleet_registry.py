"""Images that share layers in a docker-registry whose access log is counted; a faulty proxy."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import seeded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LINE = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.[01]" ([0-9]{3}) ([0-9]+)')
_BLOCK = 64 << 10
_PROSE = 8 << 20


@dataclass(frozen=True)
class Fleet:
    """The images of a case.

    Attributes:
        name: name of the case.
        images: repository of each image, and the numbers of its layers.
        layer_count: number of unique layers.
    """

    name: str
    images: dict[str, tuple[int, ...]]
    layer_count: int

    @property
    def sharing(self) -> float:
        """How many images have a layer, on average."""
        return sum(map(len, self.images.values())) / self.layer_count


def shared_by_two(count: int) -> Fleet:
    """Return images of three layers: one that all in a group of 4 share, and others."""
    images = {}
    for number in range(count):
        # 1/4 + 1/4 + 1 layers per image: each layer is in two images on average.
        group = number // 4
        first = group * 6
        images[f"team{number % 7}/app{number}"] = (first, first + 1, first + 2 + number % 4)
    return Fleet("two", images, 6 * -(-count // 4))


def shared_by_ten(count: int) -> Fleet:
    """Return images of three layers: one of 4 bases, one of 16 runtimes, one of `count`/5 apps."""
    apps = -(-count // 5)
    images = {
        f"team{number % 7}/app{number}": (number % 4, 4 + number % 16, 20 + number % apps)
        for number in range(count)
    }
    return Fleet("ten", images, 20 + apps)


class Layers:
    """Layers of pseudo-random text and noise, in gzip, the same for each number."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._prose = seeded.prose(1, _PROSE)

    def make(self, number: int) -> tuple[bytes, str]:
        """Return a layer and the digest of its tar."""
        random = seeded.generator(1000 + number)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for file in range(16):
                pieces = []
                for _ in range(self._size // 16 // _BLOCK):
                    at = random.randrange(_PROSE - _BLOCK)
                    pieces.append(self._prose[at : at + _BLOCK - 16_384] + random.randbytes(16_384))
                data = b"".join(pieces)
                info = tarfile.TarInfo(f"layer{number}/file{file}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        plain = out.getvalue()
        return gzip.compress(plain, 1, mtime=0), f"sha256:{hashlib.sha256(plain).hexdigest()}"


def push(host: str, fleet: Fleet, layer_size: int) -> dict[str, int]:
    """Push the images and return the size of each unique layer by digest."""
    from tocsin.model.descriptor import Descriptor  # noqa: PLC0415 (not needed elsewhere)
    from tocsin.model.manifest import Manifest  # noqa: PLC0415
    from tocsin.model.media_types import (  # noqa: PLC0415
        OCI_CONFIG,
        OCI_LAYER_GZIP,
        OCI_MANIFEST,
    )
    from tocsin.model.reference import parse_registry_name  # noqa: PLC0415
    from tocsin.stores.registry import open_repository  # noqa: PLC0415

    layers = Layers(layer_size)
    pool = f"{host}/pool"
    made: dict[int, tuple[Descriptor, str]] = {}
    origin = None
    with open_repository(parse_registry_name(pool), write=True) as store:
        origin = store.origin
        for number in range(fleet.layer_count):
            data, diff_id = layers.make(number)
            made[number] = store.put_blob(data, media_type=OCI_LAYER_GZIP), diff_id
    for repository, numbers in fleet.images.items():
        with open_repository(parse_registry_name(f"{host}/{repository}"), write=True) as store:
            for number in numbers:
                store.take_over(made[number][0], origin)
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "created_by": repository,
                    "rootfs": {"type": "layers", "diff_ids": [made[n][1] for n in numbers]},
                }
            ).encode()
            store.put_blob(config)
            manifest = Manifest(
                Descriptor.of(config, OCI_CONFIG),
                tuple(made[number][0] for number in numbers),
                media_type=OCI_MANIFEST,
            )
            store.put_manifest(manifest.to_json(), OCI_MANIFEST, tag="1")
    return {str(layer.digest): layer.size for layer, _ in made.values()}


@dataclass
class Served:
    """What the registry's access log says.

    Attributes:
        read: bytes of the bodies of all GET responses.
        layers: bytes served of each layer.
        blobs_pushed: number of blobs uploaded.
        mounts: number of blobs mounted.
        indexes: number of PUTs of each manifest that was put by digest, with its repository.
    """

    read: int = 0
    layers: Counter[str] = field(default_factory=Counter)
    blobs_pushed: int = 0
    mounts: int = 0
    indexes: Counter[str] = field(default_factory=Counter)


class LoggedRegistry:
    """A docker-registry with an access log.

    Attributes:
        host: host and port.
    """

    def __init__(self, directory: Path, data: Path) -> None:
        self._log = directory / "access.log"
        self._config = directory / "config.yml"
        config = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(data)}},
            "http": {"addr": "127.0.0.1:0", "secret": "x", "relativeurls": True},
        }
        self._config.write_text(json.dumps(config))  # JSON is valid YAML
        self.host = ""

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run the registry and yield its host and port."""
        with (
            self._log.open("wb") as log,
            subprocess.Popen(
                ["docker-registry", "serve", self._config],
                stdout=log,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    if "listening on" in line:
                        found = json.loads(line)["msg"].removeprefix("listening on ")
                        self.host = found.partition(",")[0]
                        break
                else:
                    raise SystemExit("docker-registry did not start")
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield self.host
            finally:
                process.terminate()

    def served(self, layers: dict[str, int]) -> Served:
        """Return what the access log says so far; `layers` has the size of each layer."""
        found = Served()
        for line in self._log.read_text().splitlines():
            match = _LINE.search(line)
            if match is None:
                continue
            method, path, status, size = match[1], match[2], int(match[3]), int(match[4])
            if method == "GET" and status in (200, 206):
                found.read += size
                digest = path.rpartition("/")[2]
                if digest in layers:
                    found.layers[digest] += size
            elif method == "PUT" and "/blobs/uploads/" in path and status == 201:
                found.blobs_pushed += 1
            elif method == "POST" and "mount=" in path and status == 201:
                found.mounts += 1
            elif method == "PUT" and "/manifests/sha256:" in path and status == 201:
                found.indexes[path] += 1
        return found


def copy_of(data: Path, target: Path) -> Path:
    """Return a copy of a registry's files that shares the blobs."""
    subprocess.run(["cp", "-al", str(data), str(target)], check=True)
    return target


def remove(path: Path) -> None:
    """Remove a directory."""
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def busy_proxy(target: str, seconds: float) -> Iterator[tuple[str, Counter[int]]]:
    """Forward requests to `target`, but answer 429 and 503 in turn for the first `seconds`.

    Yields:
        Host and port, and the number of responses by status.
    """
    until = time.monotonic() + seconds
    statuses: Counter[int] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if time.monotonic() < until:
                status = 429 if sum(statuses.values()) % 2 else 503
                statuses[status] += 1
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            connection = http.client.HTTPConnection(target)
            connection.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = connection.getresponse()
            data = b"" if self.command == "HEAD" else answer.read()
            statuses[answer.status] += 1
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            self.wfile.write(data)
            connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", statuses
    finally:
        server.shutdown()
        server.server_close()
