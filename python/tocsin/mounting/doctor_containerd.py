"""Checks of containerd's configuration, if there is one: what a lazy snapshotter needs of it.

A snapshotter learns which image it prepares only from annotations, which containerd passes to it
if it is configured to. Source: containerd/containerd, docs/cri/config.md; containerd/containerd,
docs/PLUGINS.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tocsin.mounting.containerd_config import CONFIG, ConfigError, read_config, table
from tocsin.mounting.containerd_version import LATEST, SECOND
from tocsin.mounting.doctor_check import Check, State
from tocsin.quoting import shown

if TYPE_CHECKING:
    from tocsin.mounting.containerd_version import Version
    from tocsin.mounting.machine import Machine

_PLUGINS = "containerd-plugins"
_SOCKETS = "containerd-sockets"
_TRANSFER = "containerd-transfer"
_CRI = "containerd-cri"
_LABELS = "containerd-labels"
_ANNOTATIONS = "enable_remote_snapshot_annotations"
_TRANSFER_PLUGIN = "io.containerd.transfer.v1.local"
_CRI_PLUGINS = (
    ("io.containerd.cri.v1.images", ()),  # version 3 of the configuration
    ("io.containerd.grpc.v1.cri", ("containerd",)),  # version 2
    ("cri", ("containerd",)),  # version 1
)
_CRI_NAMES = frozenset({"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"})
_PRINT = "tocsin snapshotter --print-config"
_MAX_NAME_LEN = 40


def containerd_checks(machine: Machine) -> list[Check]:
    """Return the checks of containerd; none if it is not installed."""
    program = machine.program("containerd")
    if program is None and not machine.exists(CONFIG):
        return []
    version = None if program is None else machine.containerd_version(program)
    try:
        config = read_config(machine, version or LATEST)
    except ConfigError as error:
        return [Check(_PLUGINS, State.UNKNOWN, f"/{shown(error.file)} {error.problem}")]
    node = _Node(machine, version or LATEST, config)
    plugins = node.check_plugins()
    if plugins.state is not State.OK:
        return [plugins, node.check_labels()]
    checks = [plugins, node.check_sockets()]
    if node.version >= SECOND:
        checks.append(node.check_transfer())
    return [*checks, node.check_cri(), node.check_labels()]


@dataclass(frozen=True, slots=True)
class _Node:
    """A machine with containerd.

    Attributes:
        machine: the machine.
        version: version of containerd; the latest if it is unknown.
        config: its configuration.
    """

    machine: Machine
    version: Version
    config: dict[str, Any]

    def check_plugins(self) -> Check:
        """Check the proxy plug-ins: snapshotters that run as separate programs."""
        plugins = self._plugins()
        if not plugins:
            return Check(
                _PLUGINS,
                State.LIMITED,
                "no snapshotter in [proxy_plugins], so containerd does not mount images lazily",
                f"Add the lines of {_PRINT} containerd to /{CONFIG}",
            )
        return Check(_PLUGINS, State.OK, f"snapshotters: {', '.join(map(_shown, plugins))}")

    def check_sockets(self) -> Check:
        """Check that a program answers for each snapshotter."""
        silent = []
        for name, plugin in self._plugins().items():
            address = plugin.get("address")
            answers = isinstance(address, str) and self.machine.answers(address)
            if answers is None:
                found = f"{shown(str(address))}: permission denied"
                return Check(_SOCKETS, State.UNKNOWN, found, "Run tocsin doctor as root")
            if not answers:
                silent.append((name, str(address)))
        if not silent:
            return Check(_SOCKETS, State.OK, "the snapshotters answer")
        name, address = silent[0]
        return Check(
            _SOCKETS,
            State.LIMITED,
            f"{_shown(name)}: no program answers at {shown(address)}, so its images cannot be used",
            "sudo systemctl start tocsin-snapshotter"
            if "tocsin" in address
            else "Start the snapshotter, or correct the address in "
            f"[proxy_plugins.{_shown(name)}] of /{CONFIG}",
        )

    def check_transfer(self) -> Check:
        """Check the transfer service, which pulls for ``ctr``, and for Kubernetes by default."""
        plugins = self._plugins()
        for name, plugin in plugins.items():
            if table(plugin, "exports").get(_ANNOTATIONS) != "true":
                return Check(
                    _TRANSFER,
                    State.LIMITED,
                    f"containerd 2.1 and later do not pass annotations to {_shown(name)}",
                    f'Set {_ANNOTATIONS} = "true" in [proxy_plugins.{_shown(name)}.exports] '
                    f"of /{CONFIG}",
                )
        entries = table(self.config, "plugins", _TRANSFER_PLUGIN).get("unpack_config")
        unpacked = {
            table(entry).get("snapshotter")
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(table(entry).get("snapshotter"), str)
        }
        without = [name for name in plugins if name not in unpacked]
        if not without:
            return Check(_TRANSFER, State.OK, "pulls for the snapshotters")
        if set(without) == {self._cri_snapshotter()} and self._is_passed():
            # With this setting, the CRI plug-in pulls without the transfer service.
            return Check(_TRANSFER, State.OK, "not used by the CRI plug-in")
        return Check(
            _TRANSFER,
            State.LIMITED,
            f"ctr cannot pull images for {_shown(without[0])} (no unpack platforms defined)",
            f'Add [[plugins."{_TRANSFER_PLUGIN}".unpack_config]] with platform = "linux" and '
            f'snapshotter = "{_shown(without[0])}" to /{CONFIG}',
        )

    def check_cri(self) -> Check:
        """Check which snapshotter the CRI plug-in uses, and so Kubernetes."""
        if self._is_cri_disabled():
            return Check(_CRI, State.OK, "the CRI plug-in is disabled")
        used, plugins = self._cri_snapshotter(), self._plugins()
        if used in plugins:
            return Check(_CRI, State.OK, f"the CRI plug-in uses {_shown(used)}")
        name = _shown(next(iter(plugins)))
        return Check(
            _CRI,
            State.LIMITED,
            f"the CRI plug-in uses {_shown(used)}, so Kubernetes does not mount images lazily",
            f'Set snapshotter = "{name}" in [plugins.{self._cri_section()}] of /{CONFIG}',
        )

    def check_labels(self) -> Check:
        """Check that the CRI plug-in passes annotations to snapshotters.

        It does not by default.
        """
        if self._is_cri_disabled():
            return Check(_LABELS, State.OK, "the CRI plug-in is disabled")
        if self._is_passed():
            return Check(_LABELS, State.OK, "the CRI plug-in passes annotations to snapshotters")
        return Check(
            _LABELS,
            State.LIMITED,
            "the CRI plug-in passes no annotations to snapshotters, so Kubernetes does not mount"
            " images lazily",
            f"Set disable_snapshot_annotations = false in [plugins.{self._cri_section()}] of "
            f"/{CONFIG}",
        )

    def _plugins(self) -> dict[str, dict[str, Any]]:
        return {
            name: table(plugin)
            for name, plugin in table(self.config, "proxy_plugins").items()
            if table(plugin).get("type") in ("snapshot", "io.containerd.snapshotter.v1")
        }

    def _is_cri_disabled(self) -> bool:
        disabled = self.config.get("disabled_plugins")
        return isinstance(disabled, list) and not _CRI_NAMES.isdisjoint(map(str, disabled))

    def _cri_values(self, key: str) -> list[Any]:
        found = [
            table(self.config, "plugins", plugin, *below).get(key) for plugin, below in _CRI_PLUGINS
        ]
        return [value for value in found if value is not None]

    def _cri_snapshotter(self) -> str:
        return next(iter(map(str, self._cri_values("snapshotter"))), "overlayfs")

    def _is_passed(self) -> bool:
        return False in self._cri_values("disable_snapshot_annotations")

    def _cri_section(self) -> str:
        """Return the section of the CRI plug-in's images in this version of the configuration."""
        version = self.config.get("version")
        is_new = self.version >= SECOND if version is None else version == 3  # noqa: PLR2004
        return (
            '"io.containerd.cri.v1.images"' if is_new else '"io.containerd.grpc.v1.cri".containerd'
        )


def _shown(name: str) -> str:
    return shown(name, limit=_MAX_NAME_LEN)
