"""Checks of what this machine can mount, and remedies for what it cannot.

Each check is a function from a machine to one result; it reads files and changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.mounting.doctor_check import Check, State
from tocsin.mounting.doctor_containerd import containerd_checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.document import Document
    from tocsin.mounting.machine import Machine

_EROFS_KERNEL = (6, 12)
"""The first kernel that mounts EROFS from files."""
_EROFS_OPTION = "CONFIG_EROFS_FS_BACKED_BY_FILE"
_OVERLAY_KERNEL = (5, 11)
"""The first kernel that mounts overlayfs in user namespaces."""
_MIN_FREE_SPACE = 1 << 30
"""Bytes of free space below which most images do not fit into the cache."""
_FUSE_DEVICE = "dev/fuse"
_FUSE_CONFIG = "etc/fuse.conf"
_CONTAINER_OPTIONS = "Start the container with --device /dev/fuse --cap-add SYS_ADMIN"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The results of all checks.

    Attributes:
        checks: the results, most important first.
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether mounting works."""
        return all(check.state != State.FAILED for check in self.checks)

    def to_dict(self) -> Document:
        """Return the document that ``tocsin doctor --json`` prints; see docs/json.md."""
        return {"ok": self.ok, "checks": [check.to_dict() for check in self.checks]}


def diagnose(machine: Machine) -> Diagnosis:
    """Check what a machine can mount."""
    if machine.system != "Linux":
        found = f"{machine.system}, but images are mounted only on Linux"
        return Diagnosis((Check("system", State.FAILED, found),))
    checks = [check(machine) for check in _CHECKS]
    return Diagnosis((*checks, *containerd_checks(machine)))


def check_system(machine: Machine) -> Check:
    """Check the operating system; all kernels that Python supports have FUSE."""
    return Check("system", State.OK, f"Linux {machine.release}")


def check_fuse(machine: Machine) -> Check:
    """Check that the device of FUSE exists and can be used."""
    device = machine.path(_FUSE_DEVICE)
    if not device.exists():
        fix = _CONTAINER_OPTIONS if machine.is_container else "sudo modprobe fuse"
        return Check("fuse", State.FAILED, f"/{_FUSE_DEVICE} is missing", fix)
    if not machine.may_use(device):
        fix = _CONTAINER_OPTIONS if machine.is_container else f"sudo chmod 666 /{_FUSE_DEVICE}"
        return Check("fuse", State.FAILED, f"/{_FUSE_DEVICE}: permission denied", fix)
    return Check("fuse", State.OK, f"/{_FUSE_DEVICE}")


def check_rights(machine: Machine) -> Check:
    """Check that this process may mount, itself or through fusermount3."""
    if machine.may_mount:
        return Check("rights", State.OK, "this process may mount (CAP_SYS_ADMIN)")
    program = machine.program("fusermount3") or machine.program("fusermount")
    if program is None:
        return Check(
            "rights",
            State.FAILED,
            "this process may not mount, and fusermount3 is missing",
            _CONTAINER_OPTIONS if machine.is_container else machine.install("fuse3"),
        )
    if not machine.is_setuid_root(program):
        return Check(
            "rights",
            State.FAILED,
            f"this process may not mount, and {program} does not run as root",
            f"sudo chmod u+s {program}",
        )
    if not machine.may_gain_rights:
        return Check(
            "rights",
            State.FAILED,
            f"this process may not mount, and {program} gains no rights (no_new_privs)",
            "Start the process without no_new_privs (--security-opt no-new-privileges)",
        )
    return Check("rights", State.OK, f"{program}")


def check_allow_other(machine: Machine) -> Check:
    """Check whether other users can be allowed to use a mount."""
    if machine.may_mount:
        return Check("allow-other", State.OK, "not restricted for this process")
    text = machine.text(_FUSE_CONFIG) or ""
    if re.search(r"^\s*user_allow_other\s*$", text, re.MULTILINE):
        return Check("allow-other", State.OK, f"user_allow_other in /{_FUSE_CONFIG}")
    return Check(
        "allow-other",
        State.LIMITED,
        f"user_allow_other is missing in /{_FUSE_CONFIG}, so --allow-other does not work",
        f"echo user_allow_other | sudo tee -a /{_FUSE_CONFIG}",
    )


def check_erofs(machine: Machine) -> Check:
    """Check whether images can be mounted with EROFS, which is faster than FUSE alone."""
    fallback = "so FUSE is used"
    if not machine.may_mount:
        return Check("erofs", State.LIMITED, f"needs root (CAP_SYS_ADMIN), {fallback}")
    if machine.kernel < _EROFS_KERNEL:
        least = ".".join(map(str, _EROFS_KERNEL))
        return Check(
            "erofs",
            State.LIMITED,
            f"kernel {machine.release} does not mount EROFS from files, {fallback}",
            f"Use kernel {least} or later",
        )
    if not machine.has_file_system("erofs"):
        found = f"the kernel has no EROFS, {fallback}"
        return Check("erofs", State.LIMITED, found, "sudo modprobe erofs")
    option = machine.kernel_option(_EROFS_OPTION)
    if option is None:
        return Check("erofs", State.UNKNOWN, f"available, perhaps without {_EROFS_OPTION}")
    if option != "y":
        return Check(
            "erofs", State.LIMITED, f"the kernel was built without {_EROFS_OPTION}, {fallback}"
        )
    return Check("erofs", State.OK, "mounted from files")


def check_user_namespaces(machine: Machine) -> Check:
    """Check whether ``tocsin run`` works without root."""
    name = "user-namespaces"
    if machine.may_mount:
        return Check(name, State.OK, "not needed by this process")
    for place, allowed in (
        ("kernel/unprivileged_userns_clone", 1),
        ("kernel/apparmor_restrict_unprivileged_userns", 0),
    ):
        value = machine.number(f"proc/sys/{place}")
        if value is not None and value != allowed:
            setting = place.replace("/", ".")
            return _namespaces_off(f"{setting} is {value}", f"{setting}={allowed}")
    limit = machine.number("proc/sys/user/max_user_namespaces")
    if limit == 0:
        return _namespaces_off("user.max_user_namespaces is 0", "user.max_user_namespaces=15000")
    if limit is None or not machine.exists("proc/self/ns/user"):
        return Check(name, State.LIMITED, "the kernel has none, so tocsin run works only as root")
    return Check(name, State.OK, "allowed")


def _namespaces_off(found: str, setting: str) -> Check:
    return Check(
        "user-namespaces",
        State.LIMITED,
        f"{found}, so tocsin run works only as root",
        f"sudo sysctl {setting}",
    )


def check_overlay(machine: Machine) -> Check:
    """Check whether programs can write to a mounted image, into a layer above it."""
    effect = "so tocsin run gives programs a read-only root"
    if not machine.has_file_system("overlay"):
        found = f"the kernel has no overlayfs, {effect}"
        return Check("overlay", State.LIMITED, found, "sudo modprobe overlay")
    if not machine.may_mount and machine.kernel < _OVERLAY_KERNEL:
        least = ".".join(map(str, _OVERLAY_KERNEL))
        return Check(
            "overlay",
            State.LIMITED,
            f"kernel {machine.release} does not mount overlayfs in user namespaces, {effect}",
            f"Use kernel {least} or later",
        )
    return Check("overlay", State.OK, "available")


def check_cache(machine: Machine) -> Check:
    """Check that the cache directory can be written to, and its free space."""
    directory = machine.cache_dir
    existing = next((each for each in (directory, *directory.parents) if each.exists()), Path("/"))
    if not existing.is_dir() or not machine.may_use(existing):
        return Check(
            "cache",
            State.LIMITED,
            f"{directory} cannot be written to, so layers are kept in memory",
            "Name another directory with --cache-dir or TOCSIN_CACHE_DIR",
        )
    free = machine.free_space(existing)
    found = f"{directory}, {free / (1 << 30):,.1f} GiB free"
    if free < _MIN_FREE_SPACE:
        fix = "tocsin cache prune --all"
        return Check("cache", State.LIMITED, f"{found}, which is little for images", fix)
    return Check("cache", State.OK, found)


_CHECKS: tuple[Callable[[Machine], Check], ...] = (
    check_system,
    check_fuse,
    check_rights,
    check_allow_other,
    check_erofs,
    check_user_namespaces,
    check_overlay,
    check_cache,
)
