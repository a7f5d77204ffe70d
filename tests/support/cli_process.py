"""Running the installed ``tocsin`` as a process; `support.cli_in_process` is faster."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.tools import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

TOCSIN = str(Path(sys.executable).with_name("tocsin"))
TIMEOUT = 120

_CLEARED = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TOCSIN_DEBUG", "PYTHONIOENCODING")


def environment(**changes: str) -> dict[str, str]:
    """Return an environment without variables that affect the output, plus `changes`."""
    kept = {name: value for name, value in os.environ.items() if name not in _CLEARED}
    return {**kept, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **changes}


def tocsin(
    *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[bytes]:
    """Run ``tocsin``; `changes` are environment variables."""
    return _run(TOCSIN, *map(str, arguments), stdin=stdin, cwd=cwd, **changes)


def tocsin_without_root_rights(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run ``tocsin`` as this user, but without root's capability to access every file."""
    command = (TOCSIN, *map(str, arguments))
    if os.geteuid():
        return _run(*command)
    drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    try:
        able = _run(*drop, "true").returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        missing("setpriv cannot drop capabilities here")
    return _run(*drop, *command)


def python(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run the Python interpreter of the tests."""
    return _run(sys.executable, *arguments)


def _run(
    *command: str, stdin: bytes = b"", cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 (tocsin itself)
        command,
        input=stdin,
        capture_output=True,
        env=environment(**changes),
        cwd=cwd,
        timeout=TIMEOUT,
        check=False,
    )


def start(
    *arguments: str | Path, env: Mapping[str, str] | None = None, **streams: Any
) -> subprocess.Popen[bytes]:
    """Start ``tocsin``; `streams` are arguments of ``Popen``."""
    return subprocess.Popen(  # noqa: S603 (tocsin itself)
        [TOCSIN, *map(str, arguments)],
        env=dict(env or environment()),
        preexec_fn=_restore_sigint,  # noqa: PLW1509 (the tests start no threads)
        **streams,
    )


def _restore_sigint() -> None:
    """Restore the default action of SIGINT, which shells ignore in background jobs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def on_terminal(*arguments: str | Path, columns: int = 100, **changes: str) -> tuple[bytes, int]:
    """Run ``tocsin`` with stdout and stderr on a terminal; return its output and the exit code."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with start(
        *arguments,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    ) as process:
        os.close(follower)
        got = bytearray()
        try:
            while piece := os.read(leader, 1 << 16):
                got += piece
        except OSError:  # EIO: the other end is closed
            pass
        os.close(leader)
        return bytes(got), process.wait(TIMEOUT)
