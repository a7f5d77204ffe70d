"""The images of `starting`: real packages, in layers as ``docker build`` makes them.

Each layer is what one step changes in the file system of the layers below: overlayfs collects it,
GNU tar packs it, and Go's compress/gzip, which container tools use, compresses it. The collected
directories are kept: overlayfs on them is the native peer of a mount.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corpus
import images
import isolation
import sources
import tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Step = Callable[[Path], object]

PROGRAMS = ("debootstrap", "tar", "npm", "apt-get", "go")
_SITE = "usr/local/lib/python3.11/dist-packages"
_WHEELS = (
    "pyarrow==26.0.1",
    "matplotlib==3.11.2",
    "polars==2.1.0",
    "jax==0.10.2",
    "opencv-python-headless==5.0.0.93",
    "numba==0.68.1",
    "onnxruntime==1.32.0",
)
_NODE = ("express@5.3.0", "@mui/material@9.5.0", "@mui/icons-material@9.5.0")

_MATMUL = """\
import numpy

square = numpy.arange(65536.0).reshape(256, 256)
print(int((square @ square).trace()))
"""
_SCIENCE = """\
import pandas
from sklearn.linear_model import LinearRegression

table = pandas.DataFrame({"x": range(100), "y": range(0, 300, 3)})
print(round(LinearRegression().fit(table[["x"]], table["y"]).coef_[0], 3))
"""
_EXPRESS = """\
const app = require('express')()
app.get('/', (request, answer) => answer.send('started'))
const server = app.listen(0, '127.0.0.1', () => { console.log('listening'); server.close() })
"""
_READ_ALL = "tar -cf - --one-file-system / | wc -c"
ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE=1",
)


@dataclass(frozen=True)
class Recipe:
    """How an image is made, and what is run in it.

    Attributes:
        title: description for the report.
        steps: name of each layer, and what makes it from those below.
        programs: commands to measure; ``main`` is the one of the goals.
    """

    title: str
    steps: dict[str, Step]
    programs: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Image:
    """An image that has been made.

    Attributes:
        name: name of its recipe.
        title: description for the report.
        reference: its reference in the layout.
        layers: the compressed layers, the lowest first.
        directories: the files of each layer, as overlayfs has them.
        programs: commands to measure.
        files: the number of its files and directories.
    """

    name: str
    title: str
    reference: str
    layers: tuple[Path, ...]
    directories: tuple[Path, ...]
    programs: dict[str, tuple[str, ...]]
    files: int

    @property
    def size(self) -> int:
        """The size of all compressed layers in bytes."""
        return sum(layer.stat().st_size for layer in self.layers)


def recipes() -> dict[str, Recipe]:
    """Return the recipes of all images."""
    numpy = ("python3", "/app/matmul.py")
    shell = ("sh", "-c", "true")
    read_all = ("sh", "-c", _READ_ALL)
    base: dict[str, Step] = {"base": partial(sources.debian_root, packages="")}
    python = {"matmul.py": _MATMUL}
    return {
        "A": Recipe(
            "Debian with python3-numpy",
            {
                **base,
                "numpy": partial(_apt, packages=("python3-numpy",), clean=False),
                "numpy-app": partial(_app, files=python),
            },
            {"main": numpy, "true": shell, "everything": read_all},
        ),
        "B": Recipe(
            "Python packages for machine learning, as pip installs them",
            {
                **base,
                "python": partial(_apt, packages=("python3",)),
                "wheels": _pip,
                "wheels-app": partial(_app, files={**python, "science.py": _SCIENCE}),
            },
            {
                "main": numpy,
                "science": ("python3", "/app/science.py"),
                "true": shell,
                "everything": read_all,
            },
        ),
        "C": Recipe(
            "a node application with its node_modules",
            {
                **base,
                "nodejs": partial(_apt, packages=("nodejs",)),
                "modules": _npm,
                "modules-app": partial(_app, files={"index.js": _EXPRESS}),
            },
            {"main": ("node", "/app/index.js"), "true": shell, "everything": read_all},
        ),
    }


def make(directory: Path, names: Iterable[str]) -> dict[str, Image]:
    """Make what is missing of the images in `directory`; needs root, mounts, and the network."""
    tools.require(PROGRAMS)
    directory.mkdir(parents=True, exist_ok=True)
    compressor = corpus.build_go(directory / "bin" / "gocompress")
    return {name: _make(directory, name, recipes()[name], compressor) for name in names}


def _make(directory: Path, name: str, recipe: Recipe, compressor: Path) -> Image:
    below: list[Path] = []
    layers, diff_ids = [], []
    for layer, step in recipe.steps.items():
        folder = corpus.made(
            directory / "layers" / layer, partial(_collect, below=tuple(below), step=step)
        )
        below.append(folder)
        layers.append(
            corpus.made(
                directory / f"{layer}.tar.gz",
                partial(_pack, folder=folder, compressor=compressor),
            )
        )
        diff_ids.append((directory / f"{layer}.diff-id").read_text("ascii"))
    config = {
        "config": {"Env": list(ENVIRONMENT), "Cmd": list(recipe.programs["main"])},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    layout, tag = directory / "layout", name.lower()
    described = directory / f"{tag}.json"
    found = {"config": config, "programs": recipe.programs}
    if not described.exists() or json.loads(described.read_text("utf-8")) != _plain(found):
        images.write_image(layout, layers, tag=tag, config=config)
        described.write_text(json.dumps(found), "utf-8")
    with overlay(below, directory / "count") as root:
        files = sum(1 + len(names) for _, _, names in os.walk(root))
    return Image(
        name,
        recipe.title,
        f"oci:{layout}:{tag}",
        tuple(layers),
        tuple(below),
        recipe.programs,
        files,
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    return json.loads(json.dumps(value))


# -- layers ------------------------------------------------------------------------------------


class overlay:  # noqa: N801 (used as a function)
    """A context with overlayfs on layers, for reading and writing; its value is the mount."""

    def __init__(self, below: Iterable[Path], place: Path, *, upper: Path | None = None) -> None:
        self._below, self._place = tuple(below), place
        self._upper = upper or place / "upper"

    def __enter__(self) -> Path:
        """Mount it."""
        isolation.unmount_below(self._place)
        for folder in (root := self._place / "root", work := self._place / "work", self._upper):
            folder.mkdir(parents=True, exist_ok=True)
        lower = ":".join(os.fspath(folder) for folder in reversed(self._below))
        options = f"lowerdir={lower},upperdir={self._upper},workdir={work}"
        tools.run("mount", "-t", "overlay", "overlay", "-o", options, root)
        return root

    def __exit__(self, *_: object) -> None:
        """Unmount it, and remove what was written, unless that is in a directory of its own."""
        isolation.unmount_below(self._place)
        shutil.rmtree(self._place, ignore_errors=True)


def _collect(target: Path, *, below: tuple[Path, ...], step: Step) -> None:
    """Collect in `target` what `step` changes in the layers `below`."""
    if not below:
        target.mkdir()
        step(target)
        return
    with overlay(below, target.with_name(f"{target.name}-mount"), upper=target) as root:
        step(root)


def _pack(target: Path, *, folder: Path, compressor: Path) -> None:
    """Pack a collected layer as a compressed tar; write the digest of the tar beside it."""
    whiteouts = target.with_name(f"{target.name}.whiteouts")
    shutil.rmtree(whiteouts, ignore_errors=True)
    whiteouts.mkdir()
    excluded = target.with_name(f"{target.name}.excluded")
    with excluded.open("w", encoding="utf-8", errors="surrogateescape") as names:
        for path, marker in _removed(folder):
            marked = whiteouts / marker.relative_to(folder)
            marked.parent.mkdir(parents=True, exist_ok=True)
            marked.touch()
            if path:
                names.write(f"./{path.relative_to(folder)}\n")
    marked_names = [
        os.fspath(p.relative_to(whiteouts)) for p in whiteouts.rglob("*") if p.is_file()
    ]
    tar = target.with_name(f"{target.name}.tar")
    options = ["--format=gnu", "--sort=name", "--numeric-owner", "--no-wildcards", "--anchored"]
    added = ["-C", os.fspath(whiteouts), *marked_names] if marked_names else []
    tools.run("tar", *options, f"--exclude-from={excluded}", "-cf", tar, "-C", folder, ".", *added)
    name = target.name.strip(".").removesuffix(".partial").removesuffix(".tar.gz")
    target.with_name(f"{name}.diff-id").write_text(f"sha256:{corpus.digest_of(tar)}", "ascii")
    tools.filter_file(tar, target, os.fspath(compressor))
    tar.unlink()
    excluded.unlink()
    shutil.rmtree(whiteouts)


def _removed(folder: Path) -> Iterator[tuple[Path | None, Path]]:
    """Yield what overlayfs marks as removed (None for all below), and the whiteout that says so."""
    for place, directories, names in os.walk(folder):
        for name in (*directories, *names):
            path = Path(place, name)
            status = path.lstat()
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                yield path, path.with_name(f".wh.{name}")
            elif stat.S_ISDIR(status.st_mode) and "trusted.overlay.opaque" in os.listxattr(path):
                yield None, path / ".wh..wh..opq"


# -- steps -------------------------------------------------------------------------------------


def _apt(root: Path, *, packages: tuple[str, ...], clean: bool = True) -> None:
    """Install Debian packages as a Dockerfile does, with what they recommend.

    Args:
        root: the file system.
        packages: the packages.
        clean: whether to remove apt's lists of packages, which many Dockerfiles keep. Archives of
            packages are always removed, as in Debian's official images.
    """
    for name, kind in (("dev", "--rbind"), ("proc", "--bind")):
        (root / name).mkdir(exist_ok=True)
        tools.run("mount", kind, f"/{name}", root / name)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"]
    chroot = [os.fspath(root), *environment, "apt-get", "-qq", "-o", "APT::Sandbox::User=root"]
    tools.run("chroot", *chroot, "update")
    tools.run("chroot", *chroot, "install", "-y", *packages)
    for name in ("dev", "proc"):
        tools.run("umount", "-l", root / name)
    for kind in ("cache/apt/archives", *(["lib/apt/lists"] if clean else [])):
        for path in (root / "var" / kind).glob("*"):
            if path.is_file():
                path.unlink()


def _pip(root: Path) -> None:
    """Install Python packages with their bytecode, as pip does by default."""
    folder = root / _SITE
    folder.mkdir(parents=True, exist_ok=True)
    sources.python_packages(folder, more=_WHEELS, compiled=True)


def _npm(root: Path) -> None:
    (root / "app").mkdir()
    sources.node_modules(root / "app", more=_NODE)


def _app(root: Path, *, files: dict[str, str]) -> None:
    """Copy the files of the application, as the last step of a Dockerfile does."""
    (root / "app").mkdir(exist_ok=True)
    for name, text in files.items():
        (root / "app" / name).write_text(text, "utf-8")


if __name__ == "__main__":
    isolation.enter()
    for image in make(Path(sys.argv[1]).resolve(), sys.argv[2:] or recipes()).values():
        print(image.name, f"{image.size / 1e6:.1f} MB", image.files, image.reference)
        subprocess.run(["ls", "-l", *image.layers], check=True)
