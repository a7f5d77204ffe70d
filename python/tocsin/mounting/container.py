"""Runs one program with an image as its root, in its own namespaces.

The namespaces are made with system calls, so that no other program is needed: mounts, processes and
IPC are separate, the network is that of the machine. Without root, a user namespace makes this user
root inside. Changes to files go to memory and are lost at the end. This is for trying an image; it
does not isolate as a container runtime does.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tocsin.errors import FormatError, NotFoundError, UnsupportedError
from tocsin.mounting import system_calls as calls
from tocsin.mounting.child_signals import FORWARDED, FROM_TERMINAL, Forwarding
from tocsin.mounting.reports import PipeReport, await_ready
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from tocsin.model.run_config import RunConfig
    from tocsin.mounting.child_signals import TimeLimit
    from tocsin.mounting.reports import Report

NOT_FOUND = 127
"""Exit code if the program is missing, as in shells and in Docker."""
NOT_EXECUTABLE = 126
_KILLED = 128
"""Added to the number of the signal that ended the program."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_PROTECTED = ("bus", "fs", "irq", "sys", "sysrq-trigger")
"""Entries of ``/proc`` with which root could change the machine; read-only, as in Docker."""
_COPIED = ("/etc/resolv.conf", "/etc/hosts")
"""Files of the machine without which the network is of little use."""
_MAX_COPIED_SIZE = 64 << 10
_MAX_ACCOUNTS_SIZE = 1 << 20
"""Maximum size of ``/etc/passwd`` and ``/etc/group`` of an image, in bytes."""
_MAX_ID = (1 << 32) - 2
_UNESCAPED = str.maketrans({"\\": "\\\\", ":": "\\:", ",": "\\,"})
"""How overlayfs escapes its options."""


@dataclass(frozen=True, slots=True)
class Place:
    """The directories that a container is made of; all of them exist.

    Attributes:
        image: where the image is mounted.
        scratch: an empty directory, over which the container's own files are mounted.
    """

    image: str
    scratch: str


def run(
    place: Place,
    config: RunConfig,
    report: Report,
    *,
    lifeline: int | None = None,
    read_only: bool = False,
    time_limit: TimeLimit | None = None,
) -> int:
    """Run a program, and return its exit code; a signal counts as 128 plus its number.

    This process must have only one thread.

    Args:
        place: the image, and where its root is made.
        config: what is run.
        report: receives notes.
        lifeline: descriptor that only this process may keep open.
        read_only: whether the program cannot change files, except in ``/tmp`` and ``/run``.
        time_limit: when the program is stopped; ``None`` for never.

    Raises:
        UnsupportedError: the kernel does not allow the namespaces or mounts.
        NotFoundError, FormatError: the user does not exist in the image.
    """
    calls.load()
    _preload()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        if lifeline is not None:
            os.close(lifeline)
        _outside(place, config, PipeReport(write), os.getppid(), read_only=read_only)
    os.close(write)
    with Forwarding(child):
        try:
            with os.fdopen(read, "rb") as pipe:
                # The pipe is closed when the program starts.
                await_ready(pipe, report)
        finally:
            with nullcontext() if time_limit is None else time_limit.of(child):
                code = _wait(child)
    return code


def _wait(child: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else _KILLED - code


# -- outside of the container --------------------------------------------------------------------


def _outside(
    place: Place, config: RunConfig, report: PipeReport, parent: int, *, read_only: bool
) -> NoReturn:
    """Make the namespaces, and wait for the first process in them."""
    code = 1
    try:
        calls.die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        _unshare()
        child = os.fork()
        if child == 0:
            _inside(place, config, report, read_only=read_only)
        report.close()
        with Forwarding(child):
            code = _wait(child)
    except BaseException as error:
        report.error(error)
    finally:
        os._exit(code)


def _unshare() -> None:
    flags = calls.CLONE_NEWNS | calls.CLONE_NEWPID | calls.CLONE_NEWIPC
    user, group = os.geteuid(), os.getegid()
    try:
        if user == 0:
            calls.unshare(flags)
            return
        calls.unshare(flags | calls.CLONE_NEWUSER)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EACCES):
            raise
        raise UnsupportedError(
            "namespaces: not permitted"
            + ("" if user == 0 else " for users other than root, since user namespaces are off"),
            hint="Run tocsin as root; in a container, start it with --cap-add SYS_ADMIN."
            if user == 0
            else "Run tocsin as root, or allow user namespaces with sysctl "
            "kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0.",
        ) from error
    # Source: Linux man-pages, user_namespaces(7).
    process = Path("/proc/self")
    (process / "setgroups").write_text("deny")
    (process / "uid_map").write_text(f"0 {user} 1")
    (process / "gid_map").write_text(f"0 {group} 1")


# -- inside of the container ---------------------------------------------------------------------


def _inside(place: Place, config: RunConfig, report: PipeReport, *, read_only: bool) -> NoReturn:
    """Make the root, start the program, and wait for it as the first process."""
    code = 1
    try:
        calls.die_with_parent(signal.SIGKILL)
        copied = [] if read_only else _read_copied()
        _make_root(place, report, read_only=read_only)
        for path, data in copied:
            _write_copied(path, data)
        user = _user_of(config.user)
        child = os.fork()
        if child == 0:
            _start(config, user, report)
        report.close()
        with Forwarding(child):
            code = _wait_as_first(child)
    except BaseException as error:
        report.error(error)
    finally:
        os._exit(code)


def _make_root(place: Place, report: PipeReport, *, read_only: bool) -> None:
    # Nothing that is mounted from here on is visible outside.
    calls.mount("", "/", "", calls.MS_REC | calls.MS_PRIVATE)
    flags = calls.MS_NOSUID | calls.MS_NODEV
    calls.mount("tmpfs", place.scratch, "tmpfs", flags, "mode=700")
    root = f"{place.scratch}/root"
    for name in ("root", "upper", "work"):
        Path(place.scratch, name).mkdir(mode=0o755)
    if not _mount_overlay(place, root, report):
        calls.mount(place.image, root, "", calls.MS_BIND)
        read_only = True
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        _mount_system(fd, is_read_only=read_only)
    finally:
        os.close(fd)
    if read_only:
        # Only now, since an image may lack directories such as /proc.
        calls.mount("", root, "", flags | calls.MS_BIND | calls.MS_REMOUNT | calls.MS_RDONLY)
    calls.change_root(root)
    _protect()


def _mount_overlay(place: Place, root: str, report: PipeReport) -> bool:
    names = {
        "lowerdir": place.image,
        "upperdir": f"{place.scratch}/upper",
        "workdir": f"{place.scratch}/work",
    }
    options = ",".join(f"{name}={path.translate(_UNESCAPED)}" for name, path in names.items())
    if not _is_initial_user_namespace():
        # Attributes trusted.* need rights that a user namespace does not give.
        options += ",userxattr"
    try:
        calls.mount("overlay", root, "overlay", calls.MS_NOSUID | calls.MS_NODEV, options)
    except OSError as error:
        report.note(f"the image is read-only: overlay cannot be mounted: {error.strerror}")
        return False
    return True


def _is_initial_user_namespace() -> bool:
    """Return whether this process has the user ids of the machine."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", str((1 << 32) - 1)]


def _mount_system(root: int, *, is_read_only: bool) -> None:
    """Mount the file systems that programs expect, on directories and never on links."""
    safe = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
    with suppress(OSError), _Directory(root, "proc") as path:
        try:
            calls.mount("proc", path, "proc", safe)
        except OSError:
            # In a container whose own /proc is masked, the kernel refuses a new one.
            calls.mount("/proc", path, "", calls.MS_BIND | calls.MS_REC)
    with suppress(OSError), _Directory(root, "sys") as path:
        try:
            calls.mount("sysfs", path, "sysfs", safe | calls.MS_RDONLY)
        except OSError:
            # A user namespace that shares the network may not; it has no rights there either.
            calls.mount("/sys", path, "", calls.MS_BIND | calls.MS_REC)
    with suppress(OSError), _Directory(root, "dev") as path:
        calls.mount("tmpfs", path, "tmpfs", calls.MS_NOSUID | calls.MS_NOEXEC, "mode=755")
    with suppress(OSError), _Directory(root, "dev") as path:
        _make_devices(path)
    if is_read_only:
        for name, mode in (("tmp", "1777"), ("run", "755")):
            with suppress(OSError), _Directory(root, name) as path:
                calls.mount(
                    "tmpfs", path, "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, f"mode={mode}"
                )


def _protect() -> None:
    """Make what could change the machine read-only, inside the new root."""
    flags = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC | calls.MS_RDONLY
    if Path("/proc").is_symlink():
        return  # nothing is mounted there
    for name in _PROTECTED:
        path = f"/proc/{name}"
        with suppress(OSError):
            calls.mount(path, path, "", calls.MS_BIND)
            calls.mount("", path, "", flags | calls.MS_BIND | calls.MS_REMOUNT)


class _Directory:
    """A path to a directory in a root, which does not change if the directory is replaced.

    Raises:
        OSError: it is missing and cannot be made, or it is a link or a file.
    """

    def __init__(self, root: int, name: str) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(name, flags, dir_fd=root)
        except FileNotFoundError:
            os.mkdir(name, 0o755, dir_fd=root)
            self._fd = os.open(name, flags, dir_fd=root)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _make_devices(directory: str) -> None:
    # Made from the machine's, since a user namespace cannot make devices.
    for name in _DEVICES:
        with suppress(OSError):
            target = f"{directory}/{name}"
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            calls.mount(f"/dev/{name}", target, "", calls.MS_BIND)
    for name, target in _DEVICE_LINKS.items():
        with suppress(OSError):
            Path(directory, name).symlink_to(target)
    with suppress(OSError):
        Path(directory, "shm").mkdir()
        shared = calls.MS_NOSUID | calls.MS_NODEV
        calls.mount("tmpfs", f"{directory}/shm", "tmpfs", shared, "mode=1777")
    with suppress(OSError):
        Path(directory, "pts").mkdir()
        calls.mount("/dev/pts", f"{directory}/pts", "", calls.MS_BIND)
        Path(directory, "ptmx").symlink_to("pts/ptmx")


def _read_copied() -> list[tuple[str, bytes]]:
    found = []
    for path in _COPIED:
        with suppress(OSError), Path(path).open("rb") as file:
            found.append((path, file.read(_MAX_COPIED_SIZE)))
    return found


def _write_copied(path: str, data: bytes) -> None:
    """Write a file of the machine into the root, in place of the image's."""
    with suppress(OSError):
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        # It may be a link, or a file that only root of the machine may change.
        file.unlink(missing_ok=True)
        file.write_bytes(data)


@dataclass(frozen=True, slots=True)
class _User:
    """A user of an image.

    Attributes:
        uid: number of the user.
        gid: number of the group.
        groups: numbers of additional groups.
        home: home directory.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def _user_of(text: str) -> _User:
    """Return the user of a config. Source: OCI image-spec 1.1.1, config.md, "User".

    Raises:
        NotFoundError: a name is not in the image's ``/etc/passwd`` or ``/etc/group``.
        FormatError: a number is too large.
    """
    name, _, group = text.partition(":")
    accounts = _accounts("/etc/passwd", 7)
    groups = _accounts("/etc/group", 4)
    name = name or "0"
    found = next((each for each in accounts if name in (each[0], each[2])), None)
    if found is None and not name.isdecimal():
        raise NotFoundError(f"user {quoted(name)}: not found in /etc/passwd of the image")
    uid = _id(name if found is None else found[2])
    gid = 0 if found is None else _id(found[3])
    more: tuple[int, ...] = ()
    if group:
        entry = next((each for each in groups if group in (each[0], each[2])), None)
        if entry is None and not group.isdecimal():
            raise NotFoundError(f"group {quoted(group)}: not found in /etc/group of the image")
        gid = _id(group if entry is None else entry[2])
    elif found is not None:
        more = tuple(_id(each[2]) for each in groups if found[0] in each[3].split(","))
    return _User(uid, gid, more, "/" if found is None else found[5] or "/")


def _id(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_ID:
        raise FormatError(f"config: User: {quoted(text)} is not a number of a user", what="config")
    return int(text)


def _accounts(path: str, width: int) -> list[list[str]]:
    """Return the lines of ``/etc/passwd`` or ``/etc/group`` that have all fields."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            text = file.read(_MAX_ACCOUNTS_SIZE).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    rows = (line.split(":") for line in text.splitlines())
    return [row for row in rows if len(row) >= width]


def _start(config: RunConfig, user: _User, report: PipeReport) -> NoReturn:
    """Become the program."""
    try:
        for number in (*FORWARDED, *FROM_TERMINAL, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        calls.limit_privileges()
        with suppress(OSError):  # a user namespace does not allow it
            os.setgroups(user.groups)
        try:
            os.setgid(user.gid)
            os.setuid(user.uid)
        except OSError:
            report.note(
                f"the program runs as this user, since user {user.uid} is not available without "
                "root"
            )
        environment = dict(config.environment)
        environment.setdefault("HOME", user.home)
        _enter(config.directory)
        _execute(config.arguments, environment)
    except FileNotFoundError:
        _say(f"{config.arguments[0]}: not found in the image")
        os._exit(NOT_FOUND)
    except OSError as error:
        _say(f"{config.arguments[0]}: {error.strerror}")
        os._exit(NOT_EXECUTABLE)
    except BaseException as error:
        report.error(error)
    finally:
        os._exit(1)


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except FileNotFoundError:
        # As Docker does; on a read-only root it stays missing.
        with suppress(OSError):
            Path(directory).mkdir(parents=True, exist_ok=True)
            os.chdir(directory)


def _execute(arguments: tuple[str, ...], environment: dict[str, str]) -> NoReturn:
    """Replace this process, searching ``PATH`` of the image.

    Raises:
        OSError: the program is missing or cannot be executed.
    """
    program = arguments[0]
    places = [""] if "/" in program else environment.get("PATH", "").split(":")
    problem: OSError = FileNotFoundError(errno.ENOENT, "not found", program)
    for place in places:
        path = f"{place}/{program}" if place else program
        try:
            os.execve(path, arguments, environment)  # noqa: S606 (what the user asked for)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            problem = error
    raise problem


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"tocsin run: {text}\n".encode("utf-8", "backslashreplace"))


def _wait_as_first(child: int) -> int:
    """Return the exit code of a child, and reap every other process that ends before it."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _KILLED - code


def _preload() -> None:
    """Import what is usually imported only when it is needed, and is not found in a new root."""
    for name in ("encodings.ascii", "encodings.latin_1", "linecache", "traceback", "warnings"):
        importlib.import_module(name)
