"""``tocsin snapshotter``."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.options import output_options, registry_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.cli.output import Output
    from tocsin.mounting.image_mounts import ImageMounts
    from tocsin.mounting.snapshotter.config import SnapshotterConfig
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
    "--image-service",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Socket for the kubelet (--image-service-endpoint): its requests are passed on to"
    " containerd, and its credentials are used for mounts.  [default: none]",
)
@click.option(
    "--containerd",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Socket of containerd, for --image-service.  [default: /run/containerd/containerd.sock]",
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
@registry_options
@output_options
def snapshotter(
    *,
    config: Path | None,
    root: Path | None,
    address: Path | None,
    image_service: Path | None,
    containerd: Path | None,
    cache_dir: Path | None,
    cache_size: int | None,
    trust: str | None,
    background: bool | None,
    registry: RegistryOptions | None,
    output: Output,
) -> None:
    """Serve as a snapshotter of containerd: images with an index start before they are pulled.

    Images without an index are pulled and unpacked by containerd, as with its own snapshotter;
    ctr snapshots info shows why, in the label dev.tocsin/reason. Each mounted image has its own
    process, so the snapshotter can be restarted while containers run. It stays in the foreground
    until SIGTERM or Ctrl-C, and reports to systemd when it is ready. Needs root.

    Options override the configuration file, whose keys are root, address, image-service,
    containerd, cache-dir, cache-size, trust, background, metrics and log-level.

    Examples:
      tocsin snapshotter
      tocsin snapshotter --root /data/tocsin --trust bound

    JSON keys: root, address.
    """
    import logging  # noqa: PLC0415 (not for --help)
    import os  # noqa: PLC0415

    from tocsin.mounting.image_mounts import ImageMountOptions, ImageMounts  # noqa: PLC0415
    from tocsin.mounting.snapshotter import config as configs  # noqa: PLC0415
    from tocsin.mounting.snapshotter.server import serve  # noqa: PLC0415

    settings = configs.SnapshotterConfig()
    if config is not None or configs.DEFAULT_FILE.exists():
        settings = configs.SnapshotterConfig.read(config or configs.DEFAULT_FILE)
    settings = settings.with_values(
        root=_absolute(root),
        address=_absolute(address),
        image_service=_absolute(image_service),
        containerd=_absolute(containerd),
        cache_dir=_absolute(cache_dir),
        cache_size=cache_size,
        trust=trust,
        background=background,
    )

    def started() -> None:
        from tocsin.cli import streams  # noqa: PLC0415 (seldom needed)

        if output.json:
            output.document({"root": settings.root, "address": settings.address})
        else:
            output.line(f"serving {os.fspath(settings.address)}, snapshots in {settings.root}")
        streams.flush()

    options = ImageMountOptions(
        cache_dir=settings.cache_dir,
        cache_size=settings.cache_size,
        trust=settings.trust,
        registry=registry,
        background=settings.background,
    )
    with output.log_shown_at_once(logging.getLevelNamesMapping()[settings.log_level.upper()]):
        serve(
            settings.root,
            settings.address,
            lambda: ImageMounts(settings.root, options),
            beside=lambda images: _beside(images, settings),
            started=started,
        )


@contextmanager
def _beside(images: ImageMounts, settings: SnapshotterConfig) -> Iterator[None]:
    """Run what the snapshotter does besides serving containerd."""
    from tocsin.mounting.snapshotter.cri import CriImageService  # noqa: PLC0415 (not for --help)

    with ExitStack() as stack:
        stack.callback(images.close)
        if settings.image_service is not None:
            service = CriImageService(settings.image_service, settings.containerd, images)
            stack.callback(service.close)
        yield


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
