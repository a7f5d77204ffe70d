"""Files of an image in a registry, read lazily, compared with a full unpack by umoci.

buildah makes the image, with a layer of whiteouts; docker-registry holds it; ``tocsin convert`` of
the same registry indexes it. ``TOCSIN_SLOW=1 pytest -s`` repeats it with 1 GB and prints the times.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from support.cli_process import TOCSIN
from support.registry_real import docker_registry, program
from support.shell import SLOW, Shell
from support.tree_snapshot import snapshot

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah and owners need root"),
]


@pytest.mark.parametrize(
    "size",
    [40 << 20, pytest.param(1 << 30, marks=[pytest.mark.slow, SLOW])],
    ids=["40MB", "1GB"],
)
def test_image_of_buildah_when_read_lazily_then_as_umoci_unpacks_it(place, size):
    umoci, skopeo = program("umoci"), (program("skopeo"), "--insecure-policy")
    shell = Shell(_made(place / "home"))
    with docker_registry(_made(place / "r")) as host:
        app, soci = f"{host}/team/app:1", f"{host}/team/app:1-soci"
        _build(shell, place, size)
        shell(
            *(*skopeo, "copy", "-q", "--dest-tls-verify=false"),
            *(f"oci:{place / 'built'}:app", f"docker://{app}"),
        )
        shell(TOCSIN, "convert", app, soci, "--min-layer-size", "1MiB")
        shell(TOCSIN, "verify", soci)
        shell(TOCSIN, "verify", soci, "--quick")
        listed = shell(TOCSIN, "ls", "-l", f"{soci}:/srv")
        assert "removed" not in listed
        assert shell(TOCSIN, "cat", f"{soci}:/srv/kept") == "kept\n"
        assert shell(TOCSIN, "cat", f"{soci}:/srv/changed") == "second\n"
        shell(TOCSIN, "stat", f"{soci}:/srv/kept")
        shell(TOCSIN, "cp", f"{soci}:/", place / "lazily", "--devices")

        shell(
            *(*skopeo, "copy", "-q", "--src-tls-verify=false"),
            *(f"docker://{soci}", f"oci:{place / 'pulled'}:app"),
        )
        shell(umoci, "unpack", "--image", f"{place / 'pulled'}:app", place / "bundle")
        unpacked = snapshot(place / "bundle" / "rootfs", without={"."})
        lazily = snapshot(place / "lazily", without={"."})
        assert lazily == unpacked
        assert sum(len(row[4]) for row in unpacked.values() if isinstance(row[4], bytes)) >= size
        print(f"{len(unpacked)} paths are equal")  # noqa: T201 (for pytest -s)
    shutil.rmtree(place / "bundle")


def _build(shell: Shell, place: Path, size: int) -> None:
    """Create a layout with an image of three layers; the last changes and removes files below."""
    storage = ("--root", place / "storage", "--runroot", place / "run", "--storage-driver", "vfs")
    buildah = (program("buildah"), *storage)
    one, two = _made(place / "one"), _made(place / "two")
    _fill(one, size // 2)
    (_made(one / "srv") / "kept").write_text("kept\n")
    (one / "srv" / "changed").write_text("first\n")
    (one / "srv" / "removed").write_text("gone\n")
    _made(one / "srv" / "old")
    (one / "srv" / "old" / "f").write_text("gone\n")
    (one / "srv" / "link").symlink_to("kept")
    (one / "srv" / "twin").hardlink_to(one / "srv" / "kept")
    os.chown(one / "srv" / "kept", 12, 34)
    (one / "srv" / "kept").chmod(0o4751)
    os.setxattr(one / "srv" / "changed", "user.note", b"x")
    _fill(two / "more", size // 2)
    container = shell(*buildah, "from", "scratch").strip()
    shell(*buildah, "copy", "-q", container, one, "/")
    name = "localhost/app"
    shell(*buildah, "commit", "-q", container, f"{name}:1")
    container = shell(*buildah, "from", f"{name}:1").strip()
    shell(*buildah, "copy", "-q", container, two, "/opt")
    shell(*buildah, "commit", "-q", container, f"{name}:2")
    container = shell(*buildah, "from", f"{name}:2").strip()
    root = Path(shell(*buildah, "mount", container).strip())
    (root / "srv" / "removed").unlink()
    shutil.rmtree(root / "srv" / "old")
    (root / "srv" / "old").symlink_to("/opt")
    (root / "srv" / "changed").write_text("second\n")
    shutil.rmtree(root / "opt" / "more" / "0")
    shell(*buildah, "umount", container)
    shell(*buildah, "commit", "-q", container, f"{name}:3")
    shell(*buildah, "push", "-q", f"{name}:3", f"oci:{place / 'plain'}:app")
    shell(
        program("skopeo"), "--insecure-policy", "copy", "-q", "--dest-compress",
        f"oci:{place / 'plain'}:app", f"oci:{place / 'built'}:app",
    )  # fmt: skip
    for directory in (one, two, place / "plain"):
        shutil.rmtree(directory)


def _fill(directory: Path, size: int) -> None:
    """Fill a directory with files that compress about as programs do."""
    block = b"".join(hashlib.sha256(b"%d" % n).digest() * 3 for n in range(10_000))
    left, number = size + size // 5 + (1 << 20), 0
    while left > 0:
        file = directory / str(number % 7) / f"file-{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        data = b"%d" % number + block[: 1000 + number * 7919 % len(block)]
        file.write_bytes(data)
        left -= len(data)
        number += 1


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
