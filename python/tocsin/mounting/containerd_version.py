"""Versions of containerd, on which its configuration depends."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Version = tuple[int, int]
"""Major and minor version."""
OLDEST: Version = (1, 6)
"""The oldest version whose configuration was tried."""
LATEST: Version = (2, 2)
"""The latest version whose configuration was tried."""
SECOND: Version = (2, 0)
"""The first version with version 3 of the configuration; it renamed the CRI plug-in.

From 2.1 on, the CRI plug-in and ``ctr`` pull with the transfer service, whose settings 2.0 has too.
Source: containerd/containerd, docs/cri/config.md.
"""
EXPORTS: Version = (1, 7)
"""The first version in which a plug-in may have exports, in later patches of it."""
_TIMEOUT = 10.0
_NUMBERS = re.compile(r"v?([0-9]{1,4})(?:\.([0-9]{1,4}))?(?:[.+~-].*)?")


def parsed_version(text: str) -> Version | None:
    """Parse a version such as ``2``, ``1.7`` or ``v2.2.9+unknown``; ``None`` if it is not one."""
    found = _NUMBERS.fullmatch(text)
    return (int(found[1]), int(found[2] or 0)) if found else None


def installed_version(program: Path) -> Version | None:
    """Return the version of a ``containerd``; ``None`` if it does not print one."""
    try:
        done = subprocess.run(  # noqa: S603 (a program of the system, found by its name)
            [program, "--version"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # "containerd PACKAGE VERSION REVISION"
    words = done.stdout.decode("utf-8", "replace").split()
    return parsed_version(words[2]) if len(words) > 2 else None  # noqa: PLR2004 (see above)
