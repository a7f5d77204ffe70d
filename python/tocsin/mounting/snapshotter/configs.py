"""Configuration of other programs for the snapshotter: containerd, nerdctl, Kubernetes, systemd.

A lazy snapshotter must know which layer of which image it prepares. What makes containerd pass this
on differs: its client libraries and the CRI plug-in do it by labels, its transfer service if the
plug-in asks for it. Source: containerd/containerd, docs/cri/config.md; containerd/containerd,
docs/PLUGINS.md.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tocsin.mounting.containerd_version import EXPORTS, LATEST, SECOND
from tocsin.mounting.snapshotter.config import SnapshotterConfig

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.mounting.containerd_version import Version

CONTAINERD = "containerd"
NERDCTL = "nerdctl"
KUBERNETES = "k8s"
SYSTEMD = "systemd"
KINDS = (CONTAINERD, NERDCTL, KUBERNETES, SYSTEMD)

_CRI_SECTIONS = ('"io.containerd.grpc.v1.cri".containerd', '"io.containerd.cri.v1.images"')
"""Where containerd 1 and 2 have the snapshotter of the CRI plug-in."""
PLUGIN = "tocsin"
NERDCTL_PLUGIN = "soci"
"""Name under which nerdctl passes labels to a plug-in; it knows the names of some others only.

Source: containerd/nerdctl, pkg/imgutil/snapshotter.go.
"""
_IMAGE_SERVICE = "images.sock"
_SAFE = re.compile(r"[A-Za-z0-9_./+:@-]+")


def config_text(
    kind: str,
    *,
    version: Version = LATEST,
    settings: SnapshotterConfig | None = None,
    program: Path | str = "/usr/local/bin/tocsin",
) -> str:
    """Return the lines of a configuration file.

    Args:
        kind: one of `KINDS`.
        version: version of containerd.
        settings: settings of the snapshotter.
        program: path of ``tocsin``.
    """
    settings = settings or SnapshotterConfig()
    if kind == SYSTEMD:
        return _unit(settings, program)
    name = NERDCTL_PLUGIN if kind == NERDCTL else PLUGIN
    lines = [
        f"# containerd {version[0]}.{version[1]}: add these lines to /etc/containerd/config.toml, "
        "and restart containerd.",
    ]
    if kind == NERDCTL:
        lines += [
            "# nerdctl passes the names of image and layers only to snapshotters that it knows, "
            f"so this one is called {name}.",
            f"# Use it with nerdctl --snapshotter {name}, or with this line in "
            "/etc/nerdctl/nerdctl.toml:",
            f'#   snapshotter = "{name}"',
        ]
    lines += [f"version = {3 if version >= SECOND else 2}", ""]
    lines += _plugin(name, version, settings)
    if kind == KUBERNETES:
        lines += ["", *_cri(name, version), "", *_kubelet(settings)]
    elif version >= SECOND:
        lines += ["", *_unpacking(name)]
    return "\n".join([*lines, ""])


def _plugin(name: str, version: Version, settings: SnapshotterConfig) -> list[str]:
    lines = [
        f"[proxy_plugins.{name}]",
        '  type = "snapshot"',
        f"  address = {_toml(settings.address)}",
    ]
    if version >= EXPORTS:
        lines += [
            f"  [proxy_plugins.{name}.exports]",
            "    # Kubernetes measures the disk space of images here.",
            f"    root = {_toml(settings.root)}",
        ]
    if version >= SECOND:
        lines += ['    enable_remote_snapshot_annotations = "true"']
    return lines


def _unpacking(name: str) -> list[str]:
    """Return what makes the transfer service unpack for a snapshotter, and for containerd's own."""
    return [
        "# Without these lines, ctr cannot pull images for this snapshotter.",
        *_unpack_config("overlayfs"),
        *_unpack_config(name),
    ]


def _unpack_config(name: str) -> list[str]:
    return [
        '[[plugins."io.containerd.transfer.v1.local".unpack_config]]',
        '  platform = "linux"',
        f'  snapshotter = "{name}"',
    ]


def _cri(name: str, version: Version) -> list[str]:
    return [
        f"[plugins.{cri_section(version)}]",
        f'  snapshotter = "{name}"',
        "  disable_snapshot_annotations = false",
    ]


def _kubelet(settings: SnapshotterConfig) -> list[str]:
    service = settings.image_service or settings.address.with_name(_IMAGE_SERVICE)
    return [
        "# The kubelet sends the credentials of pods (imagePullSecrets) only to its image service.",
        "# To use them, put this line into /etc/tocsin/snapshotter.toml:",
        f"#   image-service = {_toml(service)}",
        "# and this one into the configuration of the kubelet:",
        f"#   imageServiceEndpoint: unix://{service}",
    ]


def cri_section(version: Version) -> str:
    """Return the section with the snapshotter of the CRI plug-in, without ``plugins.``."""
    return _CRI_SECTIONS[version >= SECOND]


def _unit(settings: SnapshotterConfig, program: Path | str) -> str:
    command = [_quoted(str(program)), "snapshotter"]
    defaults = SnapshotterConfig()
    for option in ("root", "address"):
        value = getattr(settings, option)
        if value != getattr(defaults, option):
            command += [f"--{option}", _quoted(str(value))]
    return "\n".join(
        [
            "# /etc/systemd/system/tocsin-snapshotter.service",
            "[Unit]",
            "Description=Snapshotter of tocsin for containerd",
            "Before=containerd.service",
            "",
            "[Service]",
            "Type=notify",
            f"ExecStart={' '.join(command)}",
            "Restart=always",
            "RestartSec=1",
            "# Mounted images have separate processes, which must survive a restart of this one.",
            "KillMode=process",
            "LimitNOFILE=1048576",
            "OOMScoreAdjust=-500",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def _quoted(word: str) -> str:
    """Return a word of a command in a unit. Source: systemd, systemd.service(5)."""
    word = word.replace("%", "%%").replace("$", "$$")
    if _SAFE.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _toml(path: Path) -> str:
    """Return a string of TOML, whose escapes are those of JSON."""
    return json.dumps(str(path))
