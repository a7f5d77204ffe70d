"""The facts about a machine that decide what can be mounted; tests replace all of them."""

from __future__ import annotations

import gzip
import os
import platform
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tocsin.mounting.containerd_version import installed_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.mounting.containerd_version import Version

CAP_SYS_ADMIN = 21
"""Number of the capability that mounting needs; see ``capabilities(7)``."""
_MAX_TEXT_SIZE = 16 << 20
"""Maximum bytes read of a file; lists of kernel modules have about 1 MiB."""
_ANSWER_TIMEOUT = 5.0
"""Seconds until a program that does not accept a connection counts as silent."""
_INSTALLERS = {
    "debian": "apt install",
    "ubuntu": "apt install",
    "fedora": "dnf install",
    "rhel": "dnf install",
    "suse": "zypper install",
    "alpine": "apk add",
    "arch": "pacman -S",
}


def _may_use(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def _answers(address: str) -> bool | None:
    """Return whether a program answers at a socket; ``None`` if this user may not ask."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_ANSWER_TIMEOUT)
        try:
            client.connect(address.removeprefix("unix://"))
        except PermissionError:
            return None
        except (OSError, ValueError):
            return False
    return True


def _free_space(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine.

    Attributes:
        root: directory below which its files are.
        system: name of the operating system, such as ``Linux``.
        release: release of the kernel, such as ``6.1.0-18-amd64``.
        search_path: directories of programs, separated by colons.
        cache_dir: the cache directory of mounts.
        may_use: returns whether this process may read and write a file.
        free_space: returns the bytes that are free in the file system of a directory.
        answers: returns whether a program answers at a socket; ``None`` if this user may not ask.
        containerd_version: returns the version of a ``containerd``; ``None`` if unknown.
    """

    root: Path
    system: str
    release: str
    search_path: str
    cache_dir: Path
    may_use: Callable[[Path], bool] = _may_use
    free_space: Callable[[Path], int] = _free_space
    answers: Callable[[str], bool | None] = _answers
    containerd_version: Callable[[Path], Version | None] = installed_version

    @classmethod
    def this(cls, cache_dir: Path) -> Self:
        """Return the machine that runs this process."""
        return cls(
            root=Path("/"),
            system=platform.system(),
            release=platform.release(),
            search_path=os.environ.get("PATH", os.defpath),
            cache_dir=cache_dir,
        )

    def path(self, name: str) -> Path:
        """Return the path of a file, given without the leading slash."""
        return self.root / name

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""
        return self.path(name).exists()

    def text(self, name: str) -> str | None:
        """Return the text of a file; ``None`` if it is missing or cannot be read."""
        try:
            with self.path(name).open("rb") as file:
                data = file.read(_MAX_TEXT_SIZE)
            if name.endswith(".gz"):
                with gzip.open(self.path(name)) as unpacked:
                    data = unpacked.read(_MAX_TEXT_SIZE)
        except (OSError, EOFError):
            return None
        return data.decode("utf-8", "replace")

    def number(self, name: str) -> int | None:
        """Return the number that a file contains; ``None`` if it is missing."""
        text = self.text(name)
        with suppress(ValueError):
            return None if text is None else int(text)
        return None

    def program(self, name: str) -> Path | None:
        """Return the path of a program; ``None`` if it is not in the search path."""
        for directory in self.search_path.split(":"):
            path = self.path(directory.lstrip("/")) / name
            with suppress(OSError):
                if directory.startswith("/") and path.is_file() and path.stat().st_mode & 0o111:
                    return Path(directory) / name
        return None

    def is_setuid_root(self, program: Path) -> bool:
        """Return whether a program runs as root for all users."""
        status = self.path(str(program).lstrip("/")).stat()
        return bool(status.st_mode & stat.S_ISUID)

    @property
    def kernel(self) -> tuple[int, int]:
        """The version of the kernel, such as (6, 12); (0, 0) if unknown."""
        found = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    @property
    def may_mount(self) -> bool:
        """Whether this process may mount file systems without help."""
        found = re.search(
            r"^CapEff:\s*([0-9a-f]{1,16})$", self.text("proc/self/status") or "", re.M
        )
        return found is not None and bool(int(found[1], 16) >> CAP_SYS_ADMIN & 1)

    @property
    def may_gain_rights(self) -> bool:
        """Whether programs with the setuid bit have more rights than this process."""
        return not re.search(r"^NoNewPrivs:\s*1$", self.text("proc/self/status") or "", re.M)

    @property
    def is_container(self) -> bool:
        """Whether this process runs in a container of Docker or podman."""
        return self.exists(".dockerenv") or self.exists("run/.containerenv")

    def has_file_system(self, name: str) -> bool:
        """Return whether the kernel has a file system, or can load it as a module."""
        if name in (self.text("proc/filesystems") or "").split():
            return True
        folder = f"lib/modules/{self.release}"
        lists = (self.text(f"{folder}/modules.{kind}") for kind in ("builtin", "dep"))
        return any(f"/{name}.ko" in (text or "") for text in lists)

    def kernel_option(self, name: str) -> str | None:
        """Return an option of the kernel's configuration; ``None`` if that is not available."""
        for place in ("proc/config.gz", f"boot/config-{self.release}"):
            text = self.text(place)
            if text is not None:
                found = re.search(rf"^{name}=(.*)$", text, re.M)
                return found[1] if found else "n"
        return None

    def install(self, package: str) -> str:
        """Return the command that installs a package."""
        text = self.text("etc/os-release") or ""
        ids = " ".join(re.findall(r'^ID(?:_LIKE)?="?([^"\n]*)', text, re.M)).split()
        installer = next((_INSTALLERS[each] for each in ids if each in _INSTALLERS), None)
        return f"sudo {installer} {package}" if installer else f"Install the package {package}"
