"""``tocsin mount``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.image_files import LayerProgress
from tocsin.cli.mount_options import CommandReport, index_words, mount_options
from tocsin.cli.options import output_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.output import Output
    from tocsin.model.reference import Reference
    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.reports import Ready


@command(summary="Mount an image without downloading it first.", on_linux_only=True)
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--front",
    type=click.Choice(["auto", "fuse", "erofs"]),
    default="auto",
    show_default=True,
    help="What the kernel mounts; auto is EROFS where it can be used.",
)
@click.option("--allow-other", is_flag=True, help="Let other users use the mount.")
@click.option(
    "--foreground",
    is_flag=True,
    help="Stay until the mount is unmounted, instead of leaving it to another process.",
)
@mount_options
@output_options
def mount(
    *,
    image: Reference,
    directory: Path,
    front: str,
    allow_other: bool,
    foreground: bool,
    options_for: Callable[..., MountOptions],
    log: Path | None,
    output: Output,
) -> None:
    """Mount the file system of IMAGE in the empty directory DIR, read-only.

    Files are fetched when they are read, and the whole image is loaded in the background. Once it
    is complete, the registry is no longer needed, and the next mount fetches nothing. Everything is
    verified; which indexes are used is described in tocsin cat --help. Layers without an index are
    read in full before the mount is ready, and kept in the cache. What an access log lists is
    loaded first; tocsin record makes one.

    The mount has its own process. tocsin umount DIR ends it, tocsin status DIR shows what it
    does. Only this user can use the mount, unless --allow-other is given; set-user-ID bits and
    devices have no effect. A read that waits longer than --read-timeout fails with an input/output
    error, and the next read tries again.

    The kernel's EROFS is faster than FUSE. It needs Linux 6.12, root, and either --allow-other or a
    DIR that other users cannot reach, since it does not keep them out. --record and some sparse
    files need FUSE.

    With --foreground, the command stays until the mount is unmounted, or until SIGTERM or Ctrl-C;
    it reports to systemd when the mount is ready.

    Examples:
      tocsin mount ghcr.io/team/app:1 /mnt
      tocsin mount --record app.log ghcr.io/team/app:1 /mnt
      tocsin mount --access-log app.log ghcr.io/team/app:1 /mnt

    JSON keys: directory, image, manifest, platform, index, files, size, pid, seconds, notes[].
    """
    from tocsin.mounting import mount_points, process  # noqa: PLC0415 (not for --help)

    options = options_for(image, allow_other=allow_other, front=front)
    path = mount_points.absolute(directory)
    if foreground:
        process.prepare(options, path)
        process.serve(options, path, _ForegroundReport(output))
        return
    report = CommandReport(output)
    shown = LayerProgress(output)
    try:
        with shown:
            ready = process.fork(options, path, report, progress=shown, log=log)
    finally:
        report.show()
    _write(ready, report.notes, output)


class _ForegroundReport(CommandReport):
    """Prints what this process reports, and at once, since it stays."""

    def note(self, text: str) -> None:
        super().note(text)
        self._output.warn(text)

    def ready(self, ready: Ready) -> None:
        from tocsin.cli import streams  # noqa: PLC0415 (seldom needed)

        _write(ready, self.notes, self._output)
        streams.flush()


def _write(ready: Ready, notes: list[str], output: Output) -> None:
    if output.json:
        output.document(
            {
                "directory": ready.directory,
                "image": ready.image,
                "manifest": ready.manifest,
                "platform": ready.platform or None,
                "index": ready.index,
                "files": ready.files,
                "size": ready.size,
                "pid": ready.pid,
                "seconds": round(ready.seconds, 3),
                "notes": list(dict.fromkeys(notes)),
            }
        )
        return
    output.line(
        words.printable(
            f"{ready.directory}: {ready.image}, {index_words(ready.index)}, "
            f"{words.count(ready.files, 'file')}, {words.size(ready.size)}"
        )
    )
