"""tocsin's snapshotter with a real containerd, and images that share layers."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import grpc
from google.protobuf.empty_pb2 import Empty

import tocsin
from support.cli_process import TOCSIN, environment
from support.containerd import CONFIG, WITHOUT_CRI, containerd
from support.images import Image
from support.mounts import need_busybox, need_mounts, put
from support.registry_real import program
from support.tarmaker import entry, tar
from tocsin.containerd_api import messages_pb2 as messages
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.mounting.image_mounts import ImageMountOptions, ImageMounts
from tocsin.stores.layout import OciLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from support.containerd import Containerd
    from support.registry import Registry

PATIENCE = 120.0
"""Seconds until a program must have done what a test waits for."""
APPLETS = ("sh", "cat", "echo", "ls", "sleep", "true", "touch", "stat", "test", "mkdir", "rm")
_SNAPSHOTTER = ("--snapshotter", "tocsin")
_SNAPSHOT = ("snapshot", *_SNAPSHOTTER)
SERVICE = "containerd.services.snapshots.v1.Snapshots"


def base_layer() -> bytes:
    """Return a layer with a shell."""
    return tar(
        entry("bin/", type=tarfile.DIRTYPE, mode=0o755),
        entry("bin/busybox", need_busybox(), mode=0o755),
        *(entry(f"bin/{name}", type=tarfile.SYMTYPE, linkname="busybox") for name in APPLETS),
        entry("etc/", type=tarfile.DIRTYPE, mode=0o755),
        entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        entry("etc/base", b"base"),
        entry("tmp/", type=tarfile.DIRTYPE, mode=0o1777),
    )


def data_layer(name: str, size: int = 300_000) -> bytes:
    """Return a layer with files that other layers do not have."""
    return tar(
        entry("data/", type=tarfile.DIRTYPE, mode=0o755),
        entry(f"data/{name}", name.encode() * (size // len(name))),
        entry("etc/name", name.encode()),
    )


def image_of(*tars: bytes, claimed: tuple[bytes, ...] = ()) -> Image:
    """Return an image with these layers; its config has the diff IDs of `claimed`, if given."""
    layers = tuple(gzip.compress(each, 6, mtime=0) for each in tars)
    descriptors = tuple(Descriptor.of(each, OCI_LAYER_GZIP) for each in layers)
    diff_ids = [str(Digest.of(each)) for each in claimed or tars]
    document = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    config = json.dumps(document).encode()
    manifest = Manifest(Descriptor.of(config, OCI_CONFIG), descriptors, media_type=OCI_MANIFEST)
    return Image(layers, descriptors, config, manifest.to_json())


def chain_ids(*tars: bytes) -> list[str]:
    """Return the chain IDs of layers. Source: OCI image-spec 1.1.1, config.md, "Layer ChainID"."""
    found: list[str] = []
    for each in tars:
        digest = str(Digest.of(each))
        found.append(str(Digest.of(f"{found[-1]} {digest}".encode())) if found else digest)
    return found


class Client:
    """Sends requests to a snapshotter, as containerd does."""

    def __init__(self, address: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{address}")

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def call(self, method: str, request: Message, answer: Any = None) -> Any:
        """Send a request, and return the answer."""
        call: Any = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=(answer or Empty).FromString,
        )
        return call(request, timeout=PATIENCE, wait_for_ready=True)

    def prepare(self, key: str, parent: str = "", **labels: str) -> list[Any]:
        """Prepare a snapshot, and return its mounts."""
        request = messages.NewSnapshotRequest(key=key, parent=parent, labels=labels)
        return list(self.call("Prepare", request, messages.MountsResponse).mounts)

    def view(self, key: str, parent: str = "") -> list[Any]:
        """Make a view, and return its mounts."""
        request = messages.NewSnapshotRequest(key=key, parent=parent)
        return list(self.call("View", request, messages.MountsResponse).mounts)

    def mounts(self, key: str) -> list[Any]:
        """Return the mounts of a snapshot."""
        request = messages.SnapshotRequest(key=key)
        return list(self.call("Mounts", request, messages.MountsResponse).mounts)

    def commit(self, key: str, name: str, parent: str = "", **labels: str) -> None:
        """Commit a snapshot."""
        request = messages.CommitSnapshotRequest(key=key, name=name, labels=labels, parent=parent)
        self.call("Commit", request)

    def remove(self, key: str) -> None:
        """Remove a snapshot."""
        self.call("Remove", messages.SnapshotRequest(key=key))

    def stat(self, key: str) -> Any:
        """Return what the snapshotter knows of a snapshot."""
        request = messages.SnapshotRequest(key=key)
        return self.call("Stat", request, messages.SnapshotInfoResponse).info

    def usage(self, key: str) -> tuple[int, int]:
        """Return the size and the number of inodes of a snapshot."""
        answer = self.call("Usage", messages.SnapshotRequest(key=key), messages.UsageResponse)
        return answer.size, answer.inodes

    def update(self, key: str, *paths: str, **labels: str) -> Any:
        """Change labels."""
        request = messages.UpdateSnapshotRequest(
            info=messages.SnapshotInfo(name=key, labels=labels)
        )
        request.update_mask.paths.extend(paths)
        return self.call("Update", request, messages.SnapshotInfoResponse).info

    def cleanup(self) -> None:
        """Remove what no snapshot needs."""
        self.call("Cleanup", messages.CleanupSnapshotsRequest())

    def list(self, *filters: str) -> list[Any]:
        """Return all snapshots that match a filter."""
        call: Any = self._channel.unary_stream(
            f"/{SERVICE}/List",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.ListSnapshotsResponse.FromString,
        )
        answers = call(messages.ListSnapshotsRequest(filters=filters), timeout=PATIENCE)
        return [info for answer in answers for info in answer.info]


class Node:
    """A machine with containerd and the snapshotter.

    Args:
        directory: directory for all files, with a short path.
        registry: where images are.
    """

    def __init__(self, directory: Path, registry: Registry) -> None:
        self.directory = directory
        self.registry = registry
        self.root = directory / "snap"
        self.address = directory / "s.sock"
        self.log = directory / "snap.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.options: tuple[str, ...] = ()
        self._ctr: Containerd | None = None

    # -- the snapshotter ---------------------------------------------------------------------------

    def start(self, *options: str) -> None:
        """Start the snapshotter, and wait until it answers."""
        self.options = options or self.options
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 (the program under test)
                [
                    TOCSIN,
                    "snapshotter",
                    "--root",
                    self.root,
                    "--address",
                    self.address,
                    "--plain-http",
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(b"serving "), self.log.read_text()
        # containerd connects again after some seconds at most, and fails requests until then.
        deadline = time.monotonic() + PATIENCE
        while self._ctr is not None and not self._is_connected():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _is_connected(self) -> bool:
        key = f"probe-{time.monotonic_ns()}"
        if self.try_ctr(*_SNAPSHOT, "prepare", key).returncode != 0:
            return False
        return self.try_ctr(*_SNAPSHOT, "rm", key).returncode == 0

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal to the snapshotter, wait for its end, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Yield a client of the snapshotter."""
        client = Client(self.address)
        try:
            yield client
        finally:
            client.close()

    # -- containerd --------------------------------------------------------------------------------

    @contextmanager
    def containerd(self, *, cri: bool = False) -> Iterator[None]:
        """Run containerd.

        Args:
            cri: whether it serves the kubelet's requests, with this snapshotter.
        """
        more = f'[proxy_plugins.tocsin]\n  type = "snapshot"\n  address = "{self.address}"\n'
        if cri:
            host = self.registry.host
            more += f"""
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "tocsin"
  disable_snapshot_annotations = false
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."{host}"]
  endpoint = ["http://{host}"]
"""
        config = CONFIG if cri else WITHOUT_CRI
        with containerd(self.directory, more=more, config=config) as self._ctr:
            yield
        self._ctr = None

    def ctr(self, *arguments: str | Path) -> str:
        """Run ``ctr``, and return its output."""
        done = self.try_ctr(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{self.log.read_text()}"
        return done.stdout

    def try_ctr(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run ``ctr``."""
        assert self._ctr is not None
        return self._ctr(*arguments)

    def pull(self, reference: str) -> None:
        """Pull an image as usual: containerd does not say which image it prepares."""
        self.ctr("image", "pull", "--plain-http", "--snapshotter", "tocsin", reference)

    def rpull(self, reference: str) -> str:
        """Pull an image with labels, as a lazy snapshotter needs it."""
        done = self.try_rpull(reference)
        assert done.returncode == 0, f"{done.stderr}\n{self.log.read_text()}"
        return done.stdout

    def try_rpull(self, reference: str) -> subprocess.CompletedProcess[str]:
        """Try to pull an image with labels."""
        return subprocess.run(  # noqa: S603 (a tool of the test machine)
            [
                program("ctr-remote"),
                "-a",
                str(self.directory / "c.sock"),
                "image",
                "rpull",
                "--plain-http",
                "--snapshotter",
                "tocsin",
                reference,
            ],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def run(self, reference: str, *command: str, name: str = "c") -> str:
        """Run a program in a container, and return its output."""
        done = self.try_run(reference, *command, name=name)
        assert done.returncode == 0, f"{command}: {done.stderr}\n{self.log.read_text()}"
        return done.stdout

    def try_run(
        self, reference: str, *command: str, name: str = "c", namespace: str = "default"
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a container."""
        assert self._ctr is not None
        return self._ctr.run(
            reference, *command, name=name, options=_SNAPSHOTTER, namespace=namespace
        )

    @contextmanager
    def container(
        self, reference: str
    ) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
        """Run a container that waits; yield a function that runs a program in it."""
        assert self._ctr is not None
        self._ctr.start(reference, "sleep", "600", options=_SNAPSHOTTER)
        try:
            yield partial(self._ctr.exec, "c")
        finally:
            self.ctr("task", "kill", "-s", "KILL", "c")
            deadline = time.monotonic() + PATIENCE
            while self.try_ctr("task", "rm", "c").returncode != 0:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            self.ctr("container", "rm", "c")

    def forget(self, reference: str) -> None:
        """Remove an image, and wait until what only it needs has been removed."""
        self.ctr("image", "rm", "--sync", reference)

    def collect(self) -> None:
        """Let containerd remove what nothing uses, by removing an image that does not exist."""
        self.ctr("content", "prune", "references")

    def wait_until_complete(self) -> None:
        """Wait until all images are on this machine as a whole, and mounted without a process."""
        deadline = time.monotonic() + PATIENCE
        mounts = ImageMounts(self.root, ImageMountOptions())
        while not all(mount.directory.name == "complete" for mount in mounts.mounted()):
            assert time.monotonic() < deadline, mounts.mounted()
            time.sleep(0.1)

    def lose_registry(self) -> None:
        """Let the registry drop all connections from now on."""
        for method in ("GET", "HEAD"):
            self.registry.fault(method, "", drop=True, times=1 << 30)

    def forget_mounts(self) -> None:
        """Kill the processes of all mounts and unmount them, as if the machine had restarted."""
        for pid in self.mount_processes():
            os.kill(pid, signal.SIGKILL)
        for path in self._mount_points():
            subprocess.run([program("umount"), "-l", path], check=True)  # noqa: S603 (as above)

    # -- images ------------------------------------------------------------------------------------

    def put(self, name: str, image: Image, *, index: bool | Literal["v1"]) -> str:
        """Put an image into the registry, with or without an index; return its reference.

        Args:
            name: name of its repository.
            image: the image.
            index: whether it gets a seek table, or ``v1`` for a SOCI index.
        """
        target = f"{self.registry.host}/app/{name}:1"
        layout = self.directory / f"layout-{name}"
        put(OciLayout(layout, write=True), image, "1")
        source = f"oci:{layout}:1"
        tocsin.copy(source, target)
        if index:
            options = tocsin.IndexingOptions(
                min_layer_size=0, seek_only=index is True, seek_span_size=64 << 10
            )
            tocsin.create(target, options=options)
        return target

    def labels(self) -> dict[str, dict[str, str]]:
        """Return the labels of all committed snapshots of layers, by chain ID."""
        with self.client() as client:
            return {
                info.labels["containerd.io/snapshot.ref"]: dict(info.labels)
                for info in client.list("kind==committed")
                if "containerd.io/snapshot.ref" in info.labels
            }

    def image_mounts(self) -> list[str]:
        """Return the names of the directories with mounted images, one for both mounts of one."""
        return sorted({path.parent.name for path in self._mount_points()})

    def _mount_points(self) -> list[Path]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        found = [Path(line.split(" ")[4]) for line in lines]
        return [path for path in found if path.is_relative_to(self.root / "images")]

    def close(self) -> None:
        """Stop everything, and unmount what is left."""
        if self.process is not None:
            self.kill(signal.SIGTERM)
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                # The shims of containers, which outlive containerd.
                if os.fsencode(self.directory / "c.sock") in command.read_bytes().split(b"\0"):
                    os.kill(int(command.parent.name), signal.SIGKILL)
        for _ in range(3):
            lines = Path("/proc/self/mountinfo").read_text().splitlines()
            below = [line.split(" ")[4] for line in lines if str(self.directory) in line]
            for directory in sorted(below, reverse=True):
                subprocess.run(  # noqa: S603 (a tool of the test machine)
                    [program("umount"), "-l", directory], check=False, capture_output=True
                )
        deadline = time.monotonic() + PATIENCE
        while self.mount_processes() and time.monotonic() < deadline:
            for pid in self.mount_processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)

    def mount_processes(self) -> list[int]:
        """Return the processes of images that are mounted."""
        found = []
        for path in (self.root / "run").glob("*.json"):
            with suppress(OSError, ValueError):
                described = json.loads(path.read_text())
                if described["needs_process"]:
                    os.kill(described["pid"], 0)
                    found.append(described["pid"])
        return found


@contextmanager
def node(registry: Registry) -> Iterator[Node]:
    """Yield a machine with a snapshotter that has not been started, without containerd."""
    need_mounts()
    with ExitStack() as stack:
        # Short, since it contains sockets.
        directory = Path(tempfile.mkdtemp(prefix="tsn-", dir="/tmp"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        made = Node(directory, registry)
        stack.callback(made.close)
        yield made
