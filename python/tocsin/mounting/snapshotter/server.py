"""The process of the snapshotter: its directory, its socket, and its end."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, TypeVar

from tocsin.containerd_api.installed import check_packages
from tocsin.errors import ConflictError, UnsupportedError
from tocsin.log import LOG
from tocsin.mounting.notify import notify
from tocsin.mounting.snapshotter.snapshots import RESTORING, Snapshots
from tocsin.operating_system import STOP_SIGNALS, try_lock
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import FrameType

    import grpc

    from tocsin.mounting.snapshotter.images import LazyMounts

_THREADS = 32
"""Requests at the same time; one that mounts an image waits for a registry."""
_MAX_ADDRESS_LEN = 107
"""Bytes of a socket's path. Source: Linux man-pages, unix(7)."""
_MAX_MESSAGE = 16 << 20
"""Bytes of a request, as in containerd (``defaults.DefaultMaxRecvMsgSize``)."""
_GRACE = 5.0
"""Seconds in which running requests can end."""
_LAST_GRACE = 1.0
"""Seconds in which threads without a request end."""
_LIMIT = 20.0
"""Seconds after a signal in which this process ends, whatever hangs: a crash loses nothing."""
_THREAD_NAME = "request"
_PRIVATE = 0o700
_LOCK = "lock"
_Images = TypeVar("_Images", bound="LazyMounts")


def _nothing(_snapshots: Snapshots, _mounts: LazyMounts) -> AbstractContextManager[object]:
    return nullcontext()


def serve(
    root: Path,
    address: Path,
    images: Callable[[], _Images],
    *,
    beside: Callable[[Snapshots, _Images], AbstractContextManager[object]] = _nothing,
    started: Callable[[], None] = lambda: None,
) -> bool:
    """Serve containerd's requests until a signal ends this process. Mounts stay.

    Args:
        root: directory of the snapshots; made if it is missing.
        address: path of the socket.
        images: makes what mounts images lazily, when the directory is locked.
        beside: returns a context in which requests are served, for example with other services.
        started: called when requests are served.

    Returns:
        Whether all requests have ended. If not, Python would wait for their threads at its end.

    Raises:
        ConflictError: another process uses the directory or the socket.
        UnsupportedError: grpcio is missing, or the path of the socket is too long.
        TocsinError, OSError: the directory cannot be used.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=_THREAD_NAME)
    server = _server(pool)
    with _stopped_by_signals() as wait, _locked(root):
        mounts = images()
        snapshots = Snapshots(root, mounts)
        try:
            from tocsin.mounting.snapshotter.service import handler  # noqa: PLC0415 (needs grpcio)

            server.add_generic_rpc_handlers((handler(snapshots),))
            with _bound(server, address):
                server.start()
                # Without waiting for it: a registry may be away, and requests that need a mount
                # make it.
                restoring = threading.Thread(target=_restore, args=(snapshots,), daemon=True)
                restoring.start()
                with beside(snapshots, mounts):
                    started()
                    notify("READY=1")
                    wait()
                    notify("STOPPING=1")
                    threading.Thread(target=_end_in_any_case, daemon=True).start()
                    server.stop(_GRACE).wait()
                    pool.shutdown(wait=False)
                    return _have_ended()
        finally:
            snapshots.close()


def _restore(snapshots: Snapshots) -> None:
    try:
        snapshots.restore()
        snapshots.sweep()
    except Exception:
        LOG.exception("mounts could not be restored")


def _end_in_any_case() -> None:
    time.sleep(_LIMIT)
    LOG.error("requests did not end within %.0f seconds", _LIMIT)
    os._exit(1)


def _have_ended() -> bool:
    """Return whether the threads of all requests end soon."""
    deadline = time.monotonic() + _LAST_GRACE
    for thread in threading.enumerate():
        if thread.name.startswith((_THREAD_NAME, RESTORING)):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                return False
    return True


def _server(pool: ThreadPoolExecutor) -> grpc.Server:
    check_packages("the snapshotter")
    import grpc  # noqa: PLC0415 (an extra)

    return grpc.server(
        pool,
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE)],
    )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Lock the directory for this process."""
    root.mkdir(_PRIVATE, parents=True, exist_ok=True)
    status = root.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConflictError(
            f"{quoted(str(root))}: other users can write to the directory",
            hint="Use a directory that belongs to the user of the snapshotter, with mode 0700.",
        )
    descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not try_lock(descriptor):
            raise ConflictError(
                f"{quoted(str(root))}: another snapshotter uses the directory",
                hint="Stop the other one, or choose another directory with --root.",
            )
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _bound(server: grpc.Server, address: Path) -> Iterator[None]:
    """Listen on the socket, and remove it at the end."""
    if len(os.fsencode(address)) > _MAX_ADDRESS_LEN:
        raise UnsupportedError(
            f"{quoted(str(address))}: path of the socket too long "
            f"(found {len(os.fsencode(address))} bytes, expected at most {_MAX_ADDRESS_LEN})"
        )
    address.parent.mkdir(_PRIVATE, parents=True, exist_ok=True)
    _remove_stale(address)
    mask = os.umask(0o177)
    try:
        try:
            server.add_insecure_port(f"unix:{address}")
        except RuntimeError:
            raise OSError(errno.EADDRNOTAVAIL, "cannot listen on it", str(address)) from None
    finally:
        os.umask(mask)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            address.unlink()


def _remove_stale(address: Path) -> None:
    """Remove the socket of a process that does not exist any more."""
    try:
        is_socket = stat.S_ISSOCK(address.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise ConflictError(
            f"{quoted(str(address))}: not a socket", hint="Choose another --address."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(address))
        except ConnectionRefusedError:
            address.unlink()
            return
    raise ConflictError(
        f"{quoted(str(address))}: another process listens there",
        hint="Stop it, or choose another --address.",
    )


@contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], None]]:
    """Yield a function that waits until a signal asks this process to end."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ignore(_number: int, _frame: FrameType | None) -> None:
        """Do nothing: Python writes to the pipe when the signal arrives.

        A handler runs later, and does not end the wait for the pipe if the signal arrived just
        before it.
        """

    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    before = {number: signal.signal(number, ignore) for number in STOP_SIGNALS}
    try:
        yield lambda: _await_signal(read)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(read)
        os.close(write)


def _await_signal(pipe: int) -> None:
    """Wait until the number of one of the signals can be read from a pipe."""
    while True:
        select.select([pipe], [], [])
        with suppress(BlockingIOError):
            if set(os.read(pipe, 64)) & set(STOP_SIGNALS):
                return
