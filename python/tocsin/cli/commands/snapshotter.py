"""``tocsin snapshotter``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.options import output_options, registry_options

if TYPE_CHECKING:
    from tocsin.cli.output import Output
    from tocsin.mounting.snapshotter.config import SnapshotterConfig
    from tocsin.mounting.snapshotter.images import LazyMounts
    from tocsin.stores.registry import RegistryOptions


@command(summary="Run containerd's snapshotter that mounts images lazily.")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file in TOML.  [default: /etc/tocsin/snapshotter.toml, if it exists]",
)
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the snapshots.  [default: /var/lib/tocsin-snapshotter]",
)
@click.option(
    "--address",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Socket for containerd.  [default: /run/tocsin-snapshotter/tocsin.sock]",
)
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the cache.  [default: cache below the root directory]",
)
@click.option(
    "--cache-size",
    metavar="SIZE",
    type=parameters.size,
    help="Size limit of the cache, without what mounted images use.  [default: 2 GiB]",
)
@click.option(
    "--trust",
    type=click.Choice(["by-tag", "bound", "any"]),
    help="When to use indexes that only refer to an image: if it is pulled by tag, never, or"
    " always.  [default: by-tag]",
)
@click.option(
    "--background/--no-background",
    default=None,
    help="Load the rest of each image in the background.  [default: --background]",
)
@click.option(
    "--cri-address",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Socket for the kubelet's image service, which passes the credentials of pulls to mounts.",
)
@click.option(
    "--containerd-address",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="containerd's socket, used with --cri-address."
    "  [default: /run/containerd/containerd.sock]",
)
@registry_options
@output_options
def snapshotter(
    *,
    config: Path | None,
    root: Path | None,
    address: Path | None,
    cache_dir: Path | None,
    cache_size: int | None,
    trust: str | None,
    background: bool | None,
    cri_address: Path | None,
    containerd_address: Path | None,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Serve as a snapshotter of containerd: images with an index start before they are pulled.

    Images without an index are pulled and unpacked by containerd, as with its own snapshotter;
    ctr snapshots info shows why, in the label dev.tocsin/reason. Each mounted image has its own
    process, so the snapshotter can be restarted while containers run. It stays in the foreground
    until SIGTERM or Ctrl-C, and reports to systemd when it is ready. Needs root.

    Options override the configuration file, whose keys are root, address, cache-dir, cache-size,
    trust, background, cri-address, containerd-address, metrics and log-level.

    Examples:
      tocsin snapshotter
      tocsin snapshotter --root /data/tocsin --trust bound

    JSON keys: root, address.
    """
    import logging  # noqa: PLC0415 (not for --help)
    import os  # noqa: PLC0415

    from tocsin.mounting.snapshotter import config as configs  # noqa: PLC0415
    from tocsin.mounting.snapshotter.server import serve  # noqa: PLC0415

    settings = configs.SnapshotterConfig()
    if config is not None or configs.DEFAULT_FILE.exists():
        settings = configs.SnapshotterConfig.read(config or configs.DEFAULT_FILE)
    settings = settings.with_values(
        root=_absolute(root),
        address=_absolute(address),
        cache_dir=_absolute(cache_dir),
        cache_size=cache_size,
        trust=trust,
        background=background,
        cri_address=_absolute(cri_address),
        containerd_address=_absolute(containerd_address),
    )
    image_service = None
    if settings.cri_address is not None:
        image_service = settings.cri_address, settings.containerd_address

    def started(_snapshots: object) -> None:
        from tocsin.cli import streams  # noqa: PLC0415 (seldom needed)

        if output.json:
            output.document({"root": settings.root, "address": settings.address})
        else:
            output.line(f"serving {os.fspath(settings.address)}, snapshots in {settings.root}")
        streams.flush()

    with output.log_shown_at_once(logging.getLevelNamesMapping()[settings.log_level.upper()]):
        serve(
            settings.root,
            settings.address,
            lambda root: _images(root, settings, registry),
            image_service=image_service,
            started=started,
        )


def _images(
    root: Path, settings: SnapshotterConfig, registry: RegistryOptions | None
) -> LazyMounts:
    from tocsin.mounting.image_mounts import ImageMountOptions, ImageMounts  # noqa: PLC0415

    options = ImageMountOptions(
        cache_dir=settings.cache_dir,
        cache_size=settings.cache_size,
        trust=settings.trust,
        registry=registry,
        background=settings.background,
    )
    return ImageMounts(root, options)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
