"""``tocsin snapshotter``."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters
from tocsin.cli.command import command
from tocsin.cli.options import output_options, registry_options
from tocsin.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tocsin.cli.output import Output
    from tocsin.mounting.containerd_version import Version
    from tocsin.mounting.image_mounts import ImageMounts
    from tocsin.mounting.snapshotter.config import SnapshotterConfig
    from tocsin.mounting.snapshotter.snapshots import Snapshots
    from tocsin.stores.registry import RegistryOptions


@command(summary="Run containerd's snapshotter that mounts images lazily.", on_linux_only=True)
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
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Serve Prometheus metrics by HTTP at this address, for anyone who can reach it.",
)
@click.option(
    "--print-config",
    type=click.Choice(["containerd", "nerdctl", "k8s", "systemd"]),
    help="Print the configuration of another program for this snapshotter, and exit.",
)
@click.option(
    "--containerd-version",
    metavar="VERSION",
    type=parameters.containerd_version,
    help="Version of containerd for --print-config, such as 1.7.  [default: the one installed]",
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
    metrics: str | None,
    print_config: str | None,
    containerd_version: Version | None,
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

    --print-config prints what containerd, nerdctl, Kubernetes or systemd need; tocsin doctor
    checks the settings of containerd.

    Examples:
      tocsin snapshotter
      tocsin snapshotter --print-config systemd
      tocsin snapshotter --root /data/tocsin --trust bound

    JSON keys: root, address.
    """
    import logging  # noqa: PLC0415 (not for --help)
    import os  # noqa: PLC0415

    from tocsin.mounting.image_mounts import ImageMountOptions, ImageMounts  # noqa: PLC0415
    from tocsin.mounting.snapshotter.config import SnapshotterConfig  # noqa: PLC0415
    from tocsin.mounting.snapshotter.server import serve  # noqa: PLC0415

    settings = SnapshotterConfig.current(config).with_values(
        root=_absolute(root),
        address=_absolute(address),
        image_service=_absolute(image_service),
        containerd=_absolute(containerd),
        cache_dir=_absolute(cache_dir),
        cache_size=cache_size,
        trust=trust,
        background=background,
        metrics=metrics,
    )
    if print_config is not None:
        click.echo(_config_text(print_config, containerd_version, settings), nl=False)
        return

    def started() -> None:
        from tocsin.cli import streams  # noqa: PLC0415 (seldom needed)

        if output.json:
            output.document({"root": str(settings.root), "address": str(settings.address)})
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
        have_ended = serve(
            settings.root,
            settings.address,
            lambda: ImageMounts(settings.root, options),
            beside=lambda snapshots, images: _beside(snapshots, images, settings),
            started=started,
        )
    if not have_ended:  # for example while a registry does not answer
        os._exit(0)


@contextmanager
def _beside(
    snapshots: Snapshots, images: ImageMounts, settings: SnapshotterConfig
) -> Iterator[None]:
    """Run what the snapshotter does besides serving containerd."""
    from tocsin.mounting.snapshotter.cri import CriImageService  # noqa: PLC0415 (not for --help)

    with ExitStack() as stack:
        stack.callback(images.close)
        if settings.image_service is not None:
            service = CriImageService(settings.image_service, settings.containerd, images)
            stack.callback(service.close)
        if settings.metrics:
            stack.enter_context(_metrics(settings.metrics, snapshots, images))
        yield


def _metrics(
    address: str, snapshots: Snapshots, images: ImageMounts
) -> AbstractContextManager[int]:
    try:
        from tocsin.mounting.snapshotter.metrics import serve_metrics  # noqa: PLC0415 (an extra)
    except ImportError:
        raise UnsupportedError(
            "--metrics: needs prometheus-client, which is not installed",
            hint="Install it with pip install 'tocsin[containerd]'.",
        ) from None
    return serve_metrics(address, snapshots, images)


def _config_text(kind: str, version: Version | None, settings: SnapshotterConfig) -> str:
    import shutil  # noqa: PLC0415 (only for this)
    import sys  # noqa: PLC0415

    from tocsin.mounting.containerd_version import LATEST, installed_version  # noqa: PLC0415
    from tocsin.mounting.snapshotter.configs import config_text  # noqa: PLC0415

    installed = shutil.which("containerd")
    if version is None and installed is not None:
        version = installed_version(Path(installed))
    program = shutil.which("tocsin") or str(Path(sys.argv[0]).absolute())
    return config_text(kind, version=version or LATEST, settings=settings, program=program)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
