"""The Rust compiler for a target: the installed one, rustup's, or that of Debian.

A compiler needs the standard library of its target. Where rustup cannot download it, Debian's
``rustc-web`` compiles it from its source, ``rust-web-src``; both are unpacked, not installed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEBIAN_PACKAGES = (
    *("rustc-web", "rust-web-src", "libstd-rust-web-dev", "libstd-rust-web-1.96", "libllvm22"),
)
_RUSTUP_TIMEOUT = 60
"""Seconds until a download by rustup counts as impossible."""


class NoCompilerError(Exception):
    """No compiler for a target can be had; the message says why."""


def environment_for(target: str, work: Path) -> Mapping[str, str]:
    """Return the variables with which cargo compiles for a target.

    Args:
        target: the target triple.
        work: directory for a compiler that has to be unpacked.

    Raises:
        NoCompilerError: there is none.
    """
    if _has_standard_library(target) or _added_by_rustup(target):
        return {}
    return _debian(work)


def _has_standard_library(target: str) -> bool:
    command = ["rustc", "--print", "target-libdir", "--target", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and any(Path(done.stdout.strip()).glob("libstd-*"))


def _added_by_rustup(target: str) -> bool:
    if shutil.which("rustup") is None:
        return False
    try:
        command = ["rustup", "target", "add", target]
        done = subprocess.run(command, capture_output=True, check=False, timeout=_RUSTUP_TIMEOUT)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and _has_standard_library(target)


def _debian(work: Path) -> Mapping[str, str]:
    root = work / "root"
    compiler = root / "usr/bin/rustc"
    if not compiler.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise NoCompilerError("rustup has no standard library for it, and this is not Debian")
        packages = work / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["apt-get", "download", *_DEBIAN_PACKAGES],
            cwd=packages,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:]
            raise NoCompilerError(f"neither rustup nor apt-get has a compiler: {''.join(reason)}")
        partial = work / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        for package in sorted(packages.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, partial], check=True)
        partial.rename(root)
    return {
        "RUSTC": str(compiler),
        "LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu"),
        "RUSTC_BOOTSTRAP": "1",  # for the next one, which is not stable
        "CARGO_UNSTABLE_BUILD_STD": "std,panic_abort",
    }
