"""The process of a mount: it opens the image, mounts it, and serves it until it is unmounted.

A mount has its own process, so that it outlives the program that asked for it, and that
neither can block the other. It is forked before any thread exists. It ends when the file system is
unmounted, or when it receives SIGTERM or SIGINT, and then unmounts it.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from tocsin.errors import TocsinError, UnsupportedError
from tocsin.log import LOG
from tocsin.mounting import control, mount_points
from tocsin.mounting.fronts import front_for
from tocsin.mounting.notify import notify
from tocsin.mounting.registered import (
    Registration,
    Registry,
    mounted_already,
    own_start_time,
)
from tocsin.mounting.reports import PipeReport, Ready, await_ready
from tocsin.mounting.status import of_live
from tocsin.operating_system import STOP_SIGNALS
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType

    from tocsin.model.document import Document
    from tocsin.model.events import Progress
    from tocsin.mounting.completed import Completion
    from tocsin.mounting.engine import Engine
    from tocsin.mounting.opening import OpenedImage
    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.reports import Report

_COLLECT_INTERVAL = 1.0
"""Seconds between two collections of the accesses that the core keeps in memory."""
_UNMOUNT_WAIT = 0.2
"""Seconds that the core waits at once for an unmount; it cannot unmount meanwhile."""


# -- starting ------------------------------------------------------------------------------------


def prepare(options: MountOptions, directory: str) -> None:
    """Check that an image can be mounted in a directory, and remove a dead mount from it.

    Raises:
        UnsupportedError: this machine cannot mount.
        NotFoundError, ConflictError: the directory cannot be used.
        OSError: it cannot be read.
    """
    mount_points.check_system(allow_other=options.allow_other)
    registry = Registry(options.run_directory)
    found = registry.find(directory)
    if found is not None:
        if found.is_alive:
            raise mounted_already(found)
        remove_dead(registry, found)
    mount_points.check_directory(directory)
    front_for(options, directory)


def remove_dead(registry: Registry, dead: Registration) -> None:
    """Remove the mount of a process that has died, and its description.

    Raises:
        OSError: it cannot be unmounted.
    """
    layers = registry.layers_path(dead)
    for directory in (dead.directory, str(layers)):
        while True:
            point = mount_points.mounted_at(directory)
            if point is None or not mount_points.is_ours(point):
                break
            # Programs that still use it get errors in any case.
            mount_points.unmount(point, lazy=True)
    with suppress(OSError):
        layers.rmdir()
    registry.remove(dead)


def fork(
    options: MountOptions,
    directory: str,
    report: Report,
    *,
    progress: Progress | None = None,
    log: Path | None = None,
    lifeline: tuple[int, int] | None = None,
    temporary: Sequence[Path] = (),
    with_config: bool = False,
) -> Ready:
    """Mount an image with a new process, and return when the mount is ready.

    This process must have only one thread.

    Args:
        options: options of the mount.
        directory: absolute path of an empty directory.
        report: receives notes.
        progress: receives events while layers are read.
        log: file to which the process appends its messages; ``None`` to discard them.
        lifeline: both ends of a pipe; the mount ends when this process closes the one for writing.
        temporary: directories to remove in this order when the mount has ended, if they are empty.
        with_config: whether to report the image's config.

    Raises:
        TocsinError, OSError: there is no mount.
    """
    prepare(options, directory)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            if lifeline is not None:
                os.close(lifeline[1])
            report = PipeReport(write)
            with _detached(report, log):
                serve(
                    options,
                    directory,
                    report,
                    lifeline=None if lifeline is None else lifeline[0],
                    temporary=temporary,
                    with_config=with_config,
                )
        finally:
            # A signal may raise an exception even while the block above ends the process. The code
            # of the caller must never continue in this process.
            os._exit(1)
    os.close(write)
    try:
        with os.fdopen(read, "rb") as pipe:
            ready = await_ready(pipe, report, progress)
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise
    if ready is None:
        raise _ended(directory, os.waitpid(pid, 0)[1])
    return ready


def _ended(directory: str, status: int) -> TocsinError:
    code = os.waitstatus_to_exitcode(status)
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return UnsupportedError(
        f"{quoted(directory)}: the process of the mount ended {how}",
        hint="Run the command again with --foreground to see its messages.",
    )


@contextmanager
def _detached(report: PipeReport, log: Path | None) -> Iterator[None]:
    """Run the block as a separate process, and end this process after it."""
    code = 1
    try:
        os.setsid()
        redirect(log)
        yield
        code = 0
    except Exception as error:
        log_failure(error)
        report.error(error)
    except BaseException:  # a signal while the image was being opened
        report.close()
    finally:
        with suppress(Exception):
            logging.shutdown()
        os._exit(code)


def log_failure(error: Exception) -> None:
    """Log why a mount's process ends, with a traceback if that was not expected."""
    LOG.error("%s", error, exc_info=not isinstance(error, TocsinError | OSError))


def redirect(log: Path | None) -> None:
    """Detach the standard streams, and let messages go to a file.

    Raises:
        OSError: the file cannot be opened.
    """
    null = os.open(os.devnull, os.O_RDWR)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    messages = null if log is None else os.open(log, flags, 0o600)
    for stream, target in ((0, null), (1, null), (2, messages)):
        os.dup2(target, stream)
    for opened in {null, messages}:
        os.close(opened)
    handler = logging.StreamHandler(sys.stderr if sys.stderr is not None else None)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # Handlers of the program that forked this process would keep messages in memory.
    LOG.handlers[:] = [handler]
    LOG.propagate = False


# -- serving -------------------------------------------------------------------------------------


def serve(
    options: MountOptions,
    directory: str,
    report: Report,
    *,
    lifeline: int | None = None,
    temporary: Sequence[Path] = (),
    with_config: bool = False,
) -> None:
    """Mount an image in this process, and return when it has been unmounted.

    Args:
        options: options of the mount.
        directory: absolute path of an empty directory.
        report: receives notes, events, and that the mount is ready.
        lifeline: end for reading of a pipe; the mount ends when the other end is closed.
        temporary: as for `fork`.
        with_config: as for `fork`.

    Raises:
        TocsinError, OSError: there is no mount, or the access log could not be written.
    """
    begun = time.monotonic()
    registry = Registry(options.run_directory)
    entry = Registration(
        directory=directory,
        image=str(options.reference),
        manifest="",
        platform="",
        index="",
        pid=os.getpid(),
        started=own_start_time(),
        since=time.time(),
        cache_dir=str(options.cache_dir),
    )
    with ExitStack() as stack:
        stack.callback(_remove_directories, temporary)
        registry.claim(entry)
        stack.callback(registry.remove, entry)
        # Imported here, since commands that only ask about mounts do not need them.
        from tocsin.mounting.completed import Completion  # noqa: PLC0415
        from tocsin.mounting.engine import Engine  # noqa: PLC0415
        from tocsin.mounting.opening import open_for_mount  # noqa: PLC0415

        opened = open_for_mount(options, note=report.note, progress=report.progress)
        stack.callback(opened.close)
        engine = Engine(opened, options, report.note)
        mounted: list[mount_points.MountPoint] = []
        stack.callback(_detach, mounted)
        stack.callback(engine.close)
        try:
            front = engine.mount(directory, layers=registry.layers_path(entry))
        except OSError as error:
            raise mount_points.mount_refused(error, directory) from error
        mounted.extend(filter(None, [mount_points.mounted_at(directory)]))
        entry = _described(entry, opened, engine).with_values(front=front)
        registry.write(entry)
        completion = Completion(engine, options, entry, registry)
        listening = control.ControlSocket(
            registry.socket_path(entry), _answers(entry, engine, options, completion)
        )
        stack.callback(listening.close)
        # From now on, signals end the mount instead of raising exceptions.
        with _stopped_by_signals() as stopping:
            report.ready(_ready(entry, opened, begun, with_config=with_config))
            notify("READY=1")
            engine.find_access_log()
            threading.Thread(target=_limit_cache, args=(options,), daemon=True).start()

            def is_over() -> bool:
                engine.collect()
                completion.begin()
                return _is_gone(registry, entry)

            _serve(engine, is_over, listening, stopping, lifeline)


def _limit_cache(options: MountOptions) -> None:
    """Remove what was used least recently from the cache; not what live mounts use."""
    from tocsin.layers.cache_contents import prune_cache  # noqa: PLC0415 (after the mount is ready)

    with suppress(OSError):
        prune_cache(options.cache_dir, max_size=options.cache_size)


def _is_gone(registry: Registry, entry: Registration) -> bool:
    """Return whether the image has been unmounted, though the kernel still keeps the file system.

    The kernel does so while another mount namespace has a copy of the mount, such as that of a
    container that was started meanwhile. A lazy unmount removes the description; then the programs
    that use the mount may finish.
    """
    if mount_points.mounted_at(entry.directory) is not None:
        return False
    found = registry.find(entry.directory)
    return found is not None and found.pid == entry.pid


def _detach(mounted: Sequence[mount_points.MountPoint]) -> None:
    """Free the directory of a mount that could not be unmounted, since programs use it.

    They get errors in any case, since this process ends.
    """
    for point in mounted:
        # Another mount may be there by now.
        if mount_points.mounted_at(point.directory) == point:
            with suppress(TocsinError, OSError):
                mount_points.unmount(point, lazy=True)


def _remove_directories(directories: Sequence[Path]) -> None:
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()


def _described(entry: Registration, opened: OpenedImage, engine: Engine) -> Registration:
    image = opened.image
    return entry.with_values(
        manifest=str(image.descriptor.digest),
        platform="" if image.platform is None else str(image.platform),
        index=opened.index,
        files=engine.status()["inodes"],
        size=opened.size,
        mounted=True,
    )


def _ready(entry: Registration, opened: OpenedImage, begun: float, *, with_config: bool) -> Ready:
    return Ready(
        directory=entry.directory,
        image=entry.image,
        manifest=entry.manifest,
        platform=entry.platform,
        index=entry.index,
        files=entry.files,
        size=entry.size,
        pid=entry.pid,
        seconds=time.monotonic() - begun,
        config=opened.image.config if with_config else None,
    )


def _answers(
    entry: Registration, engine: Engine, options: MountOptions, completion: Completion
) -> Callable[[str], Document | None]:
    def answer(question: str) -> Document | None:
        if question != control.STATUS:
            return None
        return of_live(
            entry,
            engine.status(),
            background=options.background,
            access_log=engine.access_log,
            verified=completion.verified,
            problem=completion.problem,
        ).to_dict()

    return answer


def _serve(
    engine: Engine,
    is_gone: Callable[[], bool],
    listening: control.ControlSocket,
    stopping: int,
    lifeline: int | None,
) -> None:
    """Answer questions until the mount has to end; `is_gone` is called every second."""
    unmounted, waiter = os.pipe()

    is_ending = threading.Event()

    def wait() -> None:
        while not (is_ending.is_set() or engine.wait(_UNMOUNT_WAIT)):
            pass
        with suppress(OSError):
            os.write(waiter, b"u")

    threading.Thread(target=wait, name="tocsin-unmounted", daemon=True).start()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(listening.fileno(), selectors.EVENT_READ, listening)
            for end in (unmounted, stopping, *(() if lifeline is None else (lifeline,))):
                selector.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(_COLLECT_INTERVAL):
                    if key.data is not listening:
                        return
                    listening.serve_one()
                if is_gone():
                    return
    finally:
        is_ending.set()


@contextmanager
def _stopped_by_signals() -> Iterator[int]:
    """Yield a descriptor that becomes readable when a signal asks this process to end."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def stop(number: int, _frame: FrameType | None) -> None:
        LOG.info("signal %d", number)
        with suppress(OSError):
            os.write(write, b"s")

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    # Wakes `select` at once; Python runs the handler only after that.
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
