"""Real mounts: an image with programs and data, its own runtime and cache directories."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.cli_process import TIMEOUT, TOCSIN, environment
from support.images import Image
from support.tools import missing
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tocsin.stores.base import Sink

DATA_FILES = 6
DATA_SIZE = 1 << 20
APPLETS = ["sh", "ls", "cat", "id", "env", "sleep", "touch", "pwd", "echo", "kill", "true", "stat"]
ACCOUNTS = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
GROUPS = b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n"


def data_of(number: int) -> bytes:
    """Return the data of a file that does not compress."""
    return hashlib.shake_128(b"%d" % number).digest(DATA_SIZE)


def need_mounts() -> None:
    """Skip the test if this machine cannot mount."""
    if sys.platform != "linux" or os.geteuid():
        missing("real mounts need Linux and root")
    if not Path("/dev/fuse").exists():
        missing("there is no /dev/fuse")


def need_busybox() -> bytes:
    """Return a static program with a shell, or skip the test."""
    path = shutil.which("busybox")
    if path is None:
        missing("busybox is not installed")
    return Path(path).read_bytes()


def _tar(entries: list[tuple[str, str, Any, int]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, data, mode in entries:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if kind == "dir":
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def make_image(
    *,
    busybox: bytes = b"",
    config: Mapping[str, Any] | None = None,
    media_type: str = OCI_LAYER_GZIP,
    compress: Callable[[bytes], bytes] = lambda data: gzip.compress(data, 1, mtime=0),
) -> Image:
    """Return an image with two layers: a small one with programs, and one with data."""
    base: list[tuple[str, str, Any, int]] = [
        ("bin", "dir", None, 0o755),
        ("etc", "dir", None, 0o755),
        ("etc/passwd", "file", ACCOUNTS, 0o644),
        ("etc/group", "file", GROUPS, 0o644),
        ("etc/old", "file", b"replaced", 0o644),
        ("tmp", "dir", None, 0o1777),
        ("root", "dir", None, 0o700),
    ]
    if busybox:
        base.append(("bin/busybox", "file", busybox, 0o755))
        base += [(f"bin/{name}", "link", "busybox", 0o777) for name in APPLETS]
    data: list[tuple[str, str, Any, int]] = [
        ("data", "dir", None, 0o755),
        ("etc/.wh.old", "file", b"", 0o644),
    ]
    data += [(f"data/{n}.bin", "file", data_of(n), 0o644) for n in range(DATA_FILES)]
    tars = [_tar(base), _tar(data)]
    layers = tuple(map(compress, tars))
    descriptors = tuple(Descriptor.of(layer, media_type) for layer in layers)
    document = {
        "os": "linux",
        "architecture": "amd64",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(each)) for each in tars]},
    }
    text = json.dumps(document).encode()
    manifest = Manifest(Descriptor.of(text, OCI_CONFIG), descriptors, media_type=OCI_MANIFEST)
    return Image(layers, descriptors, text, manifest.to_json())


def put(store: Sink, image: Image, tag: str) -> None:
    """Put an image into a store, which is closed."""
    with store:
        image.put(store, tag)


class Machine:
    """Directories for mounts that no other test uses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run_directory = directory / "run"
        self.cache = directory / "cache"
        self.mount_point = directory / "mnt"
        self.run_directory.mkdir(mode=0o700)
        self.mount_point.mkdir()
        self.environment = environment(
            XDG_RUNTIME_DIR=str(self.run_directory),
            TOCSIN_CACHE_DIR=str(self.cache),
            TMPDIR=str(directory),
        )

    def tocsin(self, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run ``tocsin``."""
        return subprocess.run(  # noqa: S603 (our own program)
            [TOCSIN, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            env={**self.environment, **changes},
            cwd=self.directory,
        )

    def ok(self, *arguments: object) -> str:
        """Run ``tocsin``, which must succeed, and return its output."""
        done = self.tocsin(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def mount(self, image: object, *options: object) -> dict[str, Any]:
        """Mount an image, and return what ``--json`` prints."""
        found: dict[str, Any] = json.loads(
            self.ok("mount", "--json", "-q", *options, image, self.mount_point)
        )
        return found

    def status(self) -> dict[str, Any]:
        """Return the status of the mount."""
        found: dict[str, Any] = json.loads(self.ok("status", "--json", self.mount_point))
        return found

    def mounts(self) -> list[dict[str, Any]]:
        """Return the status of all mounts."""
        found: list[dict[str, Any]] = json.loads(self.ok("mounts", "--json"))["mounts"]
        return found

    def wait_for(self, state: str) -> dict[str, Any]:
        """Wait until the mount has a state."""
        deadline = time.monotonic() + 30
        while (found := self.status())["state"] != state:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the processes of all mounts, and wait until they have ended."""
        for each in self.mounts():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(each["pid"], number)
                wait_for_end(each["pid"])

    def is_mounted(self) -> bool:
        """Return whether something is mounted in the directory."""
        return is_mounted(self.mount_point)

    def clean(self) -> None:
        """Remove what a test has left mounted, and end its processes."""
        self.kill()
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            where = line.split()[4]
            if where.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "-l", where], check=False)  # noqa: S603, S607


def names_in(directory: Path) -> list[str]:
    """Return the sorted names in a directory."""
    return sorted(path.name for path in directory.iterdir())


def is_mounted(directory: Path) -> bool:
    """Return whether something is mounted in a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return str(directory) in [line.split()[4] for line in lines]


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended; it need not be a child."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still running")
