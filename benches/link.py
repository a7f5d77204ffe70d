"""A slow link between two network namespaces: real TCP with a given rate and delay. Needs root.

``netem`` is missing from many kernels. Instead, this process connects a TAP device in each
namespace. It forwards each frame when a link of that rate would have sent it, plus half a round
trip.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import selectors
import struct
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_CLONE_NEWNET = 0x40000000
_QUEUE = 0.1  # seconds of frames queued in each direction before frames are dropped, as in a router
SERVER, CLIENT = "10.77.0.1", "10.77.0.2"


@contextmanager
def link(rate: float, round_trip: float) -> Iterator[tuple[list[str], list[str]]]:
    """Run a link; yield the command prefixes that run a command at the server's and client's end.

    Args:
        rate: bits per second, in each direction.
        round_trip: round-trip time in seconds.
    """
    names = [f"tocsin-{side}-{os.getpid()}" for side in ("s", "c")]
    try:
        for name, address in zip(names, (SERVER, CLIENT), strict=True):
            _ip("netns", "add", name)
            within = ("-n", name)
            _ip(*within, "link", "set", "lo", "up")
            _ip(*within, "tuntap", "add", "dev", "tap0", "mode", "tap")
            _ip(*within, "addr", "add", f"{address}/24", "dev", "tap0")
            _ip(*within, "link", "set", "tap0", "up")
        joiner = subprocess.Popen([sys.executable, __file__, *names, str(rate), str(round_trip)])
        try:
            before = [["nsenter", f"--net=/run/netns/{name}"] for name in names]
            yield before[0], before[1]
        finally:
            joiner.terminate()
            joiner.wait()
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def received(client: list[str]) -> int:
    """Return the bytes that have arrived at the client's end, with the headers of all frames."""
    table = subprocess.check_output([*client, "cat", "/proc/net/dev"], text=True)
    (line,) = (line for line in table.splitlines() if line.strip().startswith("tap0:"))
    return int(line.partition(":")[2].split()[0])


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _tap(namespace: str) -> int:
    """Return the other end of a namespace's TAP device. Moves this process into the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as place:  # noqa: PTH123 (a descriptor is wanted)
        if libc.setns(place.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"tap0", _IFF_TAP | _IFF_NO_PI))
    return tap


def _join(namespaces: list[str], rate: float, delay: float) -> None:
    taps = [_tap(name) for name in namespaces]
    selector = selectors.DefaultSelector()
    for side, tap in enumerate(taps):
        selector.register(tap, selectors.EVENT_READ, side)
    free = [0.0, 0.0]  # when each direction will have sent all its frames
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, side, frame = heapq.heappop(waiting)
            with suppress(OSError):
                os.write(taps[side], frame)
        timeout = waiting[0][0] - now if waiting else None
        for key, _ in selector.select(timeout):
            side = key.data
            for _ in range(64):
                try:
                    frame = os.read(key.fd, 65536)
                except BlockingIOError:
                    break
                now = time.monotonic()
                if free[side] - now > _QUEUE:
                    continue
                free[side] = max(now, free[side]) + len(frame) * 8 / rate
                count += 1
                heapq.heappush(waiting, (free[side] + delay, count, 1 - side, frame))


if __name__ == "__main__":
    _join(sys.argv[1:3], float(sys.argv[3]), float(sys.argv[4]) / 2)
