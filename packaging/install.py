"""Install a wheel where there is no compiler, and index and read a layer with it.

Each environment gets ``pip install --find-links DIST tocsin`` without cargo in ``PATH``, and runs
smoke.py. The dependencies are downloaded first, so that an environment needs no network.

``--python`` names an interpreter of this machine. ``--debian`` makes a bare Debian with
debootstrap, which needs root: bookworm has Python 3.11; for bullseye, CPython 3.11 is built there
from the source that Debian has for bookworm; so it is for trixie-musl, but with musl instead of
glibc; bookworm-arm64 runs the wheel for that machine under qemu's emulation and proot, which are
unpacked, not installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import musl_python

WORK = Path(__file__).parents[1] / ".build" / "packaging" / "install"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = {
    "bookworm": "python3,python3-venv,ca-certificates",
    "bookworm-arm64": "python3,python3-venv",
    # What CPython's own build needs for the modules that pip and tocsin import.
    "bullseye": "gcc,make,libc6-dev,zlib1g-dev,libssl-dev,libffi-dev,ca-certificates",
    "trixie-musl": musl_python.PACKAGES,
}
_BUILT_PYTHON = "/opt/python/bin/python3.11"
_BUILDS = {
    "bullseye": (
        ("python3.11",),
        "cd /src/python3.11 && ./configure -q --prefix=/opt/python && make -s -j2 install",
    ),
    "trixie-musl": (musl_python.SOURCES, musl_python.BUILD),
}
"""Debians whose Python is built there: the source packages, and the commands of a shell."""
_PLATFORMS = {
    "glibc": ("manylinux2014", "manylinux_2_28", "manylinux_2_17"),
    "musl": ("musllinux_1_2",),
}
"""Platform tags that pip looks for; the first is that of the wheel."""


def main() -> int:
    """Try all environments; return 1 if one of them fails."""
    parser = argparse.ArgumentParser(description="Install a wheel in clean environments.")
    parser.add_argument("dist", type=Path, help="directory with the wheel")
    parser.add_argument("--python", action="append", default=[], help="an interpreter")
    parser.add_argument("--debian", action="append", default=[], choices=sorted(PACKAGES))
    parser.add_argument("--root", type=Path, default=WORK, metavar="DIR", help="of the Debians")
    args = parser.parse_args()
    results = {python: _on_this_machine(python, args.dist) for python in args.python}
    root = args.root.resolve()
    for name in args.debian:
        on = _on_arm64 if name.endswith("-arm64") else _on_debian
        results[name] = on(name, root, args.dist)
    print("\n| environment | result |\n| --- | --- |")
    for name, result in results.items():
        print(f"| {name} | {result} |")
    return int(not all(result.startswith("ok") for result in results.values()))


def _on_this_machine(python: str, dist: Path) -> str:
    print(f"==> {python}", flush=True)
    program = shutil.which(python)
    if program is None:
        return "not tried: not found"
    version = _output(program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    place = WORK / f"python{version}"
    shutil.rmtree(place, ignore_errors=True)
    files = _files(place, version, dist)
    _output(program, "-m", "venv", place / "venv")
    return _try(place / "venv/bin/python", files)


def _on_debian(name: str, root: Path, dist: Path) -> str:
    """Make a Debian if it is missing, and run the test in it with ``chroot``."""
    print(f"==> Debian {name}", flush=True)
    if os.geteuid() or shutil.which("debootstrap") is None:
        return "not tried: needs root and debootstrap"
    debian = root / name
    if not (debian / "etc/debian_version").exists():
        debian.mkdir(parents=True, exist_ok=True)
        include = f"--include={PACKAGES[name]}"
        suite = name.removesuffix("-musl")
        _output("debootstrap", "--variant=minbase", include, suite, debian, MIRROR)
    python = "/usr/bin/python3"
    if name in _BUILDS:
        python = _BUILT_PYTHON
        if not (debian / python.lstrip("/")).exists():
            _build_python(debian, root, *_BUILDS[name])
    shutil.rmtree(debian / "work", ignore_errors=True)
    _files(debian / "work", "3.11", dist, libc="musl" if name.endswith("-musl") else "glibc")
    _output("chroot", debian, python, "-m", "venv", "/work/venv")
    return _try(
        "/work/venv/bin/python",
        Path("/work/files"),
        before=(shutil.which("chroot") or "chroot", str(debian)),
    )


def _on_arm64(name: str, root: Path, dist: Path) -> str:
    """Unpack a Debian for arm64 if it is missing, and run the test in it with emulation."""
    print(f"==> Debian {name}", flush=True)
    if os.geteuid() or shutil.which("debootstrap") is None:
        return "not tried: needs root and debootstrap"
    if not any(dist.glob("*manylinux*aarch64*.whl")):
        return "not tried: no wheel for aarch64 was built"
    emulator, debian = root / "emulator", root / name
    if not (emulator / "usr/bin/proot").exists():
        emulator.mkdir(parents=True, exist_ok=True)
        _output("apt-get", "download", "proot", "libtalloc2", "qemu-user-static", cwd=emulator)
        for package in emulator.glob("*.deb"):
            _unpack(package, emulator)
    if not (debian / "usr/bin/python3").exists():
        debian.mkdir(parents=True, exist_ok=True)
        options = ("--arch=arm64", "--foreign", "--variant=minbase", f"--include={PACKAGES[name]}")
        _output("debootstrap", *options, name.removesuffix("-arm64"), debian, MIRROR)
        for package in (debian / "var/cache/apt/archives").glob("*.deb"):
            _unpack(package, debian)
        if (debian / "proc").is_symlink():  # by debootstrap inside a container
            (debian / "proc").unlink()
            (debian / "proc").mkdir()
    shutil.rmtree(debian / "work", ignore_errors=True)
    _files(debian / "work", "3.11", dist, machine="aarch64")
    before = (
        *(
            "env",
            f"LD_LIBRARY_PATH={emulator}/usr/lib/x86_64-linux-gnu",
            f"{emulator}/usr/bin/proot",
        ),
        *("-q", f"{emulator}/usr/bin/qemu-aarch64-static", "-0", "-w", "/", "-r", str(debian)),
        *("-b", "/proc", "-b", "/dev"),
    )
    _output(*before, "/usr/bin/python3", "-m", "venv", "/work/venv")
    return _try("/work/venv/bin/python", Path("/work/files"), before=before)


def _unpack(package: Path, folder: Path) -> None:
    """Unpack a Debian package without running its scripts."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "-C", folder], stdin=tar.stdout, check=True
        )


def _build_python(debian: Path, root: Path, sources: tuple[str, ...], build: str) -> None:
    """Build CPython 3.11 in a Debian, from source packages of bookworm."""
    lists = root / "source"
    (lists / "lists/partial").mkdir(parents=True, exist_ok=True)
    (lists / "sources.list").write_text(f"deb-src {MIRROR} bookworm main\n")
    options = [
        *("-o", f"Dir::Etc::SourceList={lists}/sources.list", "-o", "Dir::Etc::SourceParts=/-"),
        *("-o", f"Dir::State::Lists={lists}/lists"),
    ]
    _output("apt-get", *options, "update")
    _output("apt-get", *options, "source", "--download-only", *sources, cwd=lists)
    for name in sources:
        archives = lists.glob(f"{name}_*.orig.tar.*")
        (archive,) = (path for path in archives if path.suffix != ".asc")
        folder = debian / "src" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _output("tar", "-xf", archive, "-C", folder, "--strip-components=1")
    _output("chroot", debian, "sh", "-c", build)


def _files(
    place: Path, version: str, dist: Path, *, machine: str = "x86_64", libc: str = "glibc"
) -> Path:
    """Copy wheels and the test to ``place/files``, and download the dependencies there."""
    files = place / "files"
    files.mkdir(parents=True)
    platforms = _PLATFORMS[libc]
    for wheel in dist.glob(f"*{platforms[0]}*{machine}*.whl"):
        shutil.copy(wheel, files)
    shutil.copy(Path(__file__).with_name("smoke.py"), files)
    _output(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"),
        *("--python-version", version),
        *(f"--platform={platform}_{machine}" for platform in platforms),
        *("--dest", files, "--find-links", files, "tocsin"),
    )
    return files


def _try(python: str | Path, files: Path, *, before: tuple[str, ...] = ()) -> str:
    """Install tocsin and run the smoke test; return what it printed, or why it failed."""
    # Nothing of this machine's PATH, so that neither cargo nor a compiler of pyenv is found.
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8"}  # noqa: S108
    install = ("-m", "pip", "install", "--quiet", "--no-index", "--find-links", files, "tocsin")
    for words in (install, ("-P", files / "smoke.py")):
        done = subprocess.run(
            [*before, python, *words],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            return f"FAILED: {' '.join(done.stdout.strip().splitlines()[-1:])}"
    return done.stdout.strip().splitlines()[-1]


def _output(*words: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, cwd=cwd).stdout


if __name__ == "__main__":
    sys.exit(main())
