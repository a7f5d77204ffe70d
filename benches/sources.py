"""The sources of the files in a layer: package registries, or this machine's disk.

Every function fills an existing, empty folder. Versions of Python and npm packages are pinned, so
that corpora made at different times differ little except for Debian's point releases.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import tools

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SUITE = "bookworm"

_ROOTFS_PACKAGES = "python3,perl,git,ca-certificates,gcc,make,libc6-dev,vim,openssh-client"

_PYTHON_PACKAGES = ("numpy==2.4.6", "scipy==1.17.1", "pandas==3.1.1", "scikit-learn==1.9.1")
_WHEELS = (
    *_PYTHON_PACKAGES,
    "pyarrow==26.0.1",
    "pillow==13.0.0",
    "matplotlib==3.11.2",
)
# A fixed Python version and platform, so that the corpus does not depend on this machine's.
_WHEEL_KIND = (
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=3.11",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_27_x86_64",
    "--platform=manylinux2014_x86_64",
)

_NODE_PACKAGES = (
    "typescript@7.0.2",
    "webpack@5.112.2",
    "react@19.3.1",
    "react-dom@19.3.1",
    "lodash@4.18.1",
    "eslint@10.15.0",
    "jest@30.5.2",
    "three@0.187.0",
    "rxjs@7.8.2",
    "date-fns@4.4.0",
    "core-js@3.51.0",
    "@babel/preset-env@8.0.7",
    "antd@6.6.8",
    "monaco-editor@0.57.0",
)
_NODE_ARCHIVES = ("typescript@7.0.2", "next@16.4.6", "three@0.187.0", "monaco-editor@0.57.0")
_BROWSER_DATA = "@mdn/browser-compat-data@8.1.9"

_DEBS = ("libllvm14", "gcc-12", "fonts-noto-cjk", "openjdk-17-jre-headless")
_LINUX_PARTS = ("kernel", "fs", "include", "Documentation", "mm", "net")

# Suffixes of compressed files.
_PACKED = (".gz", ".png", ".jpg", ".woff2", ".wasm", ".whl", ".jar", ".xz", ".zip", ".deb", ".tgz")
_SOURCES = (".js", ".mjs", ".cjs", ".ts", ".json", ".css", ".html", ".svg", ".xml", ".py", ".pl")


# Full size: from package registries.


def debian_root(folder: Path, *, packages: str = _ROOTFS_PACKAGES) -> None:
    """A bootstrapped Debian: programs, libraries and documentation (needs root)."""
    include = [f"--include={packages}"] if packages else []
    tools.run("debootstrap", "--variant=minbase", *include, _SUITE, folder, _mirror())
    # Remove everything that is mounted, cached or time-stamped.
    for pattern in (
        "var/cache/apt/archives/*.deb",
        "var/cache/ldconfig/aux-cache",
        "var/lib/apt/lists/*",
        "var/log/*",
        "proc/*",
        "sys/*",
        "dev/*",
    ):
        for path in folder.glob(pattern):
            _remove(path)


def python_packages(folder: Path, *, more: Iterable[str] = (), compiled: bool = False) -> None:
    """Scientific Python packages: large shared objects and many small source files."""
    bytecode = "--compile" if compiled else "--no-compile"
    _pip("install", bytecode, f"--target={folder}", *_PYTHON_PACKAGES, *more)


def node_modules(folder: Path, *, more: Iterable[str] = ()) -> None:
    """The node_modules of an application: very many small files."""
    (folder / "package.json").write_text('{"name":"app","version":"1.0.0"}\n', "ascii")
    tools.run(
        "npm",
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--legacy-peer-deps",
        *_NODE_PACKAGES,
        *more,
        cwd=folder,
    )


def linux_source(folder: Path) -> None:
    """Parts of the Linux 6.1 source: C files, headers and documentation."""
    _apt_download(folder, "linux-source-6.1")
    (archive,) = folder.glob("*.deb")
    unpacked = folder / ".deb"
    tools.run("dpkg-deb", "-x", archive, unpacked)
    archive.unlink()
    tools.run(
        "tar",
        "-xJf",
        unpacked / "usr/src/linux-source-6.1.tar.xz",
        "--strip-components=1",
        *(f"linux-source-6.1/{part}" for part in _LINUX_PARTS),
        cwd=folder,
    )
    _remove(unpacked)


def apt_lists(folder: Path) -> None:
    """This machine's apt package lists, as plain text."""
    lists = tools.output(
        "apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"
    )
    for name in lists.split():
        path = Path(name)
        target = folder / path.name.partition("_")[2].removesuffix(".lz4")
        target.write_text(tools.output("apt-helper", "cat-file", path), "utf-8")


def browser_data(folder: Path) -> None:
    """Large JSON documents."""
    tools.run("npm", "pack", "--silent", _BROWSER_DATA, cwd=folder)
    (archive,) = folder.glob("*.tgz")
    tools.run("tar", "-xzf", archive, cwd=folder)
    archive.unlink()


def wheels(folder: Path) -> None:
    """Python wheels as they are served."""
    _pip("download", "--no-deps", f"--dest={folder}", *_WHEELS)


def debs(folder: Path) -> None:
    """Debian packages as they are served."""
    _apt_download(folder, *_DEBS)


def node_archives(folder: Path) -> None:
    """Archives of npm packages as they are served."""
    tools.run("npm", "pack", "--silent", *_NODE_ARCHIVES, cwd=folder)


def packed_files(folder: Path, parts: Iterable[Path]) -> None:
    """Compressed files (gzip, images, fonts) from the folders `parts`."""
    for part in parts:
        for path in sorted(part.rglob("*")):
            if path.suffix in _PACKED and path.is_file() and not path.is_symlink():
                target = folder / part.name / path.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


# Small size: from this machine's disk.


def local_root(folder: Path, size: int) -> int:
    """Programs, libraries, configuration and documentation of this machine."""
    return _sample(folder, ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share", "/etc"), size)


def local_python(folder: Path, size: int) -> int:
    """Python's standard library and installed packages."""
    return _sample(folder, _python_roots(), size)


def local_sources(folder: Path, size: int) -> int:
    """Small source files of all kinds on this machine."""
    roots = ("/usr/lib", "/usr/share", *_python_roots())
    return _sample(folder, roots, size, endings=_SOURCES, largest=64 << 10)


def local_text(folder: Path, size: int) -> int:
    """Headers and documentation on this machine."""
    roots = ("/usr/include", "/usr/share", "/usr/lib")
    return _sample(folder, roots, size, endings=(".h", ".hpp", ".txt", ".md", ".rst", ".c"))


def local_packed(folder: Path, size: int) -> int:
    """Compressed files on this machine."""
    return _sample(folder, ("/usr/share", "/usr/lib"), size, endings=_PACKED)


def _sample(
    folder: Path,
    roots: Iterable[str],
    size: int,
    *,
    endings: tuple[str, ...] = ("",),
    largest: int = 2 << 20,
) -> int:
    """Copy files from below `roots` to `folder`, up to `size` bytes.

    Files are taken in the order of a checksum of their paths, which is scattered but deterministic.

    Returns:
        The number of bytes copied; less than `size` if there are not enough files.
    """
    paths = {path for root in roots for path in _files(root, endings)}
    copied = 0
    for path in sorted(paths, key=lambda path: (zlib.crc32(os.fsencode(path)), path)):
        status = path.lstat()
        if status.st_size > min(largest, size - copied) or not os.access(path, os.R_OK):
            continue
        target = folder / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        copied += status.st_size
        if copied > size - (16 << 10):
            break
    return copied


def _files(root: str, endings: tuple[str, ...]) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            # Skip bytecode, which comes and goes as modules are imported.
            if name.endswith(endings) and name.isascii() and not name.endswith(".pyc"):
                path = Path(folder, name)
                if path.is_file():
                    yield path


def _python_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return paths["stdlib"], paths["platlib"]


def _mirror() -> str:
    sites = tools.output(
        "apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {_SUITE}"
    ).split()
    if not sites:
        raise SystemExit(f"apt has no mirror of Debian {_SUITE}: run `apt-get update` first")
    return sites[0]


def _apt_download(folder: Path, *packages: str) -> None:
    # Otherwise apt warns for every file that its sandbox user cannot write here.
    tools.run("apt-get", "-o", "APT::Sandbox::User=root", "download", *packages, cwd=folder)


def _pip(command: str, *arguments: str) -> None:
    tools.run(sys.executable, "-m", "pip", command, "--quiet", *_WHEEL_KIND, *arguments)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
