"""Checks of containerd's configuration, if there is one: what a lazy snapshotter needs of it.

A snapshotter learns which image it prepares only from annotations, which containerd passes to it
if it is configured to. Source: containerd/containerd, docs/cri/config.md; containerd/containerd,
docs/PLUGINS.md.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from tocsin.mounting.doctor_check import Check, State
from tocsin.quoting import shown

if TYPE_CHECKING:
    from tocsin.mounting.machine import Machine

CONFIG = "etc/containerd/config.toml"
_CRI_PLUGINS = (
    ("io.containerd.cri.v1.images", ()),  # version 3 of the configuration
    ("io.containerd.grpc.v1.cri", ("containerd",)),  # version 2
    ("cri", ("containerd",)),  # version 1
)
_LABELS = "containerd-labels"
_PLUGINS = "containerd-plugins"
_TRANSFER = "enable_remote_snapshot_annotations"


def containerd_checks(machine: Machine) -> list[Check]:
    """Return the checks of containerd; none if it is not installed."""
    is_installed = machine.program("containerd") is not None
    text = machine.text(CONFIG)
    if text is None:
        if machine.exists(CONFIG):
            return [Check(_PLUGINS, State.UNKNOWN, f"/{CONFIG} cannot be read")]
        if not is_installed:
            return []
    try:
        config = tomllib.loads(text or "")
    except (ValueError, RecursionError):
        return [Check(_PLUGINS, State.UNKNOWN, f"/{CONFIG} is not valid TOML")]
    return [_check_plugins(config), _check_labels(config)]


def _check_plugins(config: dict[str, Any]) -> Check:
    """Check the proxy plug-ins: snapshotters that run as separate programs."""
    plugins = {
        name: plugin
        for name, plugin in _table(config, "proxy_plugins").items()
        if _table(plugin).get("type") == "snapshot"
    }
    if not plugins:
        return Check(
            _PLUGINS,
            State.LIMITED,
            "no snapshotter in [proxy_plugins], so containerd does not mount images lazily",
            f"Add [proxy_plugins.NAME] with type and address to /{CONFIG}",
        )
    names = ", ".join(shown(name, limit=40) for name in plugins)
    without = [
        name
        for name, plugin in plugins.items()
        if _table(plugin, "exports").get(_TRANSFER) != "true"
    ]
    if without:
        name = shown(without[0], limit=40)
        return Check(
            _PLUGINS,
            State.LIMITED,
            f"snapshotters: {names}; containerd 2.1 and later do not pass annotations to {name}",
            f'Set {_TRANSFER} = "true" in [proxy_plugins.{name}.exports] of /{CONFIG}',
        )
    return Check(_PLUGINS, State.OK, f"snapshotters: {names}")


def _check_labels(config: dict[str, Any]) -> Check:
    """Check that the CRI plug-in passes annotations to snapshotters, which it does not by default.

    Source: containerd/containerd, docs/cri/config.md.
    """
    disabled = config.get("disabled_plugins")
    if isinstance(disabled, list) and {"cri", "io.containerd.grpc.v1.cri"} & {*map(str, disabled)}:
        return Check(_LABELS, State.OK, "the CRI plug-in is disabled")
    values = [
        _table(config, "plugins", plugin, *below).get("disable_snapshot_annotations")
        for plugin, below in _CRI_PLUGINS
    ]
    if False in values:
        return Check(_LABELS, State.OK, "the CRI plug-in passes annotations to snapshotters")
    is_new = config.get("version") == 3  # noqa: PLR2004 (a version)
    section = (
        '"io.containerd.cri.v1.images"' if is_new else '"io.containerd.grpc.v1.cri".containerd'
    )
    return Check(
        _LABELS,
        State.LIMITED,
        "the CRI plug-in passes no annotations to snapshotters, so Kubernetes does not mount images"
        " lazily",
        f"Set disable_snapshot_annotations = false in [plugins.{section}] of /{CONFIG}",
    )


def _table(value: Any, *names: str) -> dict[str, Any]:  # noqa: ANN401 (TOML)
    """Return a table inside a document; an empty one if it is missing or another type."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
