"""Reports the state of this process to systemd, if it started this process.

Source: systemd, sd_notify(3).
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Report a state, such as ``READY=1``; nothing happens without systemd."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.connect(f"\0{name[1:]}" if name.startswith("@") else name)
            notified.sendall(state.encode())
